//! `envoy.config.route.v3.RetryPolicy`.

use std::time::Duration;

use crate::HeaderMatcher;
use crate::header_matcher::HEADER_MATCHER;
use crate::reader::{Message, Reader};
use crate::schema;

/// The conditions `retry_on` may name. Envoy silently ignores all others; a typo there turns
/// retries off, so here it is an error.
pub const RETRY_CONDITIONS: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// `envoy.config.route.v3.RetryPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Comma-separated conditions, as written.
    pub retry_on: String,
    /// Retries after the first attempt. Default 1.
    pub num_retries: u32,
    /// Each attempt's own limit; `None` = only the route's.
    pub per_try_timeout: Option<Duration>,
    /// Waiting times.
    pub back_off: RetryBackOff,
    /// `envoy.retry_host_predicates.previous_hosts`: avoid hosts already tried.
    pub previous_hosts: bool,
    /// How often host selection is repeated when a predicate rejects. Default 1.
    pub host_selection_retry_max_attempts: u32,
    /// For the condition `retriable-status-codes`.
    pub retriable_status_codes: Vec<u16>,
    /// For the condition `retriable-headers`.
    pub retriable_headers: Vec<HeaderMatcher>,
}

/// `RetryBackOff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBackOff {
    /// First step, at least 1 ms. Default 25 ms.
    pub base_interval: Duration,
    /// Largest step. Default ten times the base.
    pub max_interval: Duration,
}

impl Default for RetryBackOff {
    fn default() -> Self {
        Self { base_interval: Duration::from_millis(25), max_interval: Duration::from_millis(250) }
    }
}

pub(crate) const RETRY_POLICY: Message<RetryPolicy> =
    Message { name: "envoy.config.route.v3.RetryPolicy", read: retry_policy };

const BACK_OFF: Message<RetryBackOff> =
    Message { name: "envoy.config.route.v3.RetryPolicy.RetryBackOff", read: back_off };

const HOST_PREDICATE: Message<()> = Message {
    name: "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    read: |message| {
        message.required_text("name");
        message.extension("typed_config", &[PREVIOUS_HOSTS])
    },
};

const PREVIOUS_HOSTS: Message<()> = Message {
    name: "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    read: |_| Some(()),
};

fn retry_policy(message: &mut Reader<'_>) -> Option<RetryPolicy> {
    let retry_on = message.text("retry_on");
    for condition in retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if !RETRY_CONDITIONS.contains(&condition) {
            let hint = match schema::nearest(condition, RETRY_CONDITIONS.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known: {}", RETRY_CONDITIONS.join(", ")),
            };
            message.problem_at("retry_on", format!("'{condition}' is no retry condition; {hint}"));
        }
    }
    let codes = message.integers("retriable_status_codes", 100..=999);
    let attempts = message.signed("host_selection_retry_max_attempts");
    let back_off = message.message("retry_back_off", BACK_OFF);
    Some(RetryPolicy {
        retry_on,
        num_retries: message.integer("num_retries", 0..=u32::MAX).unwrap_or(1),
        per_try_timeout: message.limit("per_try_timeout", None),
        back_off: back_off.unwrap_or_default(),
        previous_hosts: !message.list("retry_host_predicate", HOST_PREDICATE).is_empty(),
        host_selection_retry_max_attempts: u32::try_from(attempts)
            .ok()
            .filter(|attempts| *attempts > 0)
            .unwrap_or(1),
        retriable_status_codes: codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect(),
        retriable_headers: message.list("retriable_headers", HEADER_MATCHER),
    })
}

fn back_off(message: &mut Reader<'_>) -> Option<RetryBackOff> {
    const LEAST: Duration = Duration::from_millis(1);
    let base = message.positive_duration("base_interval");
    let max = message.positive_duration("max_interval");
    if !message.has("base_interval") {
        message.problem("field 'base_interval' is required");
    }
    // Envoy rounds a shorter step up to its timers' resolution.
    let base_interval = base?.max(LEAST);
    let max_interval = max.map_or(base_interval.saturating_mul(10), |max| max.max(LEAST));
    if max_interval < base_interval {
        message.problem_at("max_interval", "must not be below 'base_interval'");
    }
    Some(RetryBackOff { base_interval, max_interval })
}
