//! What came of a load, for people and programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::connect::ErrorKind;

/// Latencies in milliseconds; zeros when there were none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
    /// Mean.
    pub mean_ms: f64,
}

/// The result of one run.
///
/// A request *succeeds* with a status below 400, is *limited* with 429 and *fails* with 500 or
/// above or without an answer. Other 4xx answers appear in `by_status` alone.
#[derive(Clone, Debug, Serialize)]
pub struct LoadResult {
    /// From the start to the last answer.
    pub elapsed_seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Of these, answered with a status below 400.
    pub succeeded: u64,
    /// Of these, answered with 500 or above, or not at all.
    pub failed: u64,
    /// Of these, answered with 429.
    pub limited: u64,
    /// Requests that came due with too many in flight, and were not sent.
    pub unsent: u64,
    /// Most requests under way at one time.
    pub max_in_flight: u64,
    /// Requests without an answer, by reason.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// For each client, in their order: requests that ended, and those that succeeded.
    pub by_client: Vec<(u64, u64)>,
    /// From when a request was due to the end of its answer, for those that succeeded.
    pub latency: Percentiles,
    /// The same with those that were waited for in vain, for as long as that took: without them, a
    /// target that leaves the slowest unanswered would look fast.
    pub waited: Percentiles,
    /// From when a request was due to when its sending began: the generator's own lateness,
    /// which is part of `latency`. A run where it is not small measured the generator.
    pub send_lag: Percentiles,
    /// Fraction of the answers by endpoint (header `x-endpoint`).
    pub share: BTreeMap<String, f64>,
    /// One entry for every second in which requests were due.
    pub timeline: Vec<Second>,
}

/// What became of the requests due in one second.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Since the start, from 0.
    pub second: u64,
    /// Requests sent.
    pub requests: u64,
    /// Of these, answered with a status below 400.
    pub succeeded: u64,
    /// Of these, answered with 500 or above, or not at all.
    pub errors: u64,
    /// Of these, answered with 429.
    pub limited: u64,
    /// Median latency of the successes; 0 without any.
    pub p50_ms: f64,
    /// 99th percentile of the latency of the successes; 0 without any.
    pub p99_ms: f64,
    /// Fraction of the answers by endpoint.
    pub share: BTreeMap<String, f64>,
}

/// How a run stands.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// Since the start.
    pub elapsed_seconds: f64,
    /// Requests sent so far.
    pub requests: u64,
    /// Failed so far.
    pub errors: u64,
    /// Limited so far.
    pub limited: u64,
    /// Under way now.
    pub in_flight: u64,
    /// Not sent so far.
    pub unsent: u64,
    /// Requests that ended per second, since the last progress.
    pub rate: f64,
    /// Median latency since the last progress.
    pub p50_ms: f64,
    /// 99th percentile since the last progress.
    pub p99_ms: f64,
    /// Fraction of all answers by endpoint.
    pub share: BTreeMap<String, f64>,
}
