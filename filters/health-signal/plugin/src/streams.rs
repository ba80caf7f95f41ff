//! The leader's streams of load reports out of band, one to each endpoint.
//!
//! Nothing is opened from a callback of a stream: the SDK's list of streams is borrowed there.

use crate::leader::Leader;
use crate::shared::{Shared, Watched};
use health_signal_core::oob::{self, MAX_MESSAGE_BYTES, METHOD, SERVICE};
use health_signal_core::{ClusterHealth, POLL_HEADER, SERVED_HEADER, orca};
use plugin_kit::headers::{self, Map};
use plugin_kit::{Draws, grpc};
use shared_state::{Endpoint, UnixNanos};

/// Streams that are opened in one tick.
const MAX_OPENED: usize = 32;

/// Opens the streams that are due, and ends those that are dead.
pub(crate) fn tend(
    shared: &Shared,
    cluster: &Watched,
    table: &mut ClusterHealth,
    draws: &mut Draws,
    now: UnixNanos,
) {
    let Some(period) = cluster.config.orca.oob_reporting_period else { return };
    let name = &cluster.name;
    for token in table.dead_streams(now, &mut || draws.next_u64()) {
        grpc::cancel(token);
        shared.metrics.stream(name, "given_up");
    }
    for endpoint in table.streams_due(MAX_OPENED, now) {
        let target = endpoint.to_string();
        let steering = (cluster.config.steering_header.as_str(), target.as_str());
        let metadata = [steering, (POLL_HEADER, "orca")];
        let opened = grpc::open_stream(name, SERVICE, METHOD, &metadata).ok();
        // One message and its end: most servers begin when they have heard all there is.
        let asked = opened.filter(|token| grpc::send(*token, &oob::request(period), true));
        shared.metrics.stream(name, if asked.is_some() { "opened" } else { "refused" });
        table.stream_opened(endpoint, asked, now, draws.next_u64());
    }
}

/// Ends all streams.
pub(crate) fn end(table: &ClusterHealth) {
    table.streams().into_iter().for_each(grpc::cancel);
}

impl Leader {
    /// The endpoint of the stream `token`, if it is one of this cluster's.
    pub(crate) fn stream_endpoint(&self, token: u32) -> Option<Endpoint> {
        self.table.as_ref()?.stream_endpoint(token)
    }

    /// The answer to a stream begins. Another endpoint may not speak for the one asked.
    pub(crate) fn stream_began(&mut self, shared: &Shared, token: u32, draw: u64, now: UnixNanos) {
        let Some(endpoint) = self.stream_endpoint(token) else { return };
        let served = headers::get(Map::GrpcInitialMetadata, SERVED_HEADER);
        if served.is_some_and(|served| served.parse() != Ok(endpoint)) {
            self.break_stream(shared, (token, endpoint), "misattributed", draw, now);
        }
    }

    /// A message came on a stream.
    pub(crate) fn stream_said(
        &mut self,
        shared: &Shared,
        (token, size): (u32, usize),
        draw: u64,
        now: UnixNanos,
    ) {
        let Some(endpoint) = self.stream_endpoint(token) else { return };
        if size > MAX_MESSAGE_BYTES {
            return self.break_stream(shared, (token, endpoint), "too_large", draw, now);
        }
        let message = grpc::message(MAX_MESSAGE_BYTES);
        match orca::parse_message(&message, self.cluster.config.orca.strict, now) {
            Ok(accepted) => {
                shared.metrics.orca_accepted.add(1);
                if let Some(table) = &mut self.table {
                    table.stream_said(endpoint, accepted.report, now);
                }
            }
            Err(_) => shared.metrics.orca_rejected.add(1),
        }
    }

    /// A stream is over.
    pub(crate) fn stream_closed(
        &mut self,
        shared: &Shared,
        (token, status): (u32, u32),
        draw: u64,
        now: UnixNanos,
    ) {
        let Some(endpoint) = self.stream_endpoint(token) else { return };
        let Some(table) = &mut self.table else { return };
        let for_good = table.stream_ended(endpoint, Some(status), now, draw);
        if for_good {
            let name = &self.cluster.name;
            log::info!("endpoint {endpoint} of cluster {name} does not report out of band");
        }
        let outcome = if for_good { "unimplemented" } else { "closed" };
        shared.metrics.stream(&self.cluster.name, outcome);
    }

    fn break_stream(
        &mut self,
        shared: &Shared,
        (token, endpoint): (u32, Endpoint),
        outcome: &str,
        draw: u64,
        now: UnixNanos,
    ) {
        grpc::cancel(token);
        shared.metrics.stream(&self.cluster.name, outcome);
        if let Some(table) = &mut self.table {
            table.stream_ended(endpoint, None, now, draw);
        }
    }
}
