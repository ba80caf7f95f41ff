//! What an endpoint has seen: counters, recent requests, health polls.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::request::Parts;
use serde::Serialize;

use super::meter::Rate;

/// Health polls kept. A test of polling looks at a few hundred; an endpoint may run for days.
const MAX_HEALTH_POLLS: usize = 4096;

/// Upper bounds of the duration histogram in `/metrics`, in seconds.
const DURATION_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Counters of an endpoint since it started. A kill does not reset them: they belong to the
/// experiment, not to the simulated process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests answered with a status below 500.
    pub served: u64,
    /// Requests answered with 500 or above, and connections reset on purpose.
    pub failed: u64,
    /// Requests whose client went away before the answer.
    pub abandoned: u64,
    /// Requests being worked on, queued or hanging.
    pub in_flight: u64,
    /// Highest `in_flight` so far.
    pub max_in_flight: u64,
    /// Requests for `/healthz`.
    pub health_polls: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections established now.
    pub connections: u64,
}

/// A request as the endpoint received it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceivedRequest {
    /// When, since the endpoint started.
    pub at: Duration,
    /// Request method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Headers in order of arrival; over HTTP/2 the authority appears as `:authority`.
    pub headers: Vec<(String, String)>,
}

impl ReceivedRequest {
    /// Records the head of a request.
    pub(crate) fn new(at: Duration, head: &Parts) -> Self {
        let authority = head.uri.authority().map(|a| (":authority".to_owned(), a.to_string()));
        let headers = head.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Self {
            at,
            method: head.method.to_string(),
            path: head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            version: format!("{:?}", head.version),
            headers: authority.into_iter().chain(headers).collect(),
        }
    }

    /// The first value of this header (lower-case name).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// One poll of `/healthz`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HealthPoll {
    /// When, since the endpoint started.
    pub at: Duration,
    /// Who polled, by the `user-agent` header.
    pub user_agent: Option<String>,
    /// What was answered.
    pub status: u16,
}

/// Everything counted at one endpoint.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) counters: Counters,
    pub(crate) by_status: BTreeMap<u16, u64>,
    pub(crate) rps: Rate,
    pub(crate) eps: Rate,
    pub(crate) durations: DurationHistogram,
    requests: VecDeque<ReceivedRequest>,
    keep_requests: usize,
    health_polls: VecDeque<HealthPoll>,
}

impl Ledger {
    pub(crate) fn new(keep_requests: usize, tau: Duration) -> Self {
        Self {
            counters: Counters::default(),
            by_status: BTreeMap::new(),
            rps: Rate::new(tau),
            eps: Rate::new(tau),
            durations: DurationHistogram::default(),
            requests: VecDeque::new(),
            keep_requests,
            health_polls: VecDeque::new(),
        }
    }

    /// A request came in.
    pub(crate) fn begin(&mut self, at: Duration, head: &Parts) {
        self.counters.in_flight += 1;
        self.counters.max_in_flight = self.counters.max_in_flight.max(self.counters.in_flight);
        if self.keep_requests > 0 {
            push_bounded(&mut self.requests, ReceivedRequest::new(at, head), self.keep_requests);
        }
    }

    /// A request ends: with this status, or without one when its connection is reset.
    pub(crate) fn finish(&mut self, now: Duration, took: Duration, status: Option<u16>) {
        self.counters.in_flight = self.counters.in_flight.saturating_sub(1);
        if let Some(status) = status {
            *self.by_status.entry(status).or_default() += 1;
            self.durations.record(took);
        }
        self.rps.count(now);
        if status.is_some_and(|status| status < 500) {
            self.counters.served += 1;
        } else {
            self.counters.failed += 1;
            self.eps.count(now);
        }
    }

    /// A request ends because its client went away.
    pub(crate) fn abandon(&mut self) {
        self.counters.in_flight = self.counters.in_flight.saturating_sub(1);
        self.counters.abandoned += 1;
    }

    pub(crate) fn health_poll(&mut self, poll: HealthPoll) {
        self.counters.health_polls += 1;
        push_bounded(&mut self.health_polls, poll, MAX_HEALTH_POLLS);
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn health_polls(&self) -> Vec<HealthPoll> {
        self.health_polls.iter().cloned().collect()
    }

    pub(crate) fn forget_requests(&mut self) {
        self.requests.clear();
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, bound: usize) {
    if queue.len() >= bound {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Cumulative histogram of answer times, as Prometheus has it.
#[derive(Debug, Default)]
pub(crate) struct DurationHistogram {
    counts: [u64; DURATION_BUCKETS.len()],
    pub(crate) count: u64,
    pub(crate) sum_seconds: f64,
}

impl DurationHistogram {
    fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum_seconds += seconds;
        for (bound, count) in DURATION_BUCKETS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
    }

    /// Upper bound in seconds and how many answers took no longer.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        DURATION_BUCKETS.into_iter().zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str) -> Parts {
        http::Request::get(path).header("x-a", "1").body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_the_last_requests_are_kept() {
        let mut ledger = Ledger::new(2, Duration::from_secs(1));
        for path in ["/1", "/2", "/3"] {
            ledger.begin(Duration::ZERO, &head(path));
        }
        let paths: Vec<_> = ledger.requests().into_iter().map(|r| r.path).collect();
        assert_eq!(paths, ["/2", "/3"]);
        assert_eq!(ledger.requests()[0].header("x-a"), Some("1"));
    }

    #[test]
    fn every_request_ends_served_failed_or_abandoned() {
        let mut ledger = Ledger::new(0, Duration::from_secs(1));
        let zero = Duration::ZERO;
        (0..4).for_each(|_| ledger.begin(zero, &head("/")));
        ledger.finish(zero, zero, Some(429));
        ledger.finish(zero, zero, Some(503));
        ledger.finish(zero, zero, None);
        ledger.abandon();
        let counters = &ledger.counters;
        assert_eq!((counters.served, counters.failed, counters.abandoned), (1, 2, 1));
        assert_eq!((counters.in_flight, counters.max_in_flight), (0, 4));
        assert!(ledger.requests().is_empty());
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let mut histogram = DurationHistogram::default();
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_secs(60));
        let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(histogram.count, 2);
    }
}
