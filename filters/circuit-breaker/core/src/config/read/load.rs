//! How much of a scope's requests may be under way.

use super::rules::WINDOWS;
use crate::load::{Adaptive, AdmissionControl, Algorithm, Bulkhead, LoadRules, RetryBudget};
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Required};

/// Fields about how much may be under way.
pub(super) const LOAD: [&str; 5] =
    ["bulkhead", "adaptive_concurrency", "admission_control", "retry_budget", "suppress_retries"];

const BULKHEADS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

impl Choice for Algorithm {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("gradient2", Self::Gradient2), ("vegas", Self::Vegas), ("aimd", Self::Aimd)];
}

pub(super) fn load(fields: &mut Fields<'_>) -> LoadRules {
    let mut given = |name: &'static str| fields.has(name);
    let [bulkhead, adaptive, admission, budget] = [
        given("bulkhead"),
        given("adaptive_concurrency"),
        given("admission_control"),
        given("retry_budget"),
    ];
    LoadRules {
        bulkhead: bulkhead.then(|| self::bulkhead(fields.object("bulkhead"))),
        adaptive: adaptive.then(|| self::adaptive(fields.object("adaptive_concurrency"))),
        admission: admission.then(|| self::admission(fields.object("admission_control"))),
        retry_budget: budget.then(|| retry_budget(fields.object("retry_budget"))),
    }
}

fn bulkhead(mut fields: Fields<'_>) -> Bulkhead {
    Bulkhead {
        max_concurrent: fields.integer("max_concurrent", 1..=1_000_000, Required),
        lease: fields.duration("lease", BULKHEADS, Or(Duration::from_secs(10))),
    }
}

/// Names and defaults of Netflix's concurrency-limits.
fn adaptive(mut fields: Fields<'_>) -> Adaptive {
    let min = fields.integer("min", 1..=1_000_000, Or(20));
    let max = fields.integer("max", 1..=1_000_000, Or(200));
    if fields.is_clean() && min > max {
        fields.problem_at("min", format!("{min} is more than max, {max}: lower it, or raise max"));
    }
    Adaptive {
        algorithm: fields.choice("algorithm", Algorithm::Gradient2),
        min,
        max,
        tolerance: fields.number("tolerance", 1.0..=10.0, Or(1.5)),
        smoothing: fields.number("smoothing", 0.01..=1.0, Or(0.2)),
        queue: fields.integer("queue", 1..=1000, Or(4)),
        long_window: fields.integer("long_window", 10..=100_000, Or(600)),
    }
}

/// Names and defaults of Envoy's filter of this name.
fn admission(mut fields: Fields<'_>) -> AdmissionControl {
    AdmissionControl {
        sampling_window: fields.duration("sampling_window", WINDOWS, Or(Duration::from_secs(30))),
        sr_threshold: fields.number("sr_threshold", 1.0..=100.0, Or(95.0)),
        aggression: fields.number("aggression", 1.0..=10.0, Or(1.0)),
        max_rejection_probability: fields.number(
            "max_rejection_probability",
            0.0..=100.0,
            Or(80.0),
        ),
    }
}

/// As Envoy's `retry_budget`, but for what counts: see the module.
fn retry_budget(mut fields: Fields<'_>) -> RetryBudget {
    RetryBudget {
        budget_percent: fields.number("budget_percent", 0.0..=100.0, Or(20.0)),
        min_retries_per_second: fields.integer("min_retries_per_second", 0..=1_000_000, Or(3)),
    }
}
