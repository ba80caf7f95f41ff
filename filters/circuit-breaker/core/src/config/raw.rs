//! The document's form: every field, with its default.

use super::Mode;
use crate::{Jitter, LeaseExpiry};
use plugin_config::Span;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    /// Label `plugin` of metrics.
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) steering: RawSteering,
    pub(super) scopes: Vec<RawScope>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            name: "circuit_breaker".to_owned(),
            mode: Mode::Enforce,
            steering: RawSteering::default(),
            scopes: vec![RawScope::endpoints()],
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSteering {
    /// Request header with the ordered list of endpoints.
    pub(super) header: String,
}

impl Default for RawSteering {
    fn default() -> Self {
        Self { header: "x-gateway-destination-endpoint".to_owned() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScope {
    /// Defaults to `endpoint`, `route` or `cluster`, after `by`.
    pub(super) name: Option<String>,
    pub(super) by: Vec<By>,
    /// Follows from `by`, and may be said.
    pub(super) action: Option<Action>,
    #[serde(default)]
    pub(super) window: RawWindow,
    #[serde(default)]
    pub(super) trip: RawTrip,
    #[serde(default)]
    pub(super) classify: RawClassify,
    #[serde(default)]
    pub(super) open: RawOpen,
    #[serde(default)]
    pub(super) half_open: RawHalfOpen,
    pub(super) reject: Option<RawReject>,
    pub(super) always_keep_one: Option<bool>,
}

impl RawScope {
    fn endpoints() -> Self {
        Self {
            name: None,
            by: vec![By::Cluster, By::Endpoint],
            action: None,
            window: RawWindow::default(),
            trip: RawTrip::default(),
            classify: RawClassify::default(),
            open: RawOpen::default(),
            half_open: RawHalfOpen::default(),
            reject: None,
            always_keep_one: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    Cluster,
    Endpoint,
    Route,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    ExcludeEndpoint,
    Reject,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWindow {
    pub(super) r#type: WindowType,
    /// Long enough for the minimum of calls, short enough to forget a mended fault.
    pub(super) size: Span,
    /// resilience4j's 100 suits a window of 60 s; 20 is Hystrix's, for the same 10 s as here.
    pub(super) minimum_number_of_calls: u32,
}

impl Default for RawWindow {
    fn default() -> Self {
        let size = Span::from_secs(10);
        Self { r#type: WindowType::Time, size, minimum_number_of_calls: 20 }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum WindowType {
    Time,
    /// Known, so that its message can say more than "not known".
    Count,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTrip {
    /// Percent.
    pub(super) failure_rate_threshold: f64,
    /// As Envoy's `consecutive_5xx`; 0 for never.
    pub(super) consecutive_failures: u32,
}

impl Default for RawTrip {
    fn default() -> Self {
        Self { failure_rate_threshold: 50.0, consecutive_failures: 5 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClassify {
    pub(super) failure_statuses: Vec<String>,
    pub(super) ignore_statuses: Vec<String>,
    pub(super) grpc_failures: Vec<String>,
}

impl Default for RawClassify {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            failure_statuses: owned(&["500-599"]),
            ignore_statuses: Vec::new(),
            grpc_failures: owned(&["DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOpen {
    pub(super) base: Span,
    /// As Envoy's `max_ejection_time`.
    pub(super) max: Span,
    pub(super) multiplier: f64,
    #[serde(with = "JitterName")]
    pub(super) jitter: Jitter,
    pub(super) decay_interval: Span,
}

impl Default for RawOpen {
    fn default() -> Self {
        Self {
            base: Span::from_secs(5),
            max: Span::from_secs(300),
            multiplier: 2.0,
            jitter: Jitter::Equal,
            decay_interval: Span::from_secs(60),
        }
    }
}

#[derive(Deserialize)]
#[serde(remote = "Jitter", rename_all = "snake_case")]
enum JitterName {
    None,
    Equal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHalfOpen {
    pub(super) permitted_calls: u16,
    /// Defaults to `permitted_calls`.
    pub(super) max_concurrent: Option<u16>,
    pub(super) permit_lease: Span,
    #[serde(with = "LeaseExpiryName")]
    pub(super) on_lease_expiry: LeaseExpiry,
}

impl Default for RawHalfOpen {
    fn default() -> Self {
        Self {
            permitted_calls: 3,
            max_concurrent: None,
            permit_lease: Span::from_secs(10),
            on_lease_expiry: LeaseExpiry::Failure,
        }
    }
}

#[derive(Deserialize)]
#[serde(remote = "LeaseExpiry", rename_all = "snake_case")]
enum LeaseExpiryName {
    Failure,
    Ignored,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawReject {
    pub(super) status: u16,
    pub(super) retry_after: bool,
    pub(super) body: String,
}

impl Default for RawReject {
    fn default() -> Self {
        Self { status: 503, retry_after: true, body: String::new() }
    }
}
