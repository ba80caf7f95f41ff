//! What clients are told: the answer to a refused request, and the headers of one that passed.

use crate::root::Worker;
use plugin_kit::Reply;
use plugin_kit::headers::{self, Map};
use token_bucket_core::fields::{self, Merge};
use token_bucket_core::{Config, GrpcStatus, Reason, Refusal, Verdict, problem_details};

/// Headers that tell of the limits that had a say.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<(&'static str, String)>);

impl Told {
    pub(crate) fn of(verdict: &Verdict, config: &Config) -> Self {
        Self(fields::told(config, verdict))
    }

    /// Puts them into the response, beside what the origin says of its own limits. A header costs a
    /// hostcall to look for the origin's and one to write ours.
    pub(crate) fn merge_into_response(self) {
        let mut is_ours = None;
        for (name, ours) in &self.0 {
            if name.starts_with('x') {
                // The three of them stay together, whoever wrote them.
                if *is_ours.get_or_insert_with(|| self.is_stricter_than_origin()) {
                    headers::set(Map::Response, name, ours);
                }
                continue;
            }
            let merge = match headers::joined(Map::Response, name) {
                Some(origin) => fields::merge(&origin, ours),
                None => Merge::Add(ours.clone()),
            };
            match merge {
                Merge::Add(line) => headers::add(Map::Response, name, &line),
                Merge::Replace(all) => headers::set(Map::Response, name, &all),
                Merge::Keep => true,
            };
        }
    }

    fn is_stricter_than_origin(&self) -> bool {
        let ours = self.0.iter().find(|(name, _)| *name == fields::X_REMAINING);
        let origin = headers::get(Map::Response, fields::X_REMAINING);
        match (ours, origin) {
            (Some((_, ours)), Some(origin)) => fields::is_stricter(ours, &origin),
            (ours, _) => ours.is_some(),
        }
    }
}

/// Answers the request. False if the host takes no answer: then it gets to forward the request,
/// which would hang if paused.
pub(crate) fn refuse(
    worker: &Worker,
    config: &Config,
    refusal: &Refusal,
    verdict: &Verdict,
    told: &Told,
) -> bool {
    let reply = &config.reply;
    let policy = config.policies.get(refusal.policy);
    let name = policy.map_or("", |policy| policy.name.as_str());
    let global = policy.and_then(|policy| policy.global.as_ref());
    let (status, grpc_status) = match (refusal.reason, global) {
        (Reason::ServiceFailed, Some(global)) => (global.status_on_error, GrpcStatus::Unavailable),
        _ => (reply.status, reply.grpc_status),
    };
    let draw = worker.draws.try_borrow_mut().map_or(0, |mut draws| draws.next_u64());
    let retry_after = refusal
        .wait
        .filter(|_| reply.retry_after)
        .map(|wait| fields::retry_after(wait, reply.retry_after_jitter_percent, draw));
    let is_grpc = headers::get(Map::Request, "content-type")
        .is_some_and(|value| value.starts_with("application/grpc"));
    let service = verdict.fleet.body.as_deref();
    let problem = (reply.problem_details && !is_grpc && service.is_none())
        .then(|| problem_details(reply, status, refusal.reason, name));
    let mut headers: Vec<(&str, &str)> = Vec::new();
    headers.extend(retry_after.as_deref().map(|seconds| ("retry-after", seconds)));
    headers.extend(problem.is_some().then_some(("content-type", "application/problem+json")));
    headers.extend(told.0.iter().map(|(name, value)| (*name, value.as_str())));
    for (name, value) in &verdict.fleet.response_headers {
        let ours = headers.iter().any(|(found, _)| found == name);
        if !ours {
            headers.push((name, value));
        }
    }
    headers.extend(reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let body = problem.as_ref().map_or(reply.body.as_bytes(), |problem| problem.as_bytes());
    plugin_kit::reply(Reply {
        status,
        details: &format!("weir_token_bucket{{{name}:{}}}", refusal.reason),
        headers: &headers,
        body: service.unwrap_or(body),
        grpc_status: is_grpc.then_some(grpc_status as u32),
    })
}
