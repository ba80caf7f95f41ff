//! When a breaker changes its state, as the operator has it.

use crate::backoff::Backoff;
use crate::ramp::Ramp;
use crate::window::Window;
use core::time::Duration;

/// The rules of one breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// What the rates are taken over.
    pub window: Window,
    /// Outcomes in the window below which the rates say nothing.
    pub minimum_number_of_calls: u32,
    /// Failure rate that trips, in percent, above 0 and at most 100.
    pub failure_rate_threshold: f64,
    /// Which calls are slow, and how many of them trip; `None` for never.
    pub slow_calls: Option<SlowCalls>,
    /// Failures in a row that trip; 0 for never.
    pub consecutive_failures: u32,
    /// Answers 502, 503, 504 in a row that trip; 0 for never.
    pub consecutive_gateway_failures: u32,
    /// Failures of the proxy's own in a row that trip, counted apart from the endpoint's. `None`
    /// counts all failures alike.
    pub local_origin_failures: Option<u32>,
    /// How long it stays open.
    pub backoff: Backoff,
    /// Least time after which one trip is forgotten by the back-off.
    pub decay_interval: Duration,
    /// Requests that decide, half-open: 1 to [`shared_state::MAX_PERMITS`].
    pub permitted_calls: u16,
    /// How many of them may be under way at once.
    pub max_concurrent: u16,
    /// Only one is, until one has succeeded.
    pub one_at_first: bool,
    /// When a permit is taken for lost.
    pub permit_lease: Duration,
    /// What a lost permit is.
    pub on_lease_expiry: LeaseExpiry,
    /// Whether an endpoint's `Retry-After` is the least open time.
    pub respect_retry_after: bool,
    /// How traffic comes back after the probes.
    pub ramp: Ramp,
}

impl Rules {
    /// What holds where nothing is configured.
    pub const DEFAULT: Self = Self {
        window: Window::Time(Duration::from_secs(10)),
        minimum_number_of_calls: 20,
        failure_rate_threshold: 50.0,
        slow_calls: None,
        consecutive_failures: 5,
        consecutive_gateway_failures: 0,
        local_origin_failures: None,
        backoff: Backoff::DEFAULT,
        decay_interval: Duration::from_secs(60),
        permitted_calls: 3,
        max_concurrent: 3,
        one_at_first: false,
        permit_lease: Duration::from_secs(10),
        on_lease_expiry: LeaseExpiry::Failure,
        respect_retry_after: true,
        ramp: Ramp::NONE,
    };
}

/// Which calls are slow, and how many of them trip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowCalls {
    /// A call that took longer is slow.
    pub duration: Duration,
    /// Share of slow calls that trips, in percent, above 0 and at most 100.
    pub rate_threshold: f64,
}

/// What a permit is whose request never told its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseExpiry {
    /// A failure: a request that takes longer than its lease is no sign of health.
    #[default]
    Failure,
    /// Free again.
    Ignored,
}
