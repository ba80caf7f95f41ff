//! What is compared: the proxy's own policies, an oracle, and the suite.

use crate::Suite;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A policy in the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Arm {
    /// Envoy's ROUND_ROBIN.
    RoundRobin,
    /// Envoy's LEAST_REQUEST with two choices.
    LeastRequest,
    /// Envoy's LEAST_REQUEST, which looks at all: the one to beat.
    FullScan,
    /// Envoy's `client_side_weighted_round_robin`, with a blackout of 0.1 s for short runs.
    Cswrr,
    /// ROUND_ROBIN with outlier detection's defaults.
    RoundRobinEjects,
    /// LEAST_REQUEST with them.
    LeastRequestEjects,
    /// Full scan with them.
    FullScanEjects,
    /// Steered from outside with perfect knowledge: a bound, not a rival.
    Oracle,
    /// metric-router's default, circuit-breaker and health-signal.
    Weir,
    /// The same, each module with a `vm_id` of its own: nothing is shared but by headers.
    WeirPrivate,
}

impl Arm {
    /// Those whose latencies are compared.
    pub const LATENCY: [Self; 6] = [
        Self::RoundRobin,
        Self::LeastRequest,
        Self::FullScan,
        Self::Cswrr,
        Self::Oracle,
        Self::Weir,
    ];

    /// Those whose failures are.
    pub const FAILURES: [Self; 8] = [
        Self::RoundRobin,
        Self::LeastRequest,
        Self::FullScan,
        Self::RoundRobinEjects,
        Self::LeastRequestEjects,
        Self::FullScanEjects,
        Self::Weir,
        Self::WeirPrivate,
    ];

    /// Those that are compared while endpoints die in turn and the proxy retries.
    pub const CYCLES: [Self; 5] =
        [Self::RoundRobin, Self::FullScan, Self::FullScanEjects, Self::Weir, Self::WeirPrivate];

    /// As reports and arguments call it, and as experiment files do.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::FullScan => "full_scan",
            Self::Cswrr => "cswrr",
            Self::RoundRobinEjects => "round_robin_ejects",
            Self::LeastRequestEjects => "least_request_ejects",
            Self::FullScanEjects => "full_scan_ejects",
            Self::Oracle => "oracle",
            Self::Weir => "weir",
            Self::WeirPrivate => "weir_private",
        }
    }

    /// Whether it is a policy of the proxy's own, that may be the best of them.
    pub const fn is_native(self) -> bool {
        !matches!(self, Self::Oracle | Self::Weir | Self::WeirPrivate)
    }

    /// The proxy with it, without retries.
    pub fn suite(self, endpoints: &[SocketAddr]) -> Suite {
        let high = json!({"priority": "DEFAULT", "max_connections": 100_000,
            "max_pending_requests": 100_000, "max_requests": 100_000, "max_retries": 100_000});
        let suite = Suite::new(endpoints)
            .route("timeout", json!("15s"))
            .backend("circuit_breakers", json!({"thresholds": [high]}));
        let native = |suite: Suite, name: &str, kind: &str, mut config: Value| {
            let package = format!("envoy.extensions.load_balancing_policies.{name}.v3");
            config["@type"] = json!(format!("type.googleapis.com/{package}.{kind}"));
            let extension = json!({
                "name": format!("envoy.load_balancing_policies.{name}"),
                "typed_config": config,
            });
            let policies = json!({"policies": [{"typed_extension_config": extension}]});
            suite.backend("load_balancing_policy", policies)
        };
        let full_scan = json!({"selection_method": "FULL_SCAN"});
        match self {
            Self::RoundRobin => native(suite, "round_robin", "RoundRobin", json!({})),
            Self::LeastRequest => native(suite, "least_request", "LeastRequest", json!({})),
            Self::FullScan => native(suite, "least_request", "LeastRequest", full_scan),
            Self::Cswrr => native(
                suite,
                "client_side_weighted_round_robin",
                "ClientSideWeightedRoundRobin",
                json!({"blackout_period": "0.1s"}),
            ),
            Self::RoundRobinEjects => Self::RoundRobin.ejecting(endpoints),
            Self::LeastRequestEjects => Self::LeastRequest.ejecting(endpoints),
            Self::FullScanEjects => Self::FullScan.ejecting(endpoints),
            Self::Oracle => suite,
            Self::Weir => suite
                .filter("metric-router", json!({"clusters": [{"name": "backend"}]}))
                .filter("circuit-breaker", json!({}))
                .filter("health-signal", json!({"clusters": [{"name": "backend"}]}))
                .upstream_health_signal(),
            Self::WeirPrivate => suite
                .private_filter("metric-router", json!({"clusters": [{"name": "backend"}]}))
                .private_filter("circuit-breaker", json!({}))
                .private_filter("health-signal", json!({"clusters": [{"name": "backend"}]}))
                .private_upstream_health_signal(),
        }
    }

    fn ejecting(self, endpoints: &[SocketAddr]) -> Suite {
        self.suite(endpoints).backend("outlier_detection", json!({}))
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Arm> for String {
    fn from(arm: Arm) -> Self {
        arm.name().to_owned()
    }
}

impl TryFrom<String> for Arm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Arm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::LATENCY.into_iter().chain(Self::FAILURES);
        all.find(|arm| arm.name() == text).ok_or_else(|| {
            let names: Vec<_> =
                Self::LATENCY.iter().chain(&Self::FAILURES).map(|arm| arm.name()).collect();
            format!("no arm '{text}': there are {}", names.join(", "))
        })
    }
}
