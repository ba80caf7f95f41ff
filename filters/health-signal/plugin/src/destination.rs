//! Where a request went, by one hostcall.

use health_signal_core::POLL_HEADER;
use health_signal_core::config::Position;
use plugin_kit::headers::{self, Map};
use plugin_kit::{Expression, property};
use shared_state::Endpoint;

/// The endpoint of an attempt, and the cluster it is of.
pub(crate) struct Destination {
    pub(crate) endpoint: Endpoint,
    pub(crate) cluster: String,
    /// Upstream: a poll. Downstream: there were attempts before this one.
    pub(crate) is_marked: bool,
}

/// Finds out.
pub(crate) struct Compass {
    position: Position,
    expression: Expression,
}

/// Stands before what is marked.
const MARK: char = '+';

impl Compass {
    pub(crate) fn new(position: Position) -> Self {
        let marked = match position {
            Position::Upstream => {
                format!("!has(connection.id) && '{POLL_HEADER}' in request.headers")
            }
            Position::Downstream => "upstream.request_attempt_count > 1u".to_owned(),
        };
        let text =
            format!("({marked} ? '{MARK}' : '') + upstream.address + ' ' + xds.cluster_name");
        Self { position, expression: Expression::new(&text) }
    }

    /// `None` if there was no attempt, or its endpoint has no `ip:port`.
    pub(crate) fn destination(&self) -> Option<Destination> {
        if !self.expression.is_usable() {
            return self.one_by_one();
        }
        let text = self.expression.text()?;
        let rest = text.strip_prefix(MARK);
        let (address, cluster) = rest.unwrap_or(&text).split_once(' ')?;
        let endpoint = address.parse().ok()?;
        let cluster = Some(cluster).filter(|name| !name.is_empty())?.to_owned();
        Some(Destination { endpoint, cluster, is_marked: rest.is_some() })
    }

    /// The same on a host without expressions.
    fn one_by_one(&self) -> Option<Destination> {
        let endpoint = property::upstream_address()?;
        let cluster = property::cluster_name()?;
        let is_marked = match self.position {
            Position::Upstream => {
                headers::get(Map::Request, POLL_HEADER).is_some() && !property::has_connection()
            }
            Position::Downstream => property::attempt_count() > 1,
        };
        Some(Destination { endpoint, cluster, is_marked })
    }
}
