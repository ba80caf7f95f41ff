//! The downstream instance's stream: one request, as the client sees it.

use crate::destination::Destination;
use crate::shared::{Shared, Watched};
use core::time::Duration;
use health_signal_core::orca::{self, BINARY_HEADER, HEADER};
use health_signal_core::{Agent, Attempt, Outcome, SERVED_HEADER};
use plugin_kit::headers::{self, Map};
use plugin_kit::property;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use shared_state::{Endpoint, ReportedResponse, UnixNanos};
use std::rc::Rc;

pub(crate) struct Stream {
    shared: Rc<Shared>,
    served: Option<Served>,
}

/// The endpoint of the last attempt, and what it answered.
struct Served {
    cluster: Rc<Watched>,
    endpoint: Endpoint,
    answered_at: UnixNanos,
    /// How long it took, if that is measured.
    took: Option<Duration>,
    attempt: Attempt,
    /// The upstream instance counts this attempt.
    counted: bool,
    /// The endpoint sent it, and not the proxy in its stead.
    is_proxied: bool,
    /// The response has come to its end.
    is_whole: bool,
    rejected: Option<&'static str>,
}

impl Stream {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared, served: None }
    }

    /// The response as the host hands it over. `None` if no endpoint sent it, or none that is
    /// watched. The clock is read only where somebody needs to know better than by a tick.
    fn served(&self, end_of_stream: bool) -> Option<Served> {
        let is_counted = self.shared.is_all_counted();
        let (destination, said) = self.shared.compass.answer(is_counted)?;
        let [named, status, grpc, binary, formatted, proxied] = said;
        let Destination { endpoint, cluster, is_marked: was_retried, .. } = destination;
        let cluster = self.shared.watch(&cluster)?;
        let coarse = self.shared.ticked_at();
        // After a retry the time went to several endpoints.
        let is_measured = !is_counted
            && !was_retried
            && !cluster.has_upstream_instance(coarse)
            && cluster.observing(|observer| observer.is_to_measure(endpoint, coarse));
        let now = if is_measured { plugin_kit::now() } else { coarse };
        cluster.used(now);
        if let Some(named) = &named {
            if named.parse() == Ok(endpoint) {
                cluster.named(now);
            }
            if self.shared.enforces() {
                headers::remove(Map::Response, SERVED_HEADER);
            }
        }
        let attempt = Attempt {
            status: status.and_then(|status| status.parse().ok()),
            // A gRPC error without a message is all in the headers.
            grpc_status: grpc.filter(|_| end_of_stream).and_then(|code| code.parse().ok()),
            ..Attempt::default()
        };
        let agent_header = cluster.config.agent_header.as_deref();
        let agent = agent_header.and_then(|name| headers::get(Map::Response, name));
        let counted = cluster.has_upstream_instance(now);
        let began_at = is_measured.then(property::request_time).flatten();
        let mut served = Served {
            cluster,
            endpoint,
            answered_at: now,
            took: began_at.map(|began_at| now.since(began_at)),
            attempt,
            counted,
            is_proxied: proxied.is_some(),
            is_whole: end_of_stream,
            rejected: None,
        };
        served.take_report(&self.shared, Map::Response, (binary, formatted), now);
        served.take_agent(&self.shared, agent, now);
        Some(served)
    }
}

impl Stream {
    /// No response came. If that is because the client left, it had waited for an endpoint; unless
    /// that was seen upstream, it is told here.
    fn abandoned(&self) {
        let attempt = Attempt { flags: property::response_flags(), ..Attempt::default() };
        let destination = attempt.was_abandoned().then(|| self.shared.destination()).flatten();
        let Some(Destination { endpoint, cluster, is_marked: false, .. }) = destination else {
            return;
        };
        let Some(cluster) = self.shared.watch(&cluster) else { return };
        let now = plugin_kit::now();
        let Some(began_at) = property::request_time() else { return };
        if !cluster.has_upstream_instance(now) {
            let (waited, tau) = (now.since(began_at), cluster.config.smoothing.latency);
            cluster.observing(|observer| observer.waited(endpoint, waited, tau, now));
        }
    }
}

impl Served {
    /// Takes the load report in these headers of `map`, if there is one.
    fn take_report(
        &mut self,
        shared: &Shared,
        map: Map,
        (binary, formatted): (Option<String>, Option<String>),
        now: UnixNanos,
    ) {
        let config = &self.cluster.config.orca;
        if !config.enabled {
            return;
        }
        let parse = |binary: &Option<String>, formatted: &Option<String>| {
            orca::parse(binary.as_deref(), formatted.as_deref(), config.strict, now)
        };
        let mut report = parse(&binary, &formatted);
        if let (Some(Err(_)), Map::Response) = (&report, map) {
            // A header that is there twice was read as one; the first of them counts.
            let first = |name| headers::get(map, name);
            report = parse(&first(BINARY_HEADER), &first(HEADER));
        }
        match report {
            None => return,
            Some(Ok(accepted)) => {
                shared.count_report();
                if accepted.ignored > 0 {
                    shared.metrics.orca_ignored.add(accepted.ignored.into());
                }
                let report = accepted.report;
                // metric-router picks by it before the leader's record is written.
                let status = self.attempt.status.filter(|_| map == Map::Response);
                let report = match status {
                    Some(status) => {
                        let endpoint = self.endpoint;
                        let reported = ReportedResponse { endpoint, status, report };
                        property::set_load_report(&reported);
                        reported.report
                    }
                    None => report,
                };
                self.cluster.observing(|observer| observer.load_report(self.endpoint, report, now));
            }
            Some(Err(refusal)) => {
                shared.metrics.orca_rejected.add(1);
                self.rejected = Some(refusal.name());
            }
        }
        if shared.enforces() && config.strip_response_header {
            if binary.is_some() {
                headers::remove(map, BINARY_HEADER);
            }
            if formatted.is_some() {
                headers::remove(map, HEADER);
            }
        }
    }

    /// Takes what the endpoint's agent says in the response, if it may.
    fn take_agent(&self, shared: &Shared, line: Option<String>, now: UnixNanos) {
        let (Some(name), Some(line)) = (&self.cluster.config.agent_header, line) else { return };
        match Agent::read(line.as_bytes()) {
            Some(agent) => {
                self.cluster.observing(|observer| observer.agent(self.endpoint, &agent, now));
            }
            None => shared.degraded.note("bad_agent_header", format_args!("{}", self.endpoint)),
        }
        if shared.enforces() {
            headers::remove(Map::Response, name);
        }
    }

    /// What the attempt says, once, when it is over.
    fn conclude(&self, shared: &Shared) {
        let Self { cluster, endpoint, answered_at, .. } = self;
        // What came whole from an endpoint has no flags that say anything of it.
        let is_told = self.is_proxied && self.is_whole;
        let flags = if is_told { 0 } else { property::response_flags() };
        let failures = &cluster.config.passive.failure_statuses;
        let mut attempt = Attempt { flags, ..self.attempt };
        let mut outcome = attempt.outcome(failures);
        if outcome.failure().is_some() && !self.is_proxied {
            let details = property::response_code_details();
            attempt.answered_in_stead =
                details.is_some_and(|details| details != property::VIA_UPSTREAM);
            outcome = attempt.outcome(failures);
        }
        cluster.observing(|observer| observer.sighted(*endpoint, *answered_at));
        let mut failed = outcome.failure();
        if !self.counted {
            if let (Some(took), Outcome::Success) = (self.took, outcome) {
                let tau = cluster.config.smoothing.latency;
                cluster.observing(|observer| observer.latency(*endpoint, took, tau, *answered_at));
            }
            // A failure is told at once, and must be younger than the successes before it.
            let now = if outcome.failure().is_some() { plugin_kit::now() } else { *answered_at };
            failed = shared.observe(cluster, *endpoint, outcome, now);
        }
        let note = match (failed, self.rejected) {
            (Some(kind), _) => format!("{endpoint} failed={}", kind.name()),
            (None, Some(reason)) => format!("{endpoint} orca_rejected={reason}"),
            (None, None) => return,
        };
        plugin_kit::set_filter_state("weir.health_signal", &note);
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_response_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        if self.shared.is_on() {
            self.served = self.served(end_of_stream);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, _body_size: usize, end_of_stream: bool) -> Action {
        if let Some(served) = &mut self.served {
            served.is_whole = end_of_stream;
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        if let Some(served) = &mut self.served {
            served.is_whole = true;
            let [code, binary, formatted] =
                headers::several(Map::ResponseTrailers, ["grpc-status", BINARY_HEADER, HEADER]);
            served.attempt.grpc_status = code.and_then(|code| code.parse().ok());
            let now = plugin_kit::now();
            served.take_report(&self.shared, Map::ResponseTrailers, (binary, formatted), now);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        match self.served.take() {
            Some(served) => served.conclude(&self.shared),
            None if self.shared.is_on() && !self.shared.is_all_counted() => self.abandoned(),
            None => {}
        }
    }
}
