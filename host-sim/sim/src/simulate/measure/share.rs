//! How evenly the traffic was spread: the worst endpoint in the worst interval, against its part of
//! the capacity. 1.2 is a fifth more than its fair share. Of short intervals chance alone makes more.

use super::{Measure, Part};

fn peak(part: &Part<'_>) -> Option<f64> {
    let of = |counts: &[u32]| {
        let all: u32 = counts.iter().sum();
        let relative = counts.iter().zip(part.fair).filter(|(_, fair)| **fair > 0.0);
        let relative = relative.map(|(count, fair)| f64::from(*count) / f64::from(all) / fair);
        if all == 0 { None } else { relative.max_by(f64::total_cmp) }
    };
    part.intervals().filter_map(of).max_by(f64::total_cmp)
}

pub(super) fn measures() -> Vec<Measure> {
    vec![Measure {
        name: "peak_share",
        title: "peak share",
        unit: "x fair",
        digits: 2,
        ratio: false,
        of: peak,
    }]
}
