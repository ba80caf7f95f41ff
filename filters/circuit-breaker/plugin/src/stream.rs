//! The stream context: the core's decision on the way in, and its end in `on_log`.

use crate::exchange::{HostClock, HostRequest, HostResponse, Seen, began_at};
use crate::root::Worker;
use circuit_breaker_core::{
    Action as Acts, Cause, Clock, Decision, Exchange, Filter, Mode, Rejection, Steering, Subject,
    grpc, retry_after_secs,
};
use core::cell::Cell;
use core::time::Duration;
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, Reply, property};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;

/// By how much what the worker knows of the time may be wrong where the host ticks, and a little more.
const DOUBT: Duration = Duration::from_millis(200);

/// Envoy's own header for the number of retries.
const MAX_RETRIES: &str = "x-envoy-max-retries";

/// The response header that explains.
const EXPLANATION: &str = "x-weir-breaker";

pub(crate) struct Stream {
    worker: Option<Rc<Worker>>,
    exchange: Option<Exchange>,
    seen: Seen,
    has_answer: bool,
    /// For whoever may ask why. Seldom there.
    explanation: Option<String>,
}

impl Stream {
    pub(crate) fn new(worker: Option<Rc<Worker>>) -> Self {
        let seen = Seen::default();
        Self { worker, exchange: None, seen, has_answer: false, explanation: None }
    }

    /// How long the answer took, or the client waited for none: asked of the host only where what
    /// the worker knows of the time leaves doubt whether that was slow.
    fn measure(&mut self) {
        let (Some(worker), Some(exchange)) = (&self.worker, &self.exchange) else { return };
        let Ok(filter) = worker.filter.try_borrow() else { return };
        let Some(limit) = filter.slow_after() else { return };
        let read = Cell::new(None);
        let clock = HostClock::new(worker, &read);
        let at_most = clock.recent().since(exchange.started_at()).saturating_add(DOUBT);
        if at_most >= limit {
            let began_at = began_at().unwrap_or(exchange.started_at());
            self.seen.elapsed = Some(clock.now().since(began_at));
        }
    }

    /// Gives the exchange back to the filter, in one way or the other, once.
    fn conclude(
        &mut self,
        how: impl FnOnce(&mut Filter, Exchange, HostClock<'_>, &mut dyn FnMut() -> u64),
    ) {
        let (Some(worker), Some(exchange)) = (&self.worker, self.exchange.take()) else { return };
        let (Ok(mut filter), Ok(mut draws)) =
            (worker.filter.try_borrow_mut(), worker.draws.try_borrow_mut())
        else {
            return;
        };
        let read = Cell::new(None);
        let clock = HostClock::new(worker, &read);
        how(&mut filter, exchange, clock, &mut || draws.next_u64());
    }
}

impl Drop for Stream {
    /// A stream that the host forgot before it logged it.
    fn drop(&mut self) {
        self.conclude(|filter, exchange, clock, draw| {
            filter.abandon(&HostStore, exchange, clock, &mut || draw());
        });
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else { return Action::Continue };
        self.begin(&worker)
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.seen.may_be_grpc |= end_of_stream;
        self.seen.is_complete |= end_of_stream;
        if !self.has_answer {
            self.has_answer = true;
            self.measure();
        }
        if let Some(told) = self.explanation.take() {
            headers::set(Map::Response, EXPLANATION, &told);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        self.seen.is_complete |= end_of_stream;
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.seen.may_be_grpc = true;
        self.seen.is_complete = true;
        Action::Continue
    }

    fn on_log(&mut self) {
        if !self.has_answer {
            self.measure();
        }
        let response = HostResponse::new(self.seen);
        self.conclude(|filter, exchange, clock, draw| {
            filter.end(&HostStore, exchange, &response, clock, &mut || draw());
        });
        let Some(worker) = &self.worker else { return };
        if let Ok(mut filter) = worker.filter.try_borrow_mut() {
            worker.report.events(filter.take_events());
        }
    }
}

impl Stream {
    fn begin(&mut self, worker: &Worker) -> Action {
        let (Ok(mut filter), Ok(mut draws)) =
            (worker.filter.try_borrow_mut(), worker.draws.try_borrow_mut())
        else {
            return Action::Continue;
        };
        let read = Cell::new(None);
        let clock = HostClock::new(worker, &read);
        let request = HostRequest::new(&worker.steering_header);
        let mut draw = || draws.next_u64();
        let (decision, exchange) = filter.begin(&HostStore, &request, clock, &mut draw);
        worker.report.events(filter.take_events());
        worker.report.decision(&request, &decision, exchange.as_ref());
        if may_ask(&filter) {
            self.explanation = Some(filter.explain(&decision, exchange.as_ref(), clock.now()));
        }
        self.exchange = exchange;
        if worker.mode != Mode::Enforce {
            return Action::Continue;
        }
        match decision {
            Decision::Pass { steering, no_retries, .. } => {
                if worker.edits_list {
                    steer(&worker.steering_header, &steering);
                }
                if no_retries {
                    headers::set(Map::Request, MAX_RETRIES, "0");
                }
                Action::Continue
            }
            Decision::Reject { guard, subject, cause, retry_after } => {
                let Some(guard) = filter.config().guards.get(guard) else {
                    return Action::Continue;
                };
                let scope = &guard.scope.name;
                match &guard.action {
                    Acts::Reject(rejection) => {
                        let explanation = self.explanation.as_deref();
                        let told = (scope.as_str(), &subject, cause);
                        reject(told, rejection, (retry_after, draw()), explanation)
                    }
                    Acts::Fallback { header, cluster } => {
                        if worker.edits_list {
                            // It lists endpoints of the cluster that is left.
                            steer(&worker.steering_header, &Steering::Remove);
                        }
                        // Envoy chooses the route again when a header was changed.
                        headers::set(Map::Request, header, cluster);
                        say(&format!("fallback {scope}={subject} cluster={cluster}"));
                        Action::Continue
                    }
                    Acts::Pass => Action::Continue,
                }
            }
        }
    }
}

/// True if the request shows the secret.
fn may_ask(filter: &Filter) -> bool {
    filter.debug().is_some_and(|debug| {
        let shown = headers::get(Map::Request, &debug.header).unwrap_or_default();
        let (shown, secret) = (shown.as_bytes(), debug.secret.as_bytes());
        // In a time that does not tell how much of it was right.
        let differ = shown.iter().zip(secret).fold(0, |differ, (a, b)| differ | (a ^ b));
        shown.len() == secret.len() && differ == 0
    })
}

fn say(line: &str) {
    plugin_kit::set_filter_state("weir.circuit_breaker", line);
}

fn steer(header: &str, steering: &Steering) {
    match steering {
        Steering::Keep => {}
        Steering::Replace(list) => {
            headers::set(Map::Request, header, list);
            property::set_edited_list(list);
        }
        Steering::Remove => {
            headers::remove(Map::Request, header);
            property::set_edited_list("");
        }
    }
}

fn reject(
    (scope, subject, cause): (&str, &Subject, Cause),
    rejection: &Rejection,
    (wait, draw): (Duration, u64),
    explanation: Option<&str>,
) -> Action {
    let seconds = retry_after_secs(wait, draw).to_string();
    let why = cause.label();
    say(&format!("rejected {scope}={subject} cause={why} retry_after={seconds}"));
    let mut headers = vec![("x-envoy-overloaded", "true")];
    if rejection.retry_after {
        headers.push(("retry-after", seconds.as_str()));
    }
    headers.extend(rejection.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    headers.extend(explanation.map(|told| (EXPLANATION, told)));
    let taken = plugin_kit::reply(Reply {
        status: rejection.status,
        details: &format!("circuit_breaker_{why}"),
        headers: &headers,
        body: rejection.body.as_bytes(),
        grpc_status: Some(grpc::UNAVAILABLE),
    });
    if taken { Action::Pause } else { Action::Continue }
}
