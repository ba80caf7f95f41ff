//! The upstream instance's stream: one attempt at one endpoint.
//!
//! Envoy never calls `on_log` here; every attempt ends with `on_done`, answered or not. What tells
//! the ends apart was measured on Envoy 1.40: a refused connection leaves a transport failure
//! reason; a client that left leaves its flag, because this stream's `response.flags` are the
//! request's; a timeout of the attempt and a reset leave nothing but an answer that has no end.

use crate::destination::Destination;
use crate::shared::{Shared, Watched};
use core::time::Duration;
use health_signal_core::{Attempt, Outcome, SERVED_HEADER};
use plugin_kit::headers::{self, Map};
use plugin_kit::property;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use shared_state::{Endpoint, UnixNanos};
use std::rc::Rc;

pub(crate) struct AttemptContext {
    shared: Rc<Shared>,
    tried: Option<Tried>,
}

struct Tried {
    cluster: Rc<Watched>,
    endpoint: Endpoint,
    /// `None` if it is not measured how long it takes.
    began_at: Option<UnixNanos>,
    /// How long the answer took, and when it came.
    took: Option<(Duration, UnixNanos)>,
    /// The answer has come to its end.
    is_whole: bool,
    attempt: Attempt,
    /// A poll of ours is judged by whoever sent it.
    is_poll: bool,
}

impl AttemptContext {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared, tried: None }
    }

    fn begin(&self) -> Option<Tried> {
        let destination = self.shared.destination()?;
        let Destination { endpoint, is_marked: is_poll, was_looked_up, .. } = destination;
        let cluster = self.shared.watch(&destination.cluster)?;
        let mut began_at = None;
        if !is_poll {
            let coarse = self.shared.ticked_at();
            let is_measured = cluster.observing(|observer| {
                observer.sighted(endpoint, coarse);
                observer.began(endpoint, coarse, was_looked_up)
            });
            began_at = is_measured.then(plugin_kit::now);
        }
        Some(Tried {
            cluster,
            endpoint,
            began_at,
            took: None,
            is_whole: false,
            attempt: Attempt::default(),
            is_poll,
        })
    }
}

impl Tried {
    fn answered(&mut self, end_of_stream: bool, shared: &Shared) {
        // Who asked for a poll must know who answers. Of other responses, one in a while tells that
        // there is an upstream instance at all.
        let vouches = self.is_poll || self.cluster.is_to_vouch(shared.ticked_at());
        if vouches && shared.enforces() {
            headers::set(Map::Response, SERVED_HEADER, &self.endpoint.to_string());
        }
        if self.is_poll {
            return;
        }
        if let Some(began_at) = self.began_at {
            let now = plugin_kit::now();
            self.took = Some((now.since(began_at), now));
        }
        self.is_whole = end_of_stream;
        // A gRPC error without a message is all in the headers.
        let [status, grpc] = if end_of_stream {
            headers::several(Map::Response, [":status", "grpc-status"])
        } else {
            [headers::get(Map::Response, ":status"), None]
        };
        self.attempt.status = status.and_then(|status| status.parse().ok());
        self.attempt.grpc_status = grpc.and_then(|code| code.parse().ok());
    }

    /// What the attempt says, once, when it is over.
    fn conclude(self, shared: &Shared) {
        if self.is_poll {
            return;
        }
        let Self { cluster, endpoint, .. } = &self;
        let mut attempt = self.attempt;
        if !self.is_whole {
            attempt.flags = property::response_flags();
            attempt.transport_failed = property::upstream_failure_reason().is_some();
            attempt.cut_off = property::bytes("upstream\0cx_pool_ready_duration").is_some();
            // The VM of a filter downstream died, and with it the requests in its hands.
            attempt.answered_in_stead = attempt.cut_off
                && property::response_code_details().as_deref() == Some(property::VM_DIED);
        }
        let outcome = attempt.outcome(&cluster.config.passive.failure_statuses);
        // A failure is told at once, and must be younger than the successes before it.
        let now = if outcome == Outcome::Success {
            self.took.map_or(shared.ticked_at(), |(_, at)| at)
        } else {
            plugin_kit::now()
        };
        let tau = cluster.config.smoothing.latency;
        let waited = self.began_at.filter(|_| attempt.was_abandoned());
        let waited = waited.map(|began_at| now.since(began_at));
        cluster.observing(|observer| {
            observer.ended(*endpoint, now);
            match (outcome, self.took, waited) {
                (Outcome::Success, Some((took, at)), _) => {
                    observer.latency(*endpoint, took, tau, at);
                }
                (_, _, Some(waited)) => observer.waited(*endpoint, waited, tau, now),
                _ => {}
            }
        });
        shared.observe(cluster, *endpoint, outcome, now);
    }
}

impl Context for AttemptContext {
    fn on_done(&mut self) -> bool {
        if let Some(tried) = self.tried.take() {
            tried.conclude(&self.shared);
        }
        true
    }
}

impl HttpContext for AttemptContext {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        if self.shared.is_on() {
            self.tried = self.begin();
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        if let Some(tried) = &mut self.tried {
            tried.answered(end_of_stream, &self.shared);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, _body_size: usize, end_of_stream: bool) -> Action {
        if let Some(tried) = &mut self.tried {
            tried.is_whole = end_of_stream;
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        if let Some(tried) = &mut self.tried {
            tried.is_whole = true;
            let code = headers::get(Map::ResponseTrailers, "grpc-status");
            tried.attempt.grpc_status = code.and_then(|code| code.parse().ok());
        }
        Action::Continue
    }
}
