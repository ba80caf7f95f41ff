//! Latency percentiles, from a client's first try to the end of its last.
//!
//! Of requests that were served, and of those that were waited for in vain, with the time that was
//! waited. What failed fast does not count here: an endpoint that fails fast must not look fast.

use super::{Measure, Over, Part};
use crate::simulate::record::{Ending, Sample};
use std::time::Duration;

/// The latencies that count, sorted.
pub(super) fn counted(samples: &[&Sample]) -> Vec<Duration> {
    let counts = |sample: &&&Sample| !matches!(sample.ending, Ending::Failed(_));
    let mut latencies: Vec<_> = samples.iter().filter(counts).map(|s| s.latency).collect();
    latencies.sort_unstable();
    latencies
}

fn millis(part: &Part<'_>, of: f64) -> Option<f64> {
    part.percentile(of).map(|latency| latency.as_secs_f64() * 1e3)
}

pub(super) fn measures() -> Vec<Measure> {
    let measure = |name, title, of| Measure {
        name,
        title,
        unit: "ms",
        digits: 1,
        ratio: true,
        over: Over::Median,
        of,
    };
    vec![
        measure("p50", "P50", |part| millis(part, 0.5)),
        measure("p90", "P90", |part| millis(part, 0.9)),
        measure("p99", "P99", |part| millis(part, 0.99)),
        measure("p999", "P99.9", |part| millis(part, 0.999)),
    ]
}
