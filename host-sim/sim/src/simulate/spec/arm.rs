//! What is compared: policies that are written here, and plugins as they are shipped.

use crate::scenario::suite::SuiteSpec;
use crate::scenario::value::Span;
use crate::simulate::gate::{AdaptiveConcurrency, AdmissionControl, CircuitBreakers, HealthChecks};
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
    /// With a policy: Envoy's active health checks. Default none.
    pub health_checks: Option<HealthChecks>,
    /// With a policy: Envoy's thresholds of the cluster, `{}` for its defaults. Default without.
    pub circuit_breakers: Option<CircuitBreakers>,
    /// With a policy: Envoy's filter of that name in front. Default none.
    pub admission_control: Option<AdmissionControl>,
    /// With a policy: Envoy's filter of that name in front. Default none.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// With a policy: how long a proxy waits for each attempt; what takes longer is a 504 to it, and
    /// tried again as such. Default for ever.
    pub per_try_timeout: Option<Span>,
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

/// Envoy's `outlier_detection`, with its fields and defaults. Failed connections count as 503. Below
/// half of the endpoints ejections are ignored, as Envoy's panic threshold has it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierDetection {
    /// So many failures in a row eject. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    pub consecutive_5xx: u32,
    /// How many of 100 times they do. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub enforcing_consecutive_5xx: f64,
    /// So many of 502, 503 and 504 in a row eject. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    pub consecutive_gateway_failure: u32,
    /// How many of 100 times they do. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub enforcing_consecutive_gateway_failure: f64,
    /// How often success rates are compared, and ejected endpoints looked at. Default `10s`.
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
    /// Whether one may be ejected whatever the percentage. Default false.
    #[serde(default)]
    pub always_eject_one_host: bool,
    /// How many of 100 times a poor success rate ejects. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub enforcing_success_rate: f64,
    /// Endpoints that must have answered often enough for success rates to be compared. Default 5.
    #[serde(default = "five")]
    pub success_rate_minimum_hosts: u32,
    /// How often is enough, in an interval. Default 100.
    #[serde(default = "hundred_times")]
    pub success_rate_request_volume: u32,
    /// Thousandths of a standard deviation below the mean, from which on a success rate is poor.
    /// Default 1900.
    #[serde(default = "nineteen_hundred")]
    pub success_rate_stdev_factor: u32,
    /// Which percentage of failures ejects. Default 85.
    #[serde(default = "eighty_five")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_percentage_threshold: f64,
    /// How many of 100 times it does. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub enforcing_failure_percentage: f64,
    /// Endpoints that must have answered often enough for it. Default 5.
    #[serde(default = "five")]
    pub failure_percentage_minimum_hosts: u32,
    /// How often is enough, in an interval. Default 50.
    #[serde(default = "fifty_times")]
    pub failure_percentage_request_volume: u32,
}

fn hundred() -> f64 {
    100.0
}

fn eighty_five() -> f64 {
    85.0
}

fn hundred_times() -> u32 {
    100
}

fn fifty_times() -> u32 {
    50
}

fn nineteen_hundred() -> u32 {
    1900
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
