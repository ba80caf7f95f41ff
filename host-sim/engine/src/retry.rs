//! Whether a failed attempt is tried again, and after how long: Envoy's `RetryStateImpl`.
//!
//! Pure: draws and the state of the cluster's retry breaker are arguments. The back-off is full jitter
//! under a doubling ceiling, so its first wait is anywhere in 0..25 ms: half of all first retries are
//! sent within 12 ms. What surprises most: `5xx` and `gateway-error` retry resets and timeouts too,
//! `reset-before-request` needs no byte sent, and a request's own `x-envoy-retry-on` adds to the
//! route's conditions but its `x-envoy-max-retries` replaces the route's number.

use std::time::Duration;

use host_sim_bootstrap::{HeaderMatcher, RetryBackOff, RetryPolicy};

use crate::{Headers, UpstreamFailureKind};

/// Request headers that steer retries; Envoy's router consumes them, so they never go upstream.
pub const RETRY_REQUEST_HEADERS: [&str; 6] = [
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-hedge-on-per-try-timeout",
];

/// The conditions of `retry_on`, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

/// Name and bit of every condition; an unknown name is no condition, as in Envoy.
const CONDITIONS: [(&str, RetryOn); 15] = [
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("envoy-ratelimited", RetryOn::ENVOY_RATELIMITED),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-status-codes", RetryOn::RETRIABLE_STATUS_CODES),
    ("retriable-headers", RetryOn::RETRIABLE_HEADERS),
    ("cancelled", RetryOn::GRPC_CANCELLED),
    ("deadline-exceeded", RetryOn::GRPC_DEADLINE_EXCEEDED),
    ("internal", RetryOn::GRPC_INTERNAL),
    ("resource-exhausted", RetryOn::GRPC_RESOURCE_EXHAUSTED),
    ("unavailable", RetryOn::GRPC_UNAVAILABLE),
];

impl RetryOn {
    const SERVER_ERROR: Self = Self(1);
    const GATEWAY_ERROR: Self = Self(1 << 1);
    const RESET: Self = Self(1 << 2);
    const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    const CONNECT_FAILURE: Self = Self(1 << 4);
    const ENVOY_RATELIMITED: Self = Self(1 << 5);
    const RETRIABLE_4XX: Self = Self(1 << 6);
    const REFUSED_STREAM: Self = Self(1 << 7);
    const RETRIABLE_STATUS_CODES: Self = Self(1 << 8);
    const RETRIABLE_HEADERS: Self = Self(1 << 9);
    const GRPC_CANCELLED: Self = Self(1 << 10);
    const GRPC_DEADLINE_EXCEEDED: Self = Self(1 << 11);
    const GRPC_INTERNAL: Self = Self(1 << 12);
    const GRPC_RESOURCE_EXHAUSTED: Self = Self(1 << 13);
    const GRPC_UNAVAILABLE: Self = Self(1 << 14);

    /// Reads a comma-separated list.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let bit = |word: &str| CONDITIONS.iter().find(|(name, _)| *name == word.trim());
        Self(list.split(',').filter_map(bit).fold(0, |bits, (_, condition)| bits | condition.0))
    }

    /// Whether there is no condition.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn has(self, any_of: Self) -> bool {
        self.0 & any_of.0 != 0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How an attempt ended, when it ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The transport failed.
    Upstream(UpstreamFailureKind),
    /// `per_try_timeout` ran out: a reset by us.
    PerTryTimeout,
    /// A circuit-breaker threshold refused the attempt: never retried.
    Overflow,
}

/// What becomes of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again after the back-off; counts `upstream_rq_retry`.
    Retry {
        /// How long to wait; whole milliseconds.
        after: Duration,
    },
    /// No condition holds.
    No,
    /// A condition holds, the retries are used up: flag URX, `upstream_rq_retry_limit_exceeded`.
    LimitExceeded,
    /// A condition holds, the cluster's `max_retries` are in flight: flag UO,
    /// `upstream_rq_retry_overflow`.
    Overflow,
}

/// One exchange's retries.
#[derive(Clone, Debug)]
pub struct RetryState {
    on: RetryOn,
    remaining: u32,
    status_codes: Vec<u16>,
    headers: Vec<HeaderMatcher>,
    back_off: BackOff,
}

impl RetryState {
    /// From the route's policy and the request's own wishes; `None` = nothing is ever retried. The
    /// caller removes [`RETRY_REQUEST_HEADERS`] afterwards.
    #[must_use]
    pub fn new(policy: Option<&RetryPolicy>, request: &Headers) -> Option<Self> {
        let wish = |name| request.get_str(name).map(RetryOn::parse).unwrap_or_default();
        let of_route = policy.map(|policy| RetryOn::parse(&policy.retry_on)).unwrap_or_default();
        let of_request = wish("x-envoy-retry-on").with(wish("x-envoy-retry-grpc-on"));
        let on = of_route.with(of_request);
        if on.is_empty() {
            return None;
        }
        let number = policy.map_or(1, |policy| policy.num_retries);
        let max = request.get_str("x-envoy-max-retries").and_then(|text| text.trim().parse().ok());
        let mut status_codes =
            policy.map(|policy| policy.retriable_status_codes.clone()).unwrap_or_default();
        let more = request.get_str("x-envoy-retriable-status-codes").unwrap_or_default();
        status_codes.extend(more.split(',').filter_map(|code| code.trim().parse::<u16>().ok()));
        Some(Self {
            on,
            remaining: max.unwrap_or(number),
            status_codes,
            headers: policy.map(|policy| policy.retriable_headers.clone()).unwrap_or_default(),
            back_off: BackOff::new(policy.map(|policy| policy.back_off).unwrap_or_default()),
        })
    }

    /// Retries left.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// After response headers. `breaker_has_room` = fewer than `max_retries` are in flight.
    pub fn after_response(
        &mut self,
        response: &Headers,
        breaker_has_room: bool,
        draw: u64,
    ) -> RetryDecision {
        let wanted = self.wants_after_response(response);
        self.decide(wanted, breaker_has_room, draw)
    }

    /// After an attempt without response headers. `request_started` = bytes of it were sent upstream.
    pub fn after_reset(
        &mut self,
        reset: Reset,
        request_started: bool,
        breaker_has_room: bool,
        draw: u64,
    ) -> RetryDecision {
        let wanted = self.wants_after_reset(reset, request_started);
        self.decide(wanted, breaker_has_room, draw)
    }

    fn decide(&mut self, wanted: bool, breaker_has_room: bool, draw: u64) -> RetryDecision {
        if !wanted {
            return RetryDecision::No;
        }
        if self.remaining == 0 {
            return RetryDecision::LimitExceeded;
        }
        // Envoy spends the retry before it asks the breaker.
        self.remaining -= 1;
        if !breaker_has_room {
            return RetryDecision::Overflow;
        }
        RetryDecision::Retry { after: self.back_off.next(draw) }
    }

    fn wants_after_response(&self, response: &Headers) -> bool {
        if response.contains("x-envoy-ratelimited") {
            return self.on.has(RetryOn::ENVOY_RATELIMITED);
        }
        let number = |name| response.get_str(name).and_then(|text| text.parse::<u16>().ok());
        let status = number(":status").unwrap_or(0);
        let listed = |codes: &[u16]| codes.contains(&status);
        (self.on.has(RetryOn::SERVER_ERROR) && (500..600).contains(&status))
            || (self.on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
            // 409 is the only 4xx Envoy holds for retriable.
            || (self.on.has(RetryOn::RETRIABLE_4XX) && status == 409)
            || (self.on.has(RetryOn::RETRIABLE_STATUS_CODES) && listed(&self.status_codes))
            || (self.on.has(RetryOn::RETRIABLE_HEADERS) && self.has_retriable_header(response))
            || number("grpc-status").is_some_and(|status| self.on.has(grpc_condition(status)))
    }

    fn has_retriable_header(&self, response: &Headers) -> bool {
        self.headers.iter().any(|matcher| {
            let values: Vec<String> = response
                .get_all(&matcher.name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .collect();
            let joined = (!values.is_empty()).then(|| values.join(","));
            matcher.matches(joined.as_deref())
        })
    }

    fn wants_after_reset(&self, reset: Reset, request_started: bool) -> bool {
        if reset == Reset::Overflow {
            return false;
        }
        let on = self.on;
        let is_refused = reset == Reset::Upstream(UpstreamFailureKind::RefusedStream);
        let is_connect = matches!(
            reset,
            Reset::Upstream(
                UpstreamFailureKind::ConnectFailure | UpstreamFailureKind::ConnectTimeout
            )
        );
        on.has(RetryOn::RESET.with(RetryOn::SERVER_ERROR).with(RetryOn::GATEWAY_ERROR))
            || (on.has(RetryOn::RESET_BEFORE_REQUEST) && !request_started)
            || (on.has(RetryOn::REFUSED_STREAM) && is_refused)
            || (on.has(RetryOn::CONNECT_FAILURE) && is_connect)
    }
}

/// The condition that retries a gRPC status; none for most.
const fn grpc_condition(status: u16) -> RetryOn {
    match status {
        1 => RetryOn::GRPC_CANCELLED,
        4 => RetryOn::GRPC_DEADLINE_EXCEEDED,
        8 => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        13 => RetryOn::GRPC_INTERNAL,
        14 => RetryOn::GRPC_UNAVAILABLE,
        _ => RetryOn(0),
    }
}

/// Envoy's `JitteredExponentialBackOffStrategy`: uniform in 0..ceiling, in whole milliseconds; the
/// ceiling doubles from the base up to the maximum.
#[derive(Clone, Copy, Debug)]
struct BackOff {
    ceiling_ms: u64,
    max_ms: u64,
}

impl BackOff {
    fn new(config: RetryBackOff) -> Self {
        let millis = |interval: Duration| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let ceiling_ms = millis(config.base_interval).max(1);
        Self { ceiling_ms, max_ms: millis(config.max_interval).max(ceiling_ms) }
    }

    fn next(&mut self, draw: u64) -> Duration {
        let wait = Duration::from_millis(draw % self.ceiling_ms);
        self.ceiling_ms =
            if self.ceiling_ms < self.max_ms / 2 { self.ceiling_ms * 2 } else { self.max_ms };
        wait
    }
}

#[cfg(test)]
mod tests;
