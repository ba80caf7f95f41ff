//! Where a request went, and what was answered, by as few hostcalls and as little work as may be.
//!
//! Each attribute and each header is a hostcall of its own, and a map of headers is one more. One
//! expression puts all of them together; but to evaluate it takes Envoy as long as five or ten of
//! them. So it is asked where requests are few or much is to be known: an endpoint's cluster, once
//! between two ticks, and whatever a downstream instance must know that counts attempts itself.
//! Otherwise the address is read, and the rest by a second hostcall.
//!
//! Whether the host can evaluate expressions is known by its answers: where the attributes are there
//! one by one, and the expression gives nothing, it is not asked again.

use core::cell::{Cell, RefCell};
use health_signal_core::config::Position;
use health_signal_core::orca::{BINARY_HEADER, HEADER};
use health_signal_core::{Directory, POLL_HEADER, PROXIED_HEADER, SERVED_HEADER};
use plugin_kit::headers::{self, Map};
use plugin_kit::{Expression, property};
use shared_state::Endpoint;
use std::rc::Rc;

/// The endpoint of an attempt, and the cluster it is of.
pub(crate) struct Destination {
    pub(crate) endpoint: Endpoint,
    pub(crate) cluster: Rc<str>,
    /// Upstream: a poll. Downstream: there were attempts before this one; not known, and false, where
    /// the caller has no use for it.
    pub(crate) is_marked: bool,
    /// Its address was read by itself, and what else there is to know by another hostcall.
    pub(crate) was_looked_up: bool,
}

/// Headers of a response that are read of every one.
const HEADERS: [&str; 6] =
    [SERVED_HEADER, ":status", "grpc-status", BINARY_HEADER, HEADER, PROXIED_HEADER];

/// What they say, in this order.
pub(crate) type Said = [Option<String>; HEADERS.len()];

/// Finds out.
pub(crate) struct Compass {
    position: Position,
    destination: Expression,
    answer: Expression,
    is_usable: Cell<bool>,
    directory: RefCell<Directory>,
}

/// Stands before what is marked.
const MARK: char = '+';

/// Stands before each header that is there, even if it is empty. No value has it, nor has a name.
const LINE: char = '\n';

impl Compass {
    pub(crate) fn new(position: Position) -> Self {
        let marked = match position {
            Position::Upstream => {
                format!("!has(connection.id) && '{POLL_HEADER}' in request.headers")
            }
            Position::Downstream => "upstream.request_attempt_count > 1u".to_owned(),
        };
        let mut text =
            format!("({marked} ? '{MARK}' : '') + upstream.address + ' ' + xds.cluster_name");
        let destination = Expression::new(&text);
        let mut is_usable = destination.is_usable();
        let mut answer = Expression::default();
        if is_usable && position == Position::Downstream {
            for (at, name) in HEADERS.iter().enumerate() {
                let header = format!("response.headers['{name}']");
                text += &format!(" + ('{name}' in response.headers ? '\\n{at}' + {header} : '')");
            }
            answer = Expression::new(&text);
            is_usable = answer.is_usable();
        }
        Self {
            position,
            destination,
            answer,
            is_usable: Cell::new(is_usable),
            directory: RefCell::default(),
        }
    }

    /// A tick: the clusters of endpoints are asked for again.
    pub(crate) fn tick(&self) {
        if let Ok(mut directory) = self.directory.try_borrow_mut() {
            directory.tick();
        }
    }

    /// `None` if there was no attempt, or its endpoint has no `ip:port`.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let was_looked_up = self.position == Position::Upstream && self.is_worth_a_look();
        if was_looked_up {
            let endpoint = property::upstream_address()?;
            if let Some(cluster) = self.cluster_of(endpoint) {
                let is_marked = self.is_marked();
                return Some(Destination { endpoint, cluster, is_marked, was_looked_up });
            }
        }
        let destination = match self.text(&self.destination) {
            Some(text) => self.read(&text),
            None => self.one_by_one(),
        };
        Some(Destination { was_looked_up, ..destination? })
    }

    /// The same and the response's headers, in its callback, of a downstream instance. `is_counted`:
    /// upstream instances count all attempts, and it does not matter how many this request took.
    pub(crate) fn answer(&self, is_counted: bool) -> Option<(Destination, Said)> {
        if is_counted && self.is_worth_a_look() {
            let endpoint = property::upstream_address()?;
            if let Some(cluster) = self.cluster_of(endpoint) {
                let destination =
                    Destination { endpoint, cluster, is_marked: false, was_looked_up: true };
                return Some((destination, headers::several(Map::Response, HEADERS)));
            }
        }
        let Some(text) = self.text(&self.answer) else {
            let destination = self.one_by_one()?;
            return Some((destination, headers::several(Map::Response, HEADERS)));
        };
        let mut lines = text.split(LINE);
        let destination = self.read(lines.next()?)?;
        let mut said = Said::default();
        for line in lines {
            let (at, value) = line.split_at_checked(1)?;
            if let Some(place) = at.parse().ok().and_then(|at: usize| said.get_mut(at)) {
                *place = Some(value.to_owned());
            }
        }
        Some((destination, said))
    }

    fn text(&self, expression: &Expression) -> Option<String> {
        if self.is_usable.get() { expression.text() } else { None }
    }

    /// The same on a host without expressions. Where one has given nothing there most probably was no
    /// attempt, which costs a hostcall to know.
    fn one_by_one(&self) -> Option<Destination> {
        let endpoint = property::upstream_address()?;
        let cluster = property::cluster_name()?;
        self.is_usable.set(false);
        let cluster = self.told(endpoint, &cluster);
        Some(Destination { endpoint, cluster, is_marked: self.is_marked(), was_looked_up: true })
    }

    fn is_marked(&self) -> bool {
        match self.position {
            Position::Upstream => {
                headers::get(Map::Request, POLL_HEADER).is_some() && !property::has_connection()
            }
            Position::Downstream => property::attempt_count() > 1,
        }
    }

    fn read(&self, text: &str) -> Option<Destination> {
        let rest = text.strip_prefix(MARK);
        let (address, cluster) = rest.unwrap_or(text).split_once(' ')?;
        let endpoint = address.parse().ok()?;
        let cluster = self.told(endpoint, Some(cluster).filter(|name| !name.is_empty())?);
        Some(Destination { endpoint, cluster, is_marked: rest.is_some(), was_looked_up: false })
    }

    fn is_worth_a_look(&self) -> bool {
        self.directory.try_borrow_mut().is_ok_and(|mut directory| directory.is_worth_a_look())
    }

    fn cluster_of(&self, endpoint: Endpoint) -> Option<Rc<str>> {
        self.directory.try_borrow().ok()?.cluster_of(endpoint)
    }

    fn told(&self, endpoint: Endpoint, cluster: &str) -> Rc<str> {
        let directory = self.directory.try_borrow_mut();
        directory.map_or_else(|_| cluster.into(), |mut it| it.told(endpoint, cluster))
    }
}
