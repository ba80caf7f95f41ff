//! One HTTP exchange.

use crate::attributes::HostAttributes;
use crate::root::Worker;
use plugin_kit::headers::{self, Map};
use plugin_kit::{HostStore, Reply};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use token_bucket_core::{Admission, Config, Refusal, Settlement, Verdict, fields};

/// Name of the filter state.
const FILTER_STATE: &str = "weir.token_bucket";

const RATELIMIT_POLICY: &str = "ratelimit-policy";
const RATELIMIT: &str = "ratelimit";

/// RESOURCE_EXHAUSTED.
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;

pub(crate) struct Stream {
    /// Nothing if the plugin is off.
    worker: Option<Rc<Worker>>,
    /// Values of the two headers, kept for the response of a request that passed.
    ratelimit: Option<(String, String)>,
    /// What the request holds, until it is over.
    admission: Admission,
}

impl Stream {
    pub(crate) fn new(worker: Option<Rc<Worker>>) -> Self {
        Self { worker, ratelimit: None, admission: Admission::default() }
    }

    /// Ends the admission, if there still is one.
    fn end(&mut self, settlement: Settlement) {
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

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let Some(worker) = self.worker.clone() else { return Action::Continue };
        // Nobody else holds it: one VM runs one callback at a time, and no hostcall below calls back.
        let Ok(mut limiter) = worker.limiter.try_borrow_mut() else { return Action::Continue };
        let request = HostAttributes::new(!end_of_stream, &worker.draws);
        let mut verdict = limiter.decide(&HostStore, &request, plugin_kit::now());
        drop(limiter);
        let Ok(limiter) = worker.limiter.try_borrow() else { return Action::Continue };
        let config = limiter.config();
        worker.metrics.count(&verdict.tally);
        self.admission = core::mem::take(&mut verdict.admission);
        if let Some(line) = verdict.summary(config) {
            plugin_kit::set_filter_state(FILTER_STATE, &line);
        }
        let ratelimit = ratelimit(&verdict, config);
        match &verdict.refusal {
            Some(refusal) => refuse(&worker, config, refusal, ratelimit),
            None => {
                self.ratelimit = ratelimit;
                Action::Continue
            }
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // Our own reply comes by here too, with its headers already in it.
        if let Some((policies, limits)) = self.ratelimit.take() {
            // Added, not set: what the origin says of its own limits stays, and stays first.
            headers::add(Map::Response, RATELIMIT_POLICY, &policies);
            headers::add(Map::Response, RATELIMIT, &limits);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.end(Settlement::Served);
    }
}

fn ratelimit(verdict: &Verdict, config: &Config) -> Option<(String, String)> {
    if !config.ratelimit_headers {
        return None;
    }
    fields::ratelimit(&verdict.quotas(config))
}

/// Answers the request. A host that takes no answer gets to forward it: paused, it would hang.
fn refuse(
    worker: &Worker,
    config: &Config,
    refusal: &Refusal,
    ratelimit: Option<(String, String)>,
) -> Action {
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
    let policy = config.policies.get(refusal.policy).map_or("", |policy| policy.name.as_str());
    let details = format!("weir_token_bucket{{{policy}:{}}}", refusal.reason);
    let taken = plugin_kit::reply(Reply {
        status: reply.status,
        details: &details,
        headers: &headers,
        body: reply.body.as_bytes(),
        grpc_status: is_grpc().then_some(GRPC_RESOURCE_EXHAUSTED),
    });
    if taken { Action::Pause } else { Action::Continue }
}

fn is_grpc() -> bool {
    let content_type = headers::get(Map::Request, "content-type");
    content_type.is_some_and(|value| value.starts_with("application/grpc"))
}
