//! How evenly the traffic was spread, against each endpoint's part of the capacity: 1.2 is a fifth
//! more than its fair share. `share` is that of the worst endpoint over the whole window; `peak_share`
//! in the worst interval of it, of which chance alone makes more, the shorter it is.
//!
//! `attempts` is how often endpoints were tried for each request: above 1 are retries.

use super::{Measure, Over, Part};

fn worst(counts: &[u32], fair: &[f64]) -> Option<f64> {
    let all: u32 = counts.iter().sum();
    let relative = counts.iter().zip(fair).filter(|(_, fair)| **fair > 0.0);
    let relative = relative.map(|(count, fair)| f64::from(*count) / f64::from(all) / fair);
    if all == 0 { None } else { relative.max_by(f64::total_cmp) }
}

/// Requests sent to each endpoint, in all intervals together.
fn totals(part: &Part<'_>) -> Vec<u32> {
    let mut totals = vec![0; part.setting.fair.len()];
    for counts in part.intervals() {
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    totals
}

fn share(part: &Part<'_>) -> Option<f64> {
    worst(&totals(part), &part.setting.fair)
}

fn peak(part: &Part<'_>) -> Option<f64> {
    let of = |counts: &[u32]| worst(counts, &part.setting.fair);
    part.intervals().filter_map(of).max_by(f64::total_cmp)
}

fn attempts(part: &Part<'_>) -> Option<f64> {
    let all: u32 = totals(part).iter().sum();
    let requests = part.samples.len();
    (requests > 0).then(|| f64::from(all) / requests as f64)
}

pub(super) fn measures() -> Vec<Measure> {
    let measure = |name, title, unit, of| Measure {
        name,
        title,
        unit,
        digits: 2,
        ratio: false,
        over: Over::Median,
        of,
    };
    vec![
        measure("share", "share", "x fair", share),
        measure("peak_share", "peak share", "x fair", peak),
        measure("attempts", "attempts", "a request", attempts),
    ]
}
