//! The stream context: the core's decision on the way in, and its end in `on_log`.

use crate::root::Worker;
use circuit_breaker_core::{
    Decision, Ended, Ending, Exchange, GuardScope, Incoming, Mode, Steering, Subject, grpc,
    retry_after_secs,
};
use core::time::Duration;
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, Reply, property};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;

/// `response.code_details` of a response that the endpoint sent.
const VIA_UPSTREAM: &str = "via_upstream";

pub(crate) struct Stream {
    worker: Option<Rc<Worker>>,
    exchange: Option<Exchange>,
    /// The response had trailers or no body, as every gRPC response: only then is there a status
    /// to ask the host for.
    may_be_grpc: bool,
}

impl Stream {
    pub(crate) fn new(worker: Option<Rc<Worker>>) -> Self {
        Self { worker, exchange: None, may_be_grpc: false }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(worker) = &self.worker else { return Action::Continue };
        let (exchange, action) = begin(worker);
        self.exchange = exchange;
        action
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.may_be_grpc |= end_of_stream;
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.may_be_grpc = true;
        Action::Continue
    }

    fn on_log(&mut self) {
        if let (Some(worker), Some(exchange)) = (&self.worker, self.exchange.take()) {
            end(worker, exchange, self.may_be_grpc);
        }
    }
}

fn begin(worker: &Worker) -> (Option<Exchange>, Action) {
    let passes = (None, Action::Continue);
    let (Ok(mut filter), Ok(mut draws)) =
        (worker.filter.try_borrow_mut(), worker.draws.try_borrow_mut())
    else {
        return passes;
    };
    let Some(cluster) = property::cluster_name() else {
        worker.report.no_cluster();
        return passes;
    };
    let route = if worker.guards_routes { property::route_name() } else { None };
    let header = worker.steering_header.as_deref();
    let destinations = header.and_then(|header| headers::get(Map::Request, header));
    if header.is_some() && destinations.is_none() {
        worker.report.unsteered();
    }
    let incoming = Incoming {
        cluster: &cluster,
        route: route.as_deref(),
        destinations: destinations.as_deref(),
    };
    let mut draw = || draws.next_u64();
    let (decision, exchange) = filter.begin(&HostStore, incoming, plugin_kit::now(), &mut draw);
    worker.report.events(filter.take_events());
    worker.report.decision(&cluster, &decision, exchange.as_ref());
    if worker.mode != Mode::Enforce {
        return (exchange, Action::Continue);
    }
    let action = match (decision, &filter.config().guard) {
        (Decision::Reject { subject, retry_after }, Some(guard)) => {
            reject(guard, &subject, retry_after, draw())
        }
        (Decision::Pass { steering, .. }, _) => steer(header, &steering),
        (Decision::Reject { .. }, None) => Action::Continue,
    };
    (exchange, action)
}

fn steer(header: Option<&str>, steering: &Steering) -> Action {
    match (header, steering) {
        (Some(header), Steering::Replace(list)) => {
            headers::set(Map::Request, header, list);
            property::set_edited_list(list);
        }
        (Some(header), Steering::Remove) => {
            headers::remove(Map::Request, header);
            property::set_edited_list("");
        }
        _ => {}
    }
    Action::Continue
}

fn reject(guard: &GuardScope, subject: &Subject, wait: Duration, draw: u64) -> Action {
    let seconds = retry_after_secs(wait, draw).to_string();
    plugin_kit::set_filter_state(
        "weir.circuit_breaker",
        &format!("rejected {}={} retry_after={seconds}", guard.scope.name, subject.name),
    );
    let headers = [("x-envoy-overloaded", "true"), ("retry-after", seconds.as_str())];
    let kept = if guard.reject.retry_after { &headers[..] } else { &headers[..1] };
    let taken = plugin_kit::reply(Reply {
        status: guard.reject.status,
        details: "circuit_breaker_open",
        headers: kept,
        body: guard.reject.body.as_bytes(),
        grpc_status: Some(grpc::UNAVAILABLE),
    });
    if taken { Action::Pause } else { Action::Continue }
}

fn end(worker: &Worker, exchange: Exchange, may_be_grpc: bool) {
    let (Ok(mut filter), Ok(mut draws)) =
        (worker.filter.try_borrow_mut(), worker.draws.try_borrow_mut())
    else {
        return;
    };
    let server = property::upstream_address();
    let attempts = if exchange.was_retried(server) { property::attempt_count() } else { 1 };
    let ended = Ended {
        ending: ending(may_be_grpc),
        server,
        attempts,
        num_endpoints: if attempts > 1 { property::num_endpoints().unwrap_or(0) } else { 0 },
    };
    filter.end(&HostStore, exchange, &ended, plugin_kit::now(), &mut || draws.next_u64());
    worker.report.events(filter.take_events());
}

fn ending(may_be_grpc: bool) -> Ending {
    let details = property::response_code_details();
    let is_grpc = may_be_grpc
        && headers::get(Map::Request, "content-type")
            .is_some_and(|content| content.starts_with("application/grpc"));
    let grpc_status = if is_grpc { property::uint(&["response", "grpc_status"]) } else { None };
    Ending {
        flags: property::response_flags(),
        via_upstream: details.as_deref() == Some(VIA_UPSTREAM),
        status: property::response_code(),
        grpc_status: grpc_status.and_then(|status| u32::try_from(status).ok()),
    }
}
