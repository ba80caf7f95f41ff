//! When a breaker changes its state.

use crate::breaker::SlowCalls;
use crate::{Backoff, Jitter, LeaseExpiry, Ramp, Rules, Window};
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Span};
use shared_state::{MAX_COUNT_WINDOW, MAX_PERMITS};

/// A tenth of the shortest window is a tick: no bucket is shorter than a batch is late.
pub(super) const WINDOWS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Below the least, a clock read in another callback could end it. Nobody means more than a day.
const BACKOFFS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

const DECAYS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

const SLOWNESS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

const RAMPS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WindowType {
    Time,
    Count,
}

impl Choice for WindowType {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("time", Self::Time), ("count", Self::Count)];
}

impl Choice for Jitter {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("equal", Self::Equal)];
}

impl Choice for LeaseExpiry {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("failure", Self::Failure), ("ignored", Self::Ignored)];
}

/// Of endpoints, where a request that is no probe goes to another one, half-open begins with one probe:
/// each costs a request if nobody is there, and the first answer tells.
pub(super) fn rules(fields: &mut Fields<'_>, split: bool, is_of_endpoints: bool) -> Rules {
    let (window, minimum_number_of_calls) = window(fields.object("window"));
    let trip = trip(fields.object("trip"), split);
    let (backoff, decay_interval, respect_retry_after) = open(fields.object("open"));
    let ramp = ramp(fields.object("ramp"));
    let mut half_open = fields.object("half_open");
    let permitted_calls = half_open.integer("permitted_calls", 1..=MAX_PERMITS, Or(3));
    let most = if half_open.is_clean() { permitted_calls } else { MAX_PERMITS };
    let one_at_first = is_of_endpoints && !half_open.has("max_concurrent");
    Rules {
        window,
        minimum_number_of_calls,
        backoff,
        decay_interval,
        respect_retry_after,
        ramp,
        permitted_calls,
        max_concurrent: half_open.integer("max_concurrent", 1..=most, Or(permitted_calls)),
        one_at_first,
        permit_lease: half_open.duration("permit_lease", LEASES, Or(Duration::from_secs(10))),
        on_lease_expiry: half_open.choice("on_lease_expiry", LeaseExpiry::Failure),
        ..trip
    }
}

/// Size and minimum of calls. The size is long enough for the minimum of calls, and short enough to
/// forget a mended fault; resilience4j's 100 calls suit a window of 60 s, 20 are Hystrix's, for the
/// same 10 s as here.
fn window(mut fields: Fields<'_>) -> (Window, u32) {
    match fields.choice("type", WindowType::Time) {
        WindowType::Time => {
            let size = fields.duration("size", WINDOWS, Or(Duration::from_secs(10)));
            let minimum = fields.integer("minimum_number_of_calls", 1..=1_000_000, Or(20));
            (Window::Time(size), minimum)
        }
        WindowType::Count => {
            let size = fields.integer("size", 1..=MAX_COUNT_WINDOW, Or(100));
            let default = Or(size.min(20).into());
            let minimum = fields.integer("minimum_number_of_calls", 1..=1_000_000, default);
            if fields.is_clean() && minimum > u32::from(size) {
                let message = format!(
                    "the window never holds more than its size, {size}: lower it, or raise size"
                );
                fields.problem_at("minimum_number_of_calls", message);
            }
            (Window::Count(size), minimum)
        }
    }
}

/// Percent of failures and slow calls, and failures in a row, as Envoy's `consecutive_5xx`,
/// `consecutive_gateway_failure` and `consecutive_local_origin_failure`: 0 for never. What else
/// stands in the rules is not read here.
fn trip(mut fields: Fields<'_>, split: bool) -> Rules {
    let rate = fields.number("failure_rate_threshold", 0.0..=100.0, Or(50.0));
    let message = "out of range: above 0, at most 100 percent";
    fields.require("failure_rate_threshold", rate > 0.0, message);
    let is_slow = fields.has("slow_call_duration");
    let duration = fields.duration("slow_call_duration", SLOWNESS, Or(Duration::from_secs(60)));
    let has_threshold = fields.has("slow_call_rate_threshold");
    let slow = fields.number("slow_call_rate_threshold", 0.0..=100.0, Or(100.0));
    fields.require("slow_call_rate_threshold", slow > 0.0, message);
    let message = "no call is slow without 'slow_call_duration': add it, or leave this out";
    fields.require("slow_call_rate_threshold", is_slow || !has_threshold, message);
    let is_said = fields.has("consecutive_local_origin_failures");
    let local = fields.integer("consecutive_local_origin_failures", 0..=1_000_000, Or(5));
    let message = "counted apart only with classify.split_external_local_origin_errors: \
                   set it, or leave this out";
    fields.require("consecutive_local_origin_failures", split || !is_said, message);
    Rules {
        failure_rate_threshold: rate,
        slow_calls: is_slow.then_some(SlowCalls { duration, rate_threshold: slow }),
        consecutive_failures: fields.integer("consecutive_failures", 0..=1_000_000, Or(5)),
        consecutive_gateway_failures: fields.integer(
            "consecutive_gateway_failures",
            0..=1_000_000,
            Or(0),
        ),
        local_origin_failures: split.then_some(local),
        ..Rules::DEFAULT
    }
}

/// How traffic comes back: names and defaults of Envoy's `slow_start_config`.
fn ramp(mut fields: Fields<'_>) -> Ramp {
    Ramp {
        window: fields.duration("window", RAMPS, Or(Duration::ZERO)),
        min_percent: fields.number("min_percent", 0.0..=100.0, Or(10.0)),
        aggression: fields.number("aggression", 0.1..=10.0, Or(1.0)),
    }
}

/// The back-off, and the decay interval. `max` is as Envoy's `max_ejection_time`.
fn open(mut fields: Fields<'_>) -> (Backoff, Duration, bool) {
    let base = fields.duration("base", BACKOFFS, Or(Duration::from_secs(5)));
    let max = fields.duration("max", BACKOFFS, Or(Duration::from_secs(300)));
    if fields.is_clean() && base > max {
        let message =
            format!("{} is longer than max, {}: lower it, or raise max", Span(base), Span(max));
        fields.problem_at("base", message);
    }
    let multiplier = fields.number("multiplier", 1.0..=100.0, Or(2.0));
    let jitter = fields.choice("jitter", Jitter::Equal);
    let decay_interval = fields.duration("decay_interval", DECAYS, Or(Duration::from_secs(60)));
    let respect_retry_after = fields.flag("respect_retry_after", true);
    (Backoff { base, max, multiplier, jitter }, decay_interval, respect_retry_after)
}
