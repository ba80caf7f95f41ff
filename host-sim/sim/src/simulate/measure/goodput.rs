//! How much was served, and how much was not.

use super::{Measure, Over, Part};
use crate::simulate::record::Ending;

fn good(part: &Part<'_>) -> usize {
    part.samples.iter().filter(|sample| sample.ending == Ending::Good).count()
}

fn bad(part: &Part<'_>) -> usize {
    part.samples.len() - good(part)
}

fn error_percent(part: &Part<'_>) -> Option<f64> {
    let all = part.samples.len();
    (all > 0).then(|| 100.0 * bad(part) as f64 / all as f64)
}

pub(super) fn measures() -> Vec<Measure> {
    let count = |name, title, of| Measure {
        name,
        title,
        unit: "",
        digits: 0,
        ratio: false,
        over: Over::Median,
        of,
    };
    vec![
        count("requests", "requests", |part| Some(part.samples.len() as f64)),
        count("errors", "errors", |part| Some(bad(part) as f64)),
        Measure {
            name: "error_percent",
            title: "errors",
            unit: "%",
            digits: 2,
            ratio: true,
            over: Over::Median,
            of: error_percent,
        },
        Measure {
            name: "goodput",
            title: "goodput",
            unit: "rps",
            digits: 0,
            ratio: true,
            over: Over::Median,
            of: |part| Some(good(part) as f64 / part.span.as_secs_f64()),
        },
    ]
}
