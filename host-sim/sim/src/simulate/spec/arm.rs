//! What is compared: policies that are written here, and plugins as they are shipped.

use crate::scenario::suite::SuiteSpec;
use crate::scenario::value::Span;
use crate::simulate::policy::PolicySpec;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One of the arms. Either `policy` or `plugins`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// How the report calls it.
    pub name: String,
    /// Proxies with a native policy.
    pub policy: Option<PolicySpec>,
    /// With a policy: Envoy's outlier detection beside it. Default none.
    pub outlier_detection: Option<OutlierDetection>,
    /// With a policy: how often a proxy tries again, each time another endpoint, after a failed
    /// connection or a 502, 503 or 504. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 60))]
    pub retries: u32,
    /// Proxies with the plugins of a bootstrap, in host-sim's engine.
    pub plugins: Option<Plugins>,
}

/// Proxies as a bootstrap describes them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plugins {
    /// An Envoy bootstrap, relative to this file, instead of that of `proxies`.
    pub bootstrap: Option<PathBuf>,
    /// The short form of one, instead of that of `proxies`.
    pub suite: Option<SuiteSpec>,
    /// Configurations of plugins by their name, instead of those that stand there.
    #[serde(default)]
    pub configuration: BTreeMap<String, Value>,
}

/// Envoy's `outlier_detection`, as far as it acts on its own. Below half of the endpoints ejections
/// are ignored, as Envoy's panic threshold has it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierDetection {
    /// So many failures in a row eject. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    pub consecutive_5xx: u32,
    /// How often ejected endpoints are looked at. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub interval: Span,
    /// How long the first ejection lasts; the second twice as long. Default `30s`.
    #[serde(default = "thirty_seconds")]
    pub base_ejection_time: Span,
    /// How long one lasts at the most. Default `300s`.
    #[serde(default = "five_minutes")]
    pub max_ejection_time: Span,
    /// Which part of the endpoints may be ejected. Default 10.
    #[serde(default = "ten_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: f64,
}

fn five() -> u32 {
    5
}

fn ten_percent() -> f64 {
    10.0
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

fn thirty_seconds() -> Span {
    Span(Duration::from_secs(30))
}

fn five_minutes() -> Span {
    Span(Duration::from_secs(300))
}
