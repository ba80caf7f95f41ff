//! One HTTP exchange.

use crate::attributes::HostAttributes;
use crate::global;
use crate::root::Worker;
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, Reply};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use token_bucket_core::{Admission, Config, Reason, Refusal, Settlement, Verdict, fields};

/// Name of the filter state.
const FILTER_STATE: &str = "weir.token_bucket";

const RATELIMIT_POLICY: &str = "ratelimit-policy";
const RATELIMIT: &str = "ratelimit";

/// RESOURCE_EXHAUSTED.
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;

/// UNAVAILABLE.
const GRPC_UNAVAILABLE: u32 = 14;

/// A request that waits for the answer to its verdict's first question.
struct Asking {
    call: u32,
    verdict: Verdict,
}

pub(crate) struct Stream {
    /// Nothing if the plugin is off.
    worker: Option<Rc<Worker>>,
    /// Values of the two headers, kept for the response of a request that passed.
    ratelimit: Option<(String, String)>,
    /// Headers that a rate limit service wants on the response.
    response_headers: Vec<(String, String)>,
    /// What the request holds, until it is over.
    admission: Admission,
    /// Seldom there, so in a box.
    asking: Option<Box<Asking>>,
}

impl Stream {
    pub(crate) fn new(worker: Option<Rc<Worker>>) -> Self {
        Self {
            worker,
            ratelimit: None,
            response_headers: Vec::new(),
            admission: Admission::default(),
            asking: None,
        }
    }

    /// Asks the services what is to be asked. Gives the verdict back when that is all; until then
    /// the request waits.
    fn ask(&mut self, worker: &Worker, mut verdict: Verdict) -> Option<Verdict> {
        while let Some(question) = verdict.questions.first() {
            let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return Some(verdict) };
            match global::send(question, limiter.config()) {
                Ok(call) => {
                    self.asking = Some(Box::new(Asking { call, verdict }));
                    return None;
                }
                Err(_) => limiter.answered(&HostStore, &mut verdict, None, plugin_kit::now()),
            }
        }
        Some(verdict)
    }

    /// Acts on a verdict that leaves no questions. False if the request has been answered.
    fn act(&mut self, worker: &Worker, mut verdict: Verdict) -> bool {
        let Ok(limiter) = worker.limiter.try_borrow() else { return true };
        let config = limiter.config();
        worker.metrics.count(&verdict.tally);
        self.admission = core::mem::take(&mut verdict.admission);
        if let Some(line) = verdict.summary(config) {
            plugin_kit::set_filter_state(FILTER_STATE, &line);
        }
        let ratelimit = ratelimit(&verdict, config);
        if let Some(refusal) = &verdict.refusal {
            return !refuse(worker, config, refusal, &verdict, ratelimit);
        }
        self.ratelimit = ratelimit;
        for (name, value) in &verdict.fleet.request_headers {
            headers::add(Map::Request, name, value);
        }
        self.response_headers = verdict.fleet.response_headers;
        true
    }

    /// Ends the admission, if there still is one.
    fn end(&mut self, settlement: Settlement<'_>) {
        let mut settlement = settlement;
        if let (Some(asking), Some(worker)) = (self.asking.take(), &self.worker) {
            if let Ok(mut limiter) = worker.limiter.try_borrow_mut() {
                limiter.abandoned(&asking.verdict);
            }
            self.admission = asking.verdict.admission;
            settlement = Settlement::Undone;
        }
        let admission = core::mem::take(&mut self.admission);
        let Some(worker) = self.worker.as_ref() else { return };
        if !admission.is_changed_by(&settlement) {
            return;
        }
        let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return };
        let tally = limiter.end(&HostStore, admission, settlement, plugin_kit::now());
        worker.metrics.count(&tally);
    }
}

impl Drop for Stream {
    /// A stream that the host forgot before it logged it.
    fn drop(&mut self) {
        self.end(Settlement::Undone);
    }
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, _size: usize) {
        let Some(asking) = self.asking.take_if(|asking| asking.call == call) else { return };
        let mut verdict = asking.verdict;
        let Some(worker) = self.worker.clone() else { return };
        let message = global::message(status);
        if let Ok(mut limiter) = worker.limiter.try_borrow_mut() {
            let now = plugin_kit::now();
            limiter.answered(&HostStore, &mut verdict, message.as_deref(), now);
        }
        let Some(verdict) = self.ask(&worker, verdict) else { return };
        if self.act(&worker, verdict) {
            plugin_kit::resume_request();
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else { return Action::Continue };
        // Nobody else holds it: one VM runs one callback at a time, and no hostcall below calls back.
        let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return Action::Continue };
        let request = HostAttributes::new(!end_of_stream, &worker.draws);
        let verdict = limiter.decide(&HostStore, &request, plugin_kit::now());
        drop(limiter);
        let Some(verdict) = self.ask(&worker, verdict) else { return Action::Pause };
        if self.act(&worker, verdict) { Action::Continue } else { Action::Pause }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // Our own reply comes by here too, with its headers already in it.
        if let Some((policies, limits)) = self.ratelimit.take() {
            // Added, not set: what the origin says of its own limits stays, and stays first.
            headers::add(Map::Response, RATELIMIT_POLICY, &policies);
            headers::add(Map::Response, RATELIMIT, &limits);
        }
        for (name, value) in core::mem::take(&mut self.response_headers) {
            headers::add(Map::Response, &name, &value);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.end(Settlement::Served(&[]));
    }
}

fn ratelimit(verdict: &Verdict, config: &Config) -> Option<(String, String)> {
    if !config.ratelimit_headers {
        return None;
    }
    let own = fields::ratelimit(&verdict.quotas(config));
    let least = verdict.levels.iter().map(|(_, level)| level.remaining).min();
    token_bucket_core::global::ratelimit(own, least, &verdict.fleet.limits, config)
}

/// Answers the request. False if the host takes no answer: then it gets to forward the request,
/// which would hang if paused.
fn refuse(
    worker: &Worker,
    config: &Config,
    refusal: &Refusal,
    verdict: &Verdict,
    ratelimit: Option<(String, String)>,
) -> bool {
    let reply = &config.reply;
    let draw = worker.draws.try_borrow_mut().map_or(0, |mut draws| draws.next_u64());
    let retry_after = refusal
        .wait
        .filter(|_| reply.retry_after)
        .map(|wait| fields::retry_after(wait, reply.retry_after_jitter_percent, draw));
    let mut headers = Vec::with_capacity(3);
    if let Some(seconds) = &retry_after {
        headers.push(("retry-after", seconds.as_str()));
    }
    if let Some((policies, limits)) = &ratelimit {
        headers.push((RATELIMIT_POLICY, policies));
        headers.push((RATELIMIT, limits));
    }
    for (name, value) in &verdict.fleet.response_headers {
        let ours = headers.iter().any(|(found, _)| found == name);
        if !ours {
            headers.push((name, value));
        }
    }
    let policy = config.policies.get(refusal.policy);
    let global = policy.and_then(|policy| policy.global.as_ref());
    let (status, grpc_status) = match (refusal.reason, global) {
        (Reason::ServiceFailed, Some(global)) => (global.status_on_error, GRPC_UNAVAILABLE),
        _ => (reply.status, GRPC_RESOURCE_EXHAUSTED),
    };
    let policy = policy.map_or("", |policy| policy.name.as_str());
    let details = format!("weir_token_bucket{{{policy}:{}}}", refusal.reason);
    plugin_kit::reply(Reply {
        status,
        details: &details,
        headers: &headers,
        body: verdict.fleet.body.as_deref().unwrap_or(reply.body.as_bytes()),
        grpc_status: is_grpc().then_some(grpc_status),
    })
}

fn is_grpc() -> bool {
    let content_type = headers::get(Map::Request, "content-type");
    content_type.is_some_and(|value| value.starts_with("application/grpc"))
}
