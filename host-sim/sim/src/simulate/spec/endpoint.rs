//! Endpoints, proxies, and what lies between them.

use crate::scenario::suite::SuiteSpec;
use crate::scenario::value::Span;
use crate::simulate::service_time::ServiceTime;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Endpoints that are alike but for their speed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointGroup {
    /// Name of the group. One of several endpoints has its number behind it: `e0`, `e1`.
    pub name: String,
    /// How many. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub count: usize,
    /// Requests that one works on at a time. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100_000))]
    pub slots: usize,
    /// Requests that wait, first come first served; more are answered 503. Default without bound.
    pub queue: Option<usize>,
    /// How long a request takes.
    pub service_time: ServiceTime,
    /// Whether it works on, in its turn, on what nobody waits for any more, as most servers do.
    /// Default false.
    #[serde(default)]
    pub keeps_working: bool,
    /// Speeds of the first, second, and so on, from the beginning again when there are fewer than
    /// endpoints. At 0.5 everything takes twice as long. Default 1.
    #[serde(default)]
    pub speeds: Vec<f64>,
    /// Where they are, for latencies.
    #[serde(default)]
    pub zone: String,
    /// Envoy's `load_balancing_weight`. Default 1.
    #[serde(default = "one_weight")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: u32,
    /// Whether every answer carries a load report. Default true.
    #[serde(default = "yes")]
    pub orca: bool,
    /// What they answer. Default 200.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
}

impl EndpointGroup {
    /// The speed of one of them.
    pub(crate) fn speed(&self, number: usize) -> f64 {
        let at = number.checked_rem(self.speeds.len());
        at.and_then(|at| self.speeds.get(at)).copied().unwrap_or(1.0)
    }

    /// The name of one of them.
    pub(crate) fn endpoint_name(&self, number: usize) -> String {
        if self.count == 1 { self.name.clone() } else { format!("{}{number}", self.name) }
    }
}

/// What stands between clients and endpoints.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxies {
    /// How many. Each knows only what it sees itself. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub count: usize,
    /// Workers of each, for arms with plugins: each has VMs of its own. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: usize,
    /// Zones of the first, second, and so on, from the beginning again.
    #[serde(default)]
    pub zones: Vec<String>,
    /// An Envoy bootstrap, relative to this file, for arms with plugins that name none.
    pub bootstrap: Option<PathBuf>,
    /// The cluster of the bootstrap that gets the experiment's endpoints, instead of those that
    /// stand there. Default `backend`.
    #[serde(default = "backend")]
    pub cluster: String,
    /// The short form of a bootstrap, as in scenarios.
    pub suite: Option<SuiteSpec>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self {
            count: 1,
            workers: 1,
            zones: Vec::new(),
            bootstrap: None,
            cluster: backend(),
            suite: None,
        }
    }
}

impl Proxies {
    /// The zone of one of them.
    pub(crate) fn zone(&self, number: usize) -> &str {
        let at = number.checked_rem(self.zones.len());
        at.and_then(|at| self.zones.get(at)).map_or("", String::as_str)
    }
}

/// Latencies, one way.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Within a zone, and between zones that `between` does not name. Default 0.
    #[serde(default)]
    pub latency: Span,
    /// Between two zones.
    #[serde(default)]
    pub between: Vec<Link>,
}

/// Two zones.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Two names.
    pub zones: Vec<String>,
    /// From one to the other, either way.
    pub latency: Span,
}

impl Network {
    /// From one zone to another.
    pub(crate) fn latency(&self, from: &str, to: &str) -> Duration {
        let joins = |link: &&Link| match link.zones.as_slice() {
            [one, other] => (one == from && other == to) || (one == to && other == from),
            _ => false,
        };
        self.between.iter().find(joins).map_or(self.latency.0, |link| link.latency.0)
    }
}

fn one() -> usize {
    1
}

fn one_weight() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn ok() -> u16 {
    200
}

fn backend() -> String {
    "backend".to_owned()
}
