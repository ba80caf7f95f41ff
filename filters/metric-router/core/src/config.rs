//! The configuration, after validation: no value of these types is wrong.

mod read;
#[cfg(test)]
mod readme;

use crate::{DebugHeader, KeyPart, Label, Mechanism, Registry, ServiceConfig};
use core::time::Duration;
use plugin_config::{Parsed, Problems};
use shared_state::Listed;

/// What the plugin was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Label `plugin` of the metrics. Default `metric_router`.
    pub name: String,
    /// Whether picks are acted upon.
    pub mode: Mode,
    /// How a pick reaches the proxy.
    pub steering: Steering,
    /// Which requests leave a line for access logs.
    pub access_log: AccessLog,
    /// Who is told why a request went where it went.
    pub debug_header: DebugHeader,
    /// One entry a cluster; the one named `*` is for all others.
    pub clusters: Vec<ClusterConfig>,
    /// Services that several clusters offer.
    pub services: Vec<ServiceConfig>,
}

/// Whether decisions are acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Picks are written into the steering header.
    Enforce,
    /// Picks are counted and logged, and the header is removed.
    Shadow,
    /// Nothing is picked. The header is removed all the same: whoever left the cluster's policy in
    /// place must not let clients choose endpoints.
    Off,
}

/// Which requests leave a line for access logs. A line costs a hostcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Those that went as no other did: left alone, sent to another part of the cluster than the
    /// first, explained, failed, retried, or served by another endpoint than was picked. Of the
    /// others the line would repeat what the log's own upstream address says. Default.
    Notable,
    /// All.
    All,
}

/// How a pick reaches the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// Who is told. Default `override_host`.
    pub mechanism: Mechanism,
    /// The request header that the cluster's `override_host` policy reads, or the session filter.
    pub header: String,
    /// Endpoints a list names at most, 1 to 8. Default 3: the first attempt and two retries. 1 where
    /// the mechanism knows no lists.
    pub max_endpoints: usize,
}

/// How endpoints of one cluster are picked.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// The cluster's name, or `*`.
    pub name: String,
    /// How the first endpoint is chosen.
    pub policy: Policy,
    /// Which endpoints there are.
    pub endpoints: Endpoints,
    /// The release that is being tried, if one is.
    pub canary: Option<Canary>,
    /// Whether the proxy's own zone is preferred, and how.
    pub locality: Option<Locality>,
    /// How far fit endpoints of a priority make up for unfit ones, 1 to 10. Default 1.4, as Envoy's.
    pub overprovisioning: f64,
    /// How often the snapshot is rebuilt, 0.01 s to 10 s. Default 0.1 s.
    pub update_interval: Duration,
    /// Share of known endpoints, 0 to 100, below which nothing is steered. Default 50, as Envoy's.
    pub healthy_panic_threshold: f64,
    /// Share of known endpoints, 0 to 100, that may be left out for being bad. Default 100: one is kept
    /// in any case, and below the panic threshold nothing is steered.
    pub max_ejection_percent: f64,
    /// How an endpoint that came back is taken up.
    pub slow_start: SlowStart,
    /// How load reports become weights.
    pub load_reports: LoadReports,
    /// How latency and errors become costs.
    pub least_cost: LeastCost,
    /// How peaks of latency become costs.
    pub peak_ewma: PeakEwmaRules,
    /// What ties a request to an endpoint.
    pub consistent_hash: ConsistentHash,
    /// Which policy fits.
    pub auto: AutoRules,
    /// How reports of load are used.
    pub hot_cold: HotCold,
}

/// How the first endpoint of a list is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Least cost where this proxy sees most of the endpoints' traffic, hot and cold where it sees a
    /// slice.
    #[default]
    Auto,
    /// Where the request is expected to be done first.
    LeastCost,
    /// The fastest of those that report no more load than most.
    HotCold,
    /// In turn, in proportion to weights made of load reports.
    WeightedRoundRobin,
    /// Where the latest peak of latency, times what waits, is least.
    PeakEwma,
    /// The same client to the same endpoint.
    ConsistentHash,
    /// Anyone.
    Random,
}

impl Policy {
    /// The name in configurations and access logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::LeastCost => "least_cost",
            Self::HotCold => "hot_cold",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash => "consistent_hash",
            Self::Random => "random",
        }
    }
}

/// Where the list of endpoints comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoints {
    /// The configuration, in order of address.
    Static(Vec<Listed>),
    /// A registry, which is asked over HTTP.
    Registry(Registry),
    /// Traffic: each response names the endpoint that served it.
    Learned {
        /// Least share of requests, 0 to 1, left unsteered while endpoints are missing. Default
        /// 0.05.
        exploration: f64,
        /// Share of requests, 0 to 1, left unsteered for ever, to notice an endpoint that was
        /// replaced by another. Default 0.005.
        verification: f64,
    },
}

/// A release that gets a share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// What its endpoints are labelled with.
    pub label: Label,
    /// Share of the requests, 0 to 1.
    pub share: f64,
    /// Parts of the request by which a client stays with one release; none to draw.
    pub sticky: Vec<KeyPart>,
}

/// How the proxy's own zone is preferred.
#[derive(Clone, Debug, PartialEq)]
pub struct Locality {
    /// The proxy's zone; `None` to take that of the node.
    pub zone: Option<String>,
    /// Load from which the zone is full, above 0 to 1. Default 0.8.
    pub full_at: f64,
    /// Requests that the average endpoint works on at once: what is full where none reports its
    /// utilization, 1 to 100 000. Default 8.
    pub endpoint_concurrency: u32,
}

/// How an endpoint that came, or came back, is taken up: Envoy's `slow_start_config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long its weight grows. Zero switches this off. Default 10 s.
    pub window: Duration,
    /// Weight that it starts with, as a share of its own, above 0 to 1. Default 0.1.
    pub min_weight: f64,
    /// How the ramp is bent: above 1 it rises sooner, below 1 later. Default 1, linear.
    pub aggression: f64,
}

/// How load reports become weights: the fields of Envoy's `client_side_weighted_round_robin`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReports {
    /// How often new weights are taken up, 0.1 s to 3600 s. Default 1 s.
    pub weight_update_period: Duration,
    /// How long an endpoint must report before its weight is used. Default 10 s.
    pub blackout_period: Duration,
    /// How long a report is used. Default 180 s.
    pub weight_expiration_period: Duration,
    /// How much an error share of 1 adds to utilization. Default 1.
    pub error_utilization_penalty: f64,
    /// Named metrics that are utilizations; the greatest counts. Default none: the application's
    /// utilization, else the CPU's.
    pub metric_names: Vec<String>,
}

/// How latency and errors become costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastCost {
    /// What a failed attempt took, at the least, where nothing is known yet: failing fast is not
    /// being fast. Default 0.03 s.
    pub default_latency: Duration,
    /// Time constant of error ratios, and with which a service time fades while nothing is sent.
    /// Default 4 s: short, because what was slow gets few requests, and must be able to show with
    /// these that it no longer is.
    pub decay_time: Duration,
    /// An endpoint with error ratio `e` costs `1 + error_penalty * e` times as much. Default 10.
    pub error_penalty: f64,
    /// Up to so many candidates all are looked at. Default 64.
    pub full_scan_max: usize,
    /// How many are looked at where there are more; 0 for the logarithm of their number. Default 0.
    pub choice_count: usize,
}

impl LeastCost {
    /// Time constant of service times. Where changes of speed are noticed, a longer one, which is less
    /// at the mercy of chance, costs nothing.
    pub(crate) fn service_time_decay(&self, notices_changes: bool) -> Duration {
        if notices_changes { self.decay_time + self.decay_time } else { self.decay_time }
    }

    /// Time constant of the error ratio of an endpoint that nothing is sent to. Errors keep requests
    /// away at a low load even when few of them are left, and it takes five times this until it is
    /// tried again.
    pub(crate) fn forgiveness(&self) -> Duration {
        self.decay_time / 4
    }
}

/// How peaks of latency become costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwmaRules {
    /// Time constant with which a peak fades. Default 10 s.
    pub decay_time: Duration,
    /// Latency of an endpoint that has never answered. Default 0.03 s.
    pub default_rtt: Duration,
    /// Up to so many candidates all are looked at. Default 8: of fewer, a sample of two takes the
    /// busier one too often.
    pub full_scan_max: usize,
    /// How many are looked at where there are more. Default 2.
    pub choice_count: usize,
}

/// Which policy fits: by this proxy's share of the traffic that its endpoints report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoRules {
    /// Share, 0 to 1, from which on it is a gateway. Default 0.5.
    pub gateway_share: f64,
    /// Share below which it is one of many; less than `gateway_share`. Default 0.2.
    pub mesh_share: f64,
}

/// How reports of load are used.
#[derive(Clone, Debug, PartialEq)]
pub struct HotCold {
    /// Latest reports that a pick chooses among, at most. Default 16.
    pub pool_size: usize,
    /// Share of the endpoints that are cold, above 0 to 1. Default 0.84.
    pub rif_quantile: f64,
    /// Age up to which a report is used. Default 1 s.
    pub max_report_age: Duration,
    /// How often a report is used. Default 2.
    pub max_reuse: usize,
    /// With fewer reports the pick is one of least cost. Default 2.
    pub min_pool: usize,
    /// Named metric of requests in flight. Default `named_metrics.rif`.
    pub rif_metric: String,
    /// Named metric of latency. Default `named_metrics.latency`.
    pub latency_metric: String,
}

/// What ties a request to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsistentHash {
    /// Parts of the request; with the policy `consistent_hash` at least one.
    pub key: Vec<KeyPart>,
    /// Percentage of the average load up to which an endpoint takes requests, at least 100; 0 for no
    /// bound. Default 150.
    pub balance_factor: u32,
}

impl Config {
    /// Reads the configuration, or tells everything that is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Parsed<Self>, Problems> {
        plugin_config::read(bytes, read::config)
    }

    /// The entry for `cluster`.
    pub fn cluster(&self, cluster: &str) -> Option<&ClusterConfig> {
        let named = |name: &str| self.clusters.iter().find(|entry| entry.name == name);
        named(cluster).or_else(|| named("*"))
    }

    /// True if requests go where picks say.
    pub const fn is_enforced(&self) -> bool {
        matches!(self.mode, Mode::Enforce) && self.steering.mechanism.steers()
    }

    /// True if a request costs so many hostcalls whatever happens that few are left for the clock.
    pub fn is_thrifty(&self) -> bool {
        self.minds_routes() || self.access_log == AccessLog::All || !self.is_enforced()
    }

    /// True if a service minds which route a request takes.
    pub fn minds_routes(&self) -> bool {
        self.services.iter().any(|service| !service.routes.is_empty())
    }

    /// Parts of requests that tie them to endpoints or releases, by any entry. Some may come twice.
    pub fn key_parts(&self) -> impl Iterator<Item = &KeyPart> {
        self.clusters.iter().flat_map(|entry| {
            let hashes = entry.policy == Policy::ConsistentHash;
            let key = hashes.then_some(&entry.consistent_hash.key);
            let sticky = entry.canary.as_ref().map(|canary| &canary.sticky);
            key.into_iter().chain(sticky).flatten()
        })
    }

    /// How often the plugin must wake up.
    pub fn tick_period(&self) -> Duration {
        self.clusters.iter().map(|entry| entry.update_interval).min().unwrap_or(DEFAULT_UPDATE)
    }
}

const DEFAULT_UPDATE: Duration = Duration::from_millis(100);
