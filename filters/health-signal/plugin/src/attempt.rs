//! The upstream instance's stream: one attempt at one endpoint.
//!
//! Envoy never calls `on_log` here; every attempt ends with `on_done`, answered or not. What tells
//! the ends apart was measured on Envoy 1.40: a refused connection leaves a transport failure
//! reason; a client that left leaves its flag, because this stream's `response.flags` are the
//! request's; a timeout of the attempt and a reset leave nothing but an answer that has no end.

use crate::shared::{Shared, Watched};
use core::time::Duration;
use health_signal_core::{Attempt, Outcome, SERVED_HEADER, oob};
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
        let endpoint = property::upstream_address()?;
        let cluster = self.shared.own_cluster()?;
        let config = &cluster.config;
        let is_streamed = config.orca.oob_reporting_period.is_some();
        let is_poll = (is_streamed || !config.active.is_empty())
            && headers::get(Map::Request, ":path").is_some_and(|path| {
                let polled = config.active.iter().any(|active| active.path == path);
                polled || (is_streamed && path == oob::PATH)
            });
        let mut began_at = None;
        if !is_poll {
            let coarse = self.shared.ticked_at();
            let is_measured = cluster.observing(|observer| {
                observer.sighted(endpoint, coarse);
                observer.began(endpoint, coarse)
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
        // Who asked for a poll must know who answers. An instance that was not told of the polls
        // cannot know one, and names itself always; else, of other responses, one in a while tells
        // that there is an upstream instance at all.
        let is_told = !self.cluster.config.active.is_empty();
        let vouches = self.is_poll || !is_told || self.cluster.is_to_vouch(shared.ticked_at());
        if vouches && shared.enforces() {
            headers::set(Map::Response, SERVED_HEADER, &self.endpoint.to_string());
        }
        if self.is_poll {
            return;
        }
        let code = |name| headers::get(Map::Response, name);
        if let Some(began_at) = self.began_at {
            let now = plugin_kit::now();
            self.took = Some((now.since(began_at), now));
        }
        self.is_whole = end_of_stream;
        self.attempt.status = code(":status").and_then(|status| status.parse().ok());
        if end_of_stream {
            self.attempt.grpc_status = code("grpc-status").and_then(|code| code.parse().ok());
        }
    }

    /// What the attempt says, once, when it is over.
    fn conclude(self, shared: &Shared) {
        if self.is_poll {
            return;
        }
        let Self { cluster, endpoint, .. } = &self;
        let mut attempt = self.attempt;
        if !self.is_whole {
            let pooled = ["upstream", "cx_pool_ready_duration"];
            attempt.flags = property::response_flags();
            attempt.transport_failed = property::upstream_failure_reason().is_some();
            attempt.cut_off = property::bytes(&pooled).is_some();
        }
        let outcome = attempt.outcome(&cluster.config.passive.failure_statuses);
        // A failure is told at once, and must be younger than the successes before it.
        let now = if outcome == Outcome::Success {
            self.took.map_or(shared.ticked_at(), |(_, at)| at)
        } else {
            plugin_kit::now()
        };
        cluster.observing(|observer| {
            observer.ended(*endpoint, now);
            if let (Outcome::Success, Some((took, at))) = (outcome, self.took) {
                let tau = cluster.config.smoothing.latency;
                observer.latency(*endpoint, took, tau, at);
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
