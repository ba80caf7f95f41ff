//! The plugin's configuration: parsed once, and then unable to be wrong.
//!
//! One document serves both instances: the upstream one is given the same JSON with
//! `"position": "upstream"`, and takes from it which clusters to watch and what counts as a failure.

mod active;
mod read;
#[cfg(test)]
mod readme;

pub use active::{Active, Extract, PollKind, Query};

use crate::{Signal, StatusRanges};
use core::time::Duration;
use plugin_config::{Parsed, Problems};
use shared_state::Endpoint;

/// The name of a cluster entry that applies to every cluster without one of its own.
pub const ANY_CLUSTER: &str = "*";

/// What the plugin does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Publishes records and strips headers.
    Enforce,
    /// Observes, polls and counts; publishes no endpoint's record and leaves responses as they are.
    Shadow,
    /// Nothing.
    Off,
}

/// Which filter chain the instance sits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The listener's: sees the last attempt of each request, polls, publishes.
    Downstream,
    /// A cluster's: sees every attempt, names the endpoint that served it.
    Upstream,
}

/// What a word in the health answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedState {
    /// Works.
    Healthy,
    /// Works, but badly.
    Degraded,
    /// Wants no new requests.
    Unready,
    /// Counts as a failed poll.
    Down,
}

/// What is done with load reports in response headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orca {
    /// Whether they are read. Default true.
    pub enabled: bool,
    /// Whether an unknown metric rejects the whole report, as Envoy does. Default false: it is
    /// ignored and counted.
    pub strict: bool,
    /// Whether clients are kept from seeing them. Default true.
    pub strip_response_header: bool,
    /// How often an endpoint is asked to report out of band; `None`: it is not.
    pub oob_reporting_period: Option<Duration>,
}

/// How outcomes of ordinary requests count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Whether they count at all.
    pub enabled: bool,
    /// Failures in a row that make an endpoint `Down`.
    pub fall: u32,
    /// Successes after that which bring it back.
    pub rise: u32,
    /// Statuses that are failures of the endpoint.
    pub failure_statuses: StatusRanges,
}

/// How old the result of a poll may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollAge {
    /// So many intervals of that poll.
    Intervals(u32),
    /// So long.
    Span(Duration),
}

impl PollAge {
    /// The limit for a poll with this interval: never so short that one late poll exceeds it.
    pub fn limit(self, interval: Duration) -> Duration {
        let limit = match self {
            Self::Intervals(count) => interval.saturating_mul(count),
            Self::Span(span) => span,
        };
        limit.max(interval.saturating_mul(2))
    }
}

/// How long each kind of evidence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// A load report.
    pub orca: Duration,
    /// The result of a poll.
    pub active: PollAge,
    /// A success or failure of an ordinary request.
    pub passive: Duration,
}

/// From which value on a signal makes an endpoint bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Which signal.
    pub signal: Signal,
    /// Above this it is degraded.
    pub degraded_above: Option<f64>,
    /// Above this it is unready.
    pub unready_above: Option<f64>,
}

/// Time constants by which signals are smoothed while they improve. A worsening is believed twice
/// as fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smoothing {
    /// Of utilizations, rates and custom signals.
    pub utilization: Duration,
    /// Of counts: what waits, is worked on, is connected.
    pub queue_depth: Duration,
    /// Of the measured time to an answer.
    pub latency: Duration,
}

impl Smoothing {
    /// The time constant of a signal.
    pub const fn tau(&self, signal: Signal) -> Duration {
        match signal {
            Signal::Rif | Signal::QueueDepth | Signal::Connections => self.queue_depth,
            _ => self.utilization,
        }
    }
}

/// How coming and going is damped, after RFC 2439.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlapRules {
    /// What each change adds; 0 for no damping.
    pub penalty: f64,
    /// How fast the penalty decays.
    pub half_life: Duration,
    /// Above this an endpoint is suppressed.
    pub suppress: f64,
    /// Below this it no longer is.
    pub reuse: f64,
    /// Longest time that a steady endpoint stays suppressed.
    pub max: Duration,
}

/// What holds for one cluster, or for all that have no entry of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name, or [`ANY_CLUSTER`].
    pub name: String,
    /// Its endpoints; learned from traffic if empty.
    pub endpoints: Vec<Endpoint>,
    /// Evidence from ordinary requests.
    pub passive: Passive,
    /// Evidence from load reports.
    pub orca: Orca,
    /// Evidence from polls.
    pub active: Vec<Active>,
    /// Most polls a second, of all endpoints together.
    pub max_probe_rps: u32,
    /// What signals say of an endpoint's state.
    pub limits: Vec<Limit>,
    /// How signals are smoothed.
    pub smoothing: Smoothing,
    /// How coming and going is damped.
    pub flap: FlapRules,
    /// How long an endpoint that works again is said to ramp up; zero for not at all.
    pub ramp: Duration,
    /// The response header in which an agent may speak.
    pub agent_header: Option<String>,
    /// When evidence gets too old.
    pub staleness: Staleness,
    /// The header by which the cluster's `override_host` policy is steered.
    pub steering_header: String,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Label `plugin` of this instance's metrics.
    pub name: String,
    /// What is done.
    pub mode: Mode,
    /// Where the instance sits.
    pub position: Position,
    /// One entry a cluster.
    pub clusters: Vec<Cluster>,
    /// How long the leader of a cluster leads without renewing.
    pub lease: Duration,
    /// How often workers report and the leader publishes.
    pub publish_interval: Duration,
}

impl Config {
    /// Reads the plugin's configuration, or tells everything that is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Parsed<Self>, Problems> {
        plugin_config::read(bytes, read::config)
    }

    /// The entry that applies to the cluster called `name`.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        let named = |wanted: &str| self.clusters.iter().find(|cluster| cluster.name == wanted);
        named(name).or_else(|| named(ANY_CLUSTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        Config::from_json(json.as_bytes()).unwrap().value
    }

    fn problems(json: &str) -> Vec<String> {
        let problems = Config::from_json(json.as_bytes()).unwrap_err().to_string();
        problems.lines().map(str::to_owned).collect()
    }

    #[test]
    fn nothing_configured_watches_every_cluster_and_polls_none() {
        let config = config("");
        assert_eq!((config.name.as_str(), config.mode), ("health_signal", Mode::Enforce));
        let any = config.cluster("whatever").unwrap();
        assert!(any.passive.enabled && any.orca.enabled && any.active.is_empty());
    }

    #[test]
    fn an_empty_list_of_clusters_is_a_mistake_and_not_all_of_them() {
        let told = problems(r#"{"clusters":[]}"#);
        assert!(told[0].starts_with("/clusters: nothing is watched:"), "{told:?}");
    }

    #[test]
    fn a_clusters_own_entry_beats_the_one_for_all() {
        let config = config(r#"{"clusters":[{"name":"*"},{"name":"a","passive":{"fall":9}}]}"#);
        assert_eq!(config.cluster("a").unwrap().passive.fall, 9);
        assert_eq!(config.cluster("b").unwrap().passive.fall, 3);
        assert_eq!(self::config(r#"{"clusters":[{"name":"a"}]}"#).cluster("b"), None);
    }

    #[test]
    fn the_age_limit_of_polls_is_a_multiple_or_a_duration() {
        let limit = |staleness: &str| {
            let json = format!(
                r#"{{"clusters":[{{"name":"a","active":{{"interval":"10s"}},
                    "staleness":{{"active":"{staleness}"}}}}]}}"#
            );
            Config::from_json(json.as_bytes()).map(|parsed| parsed.value.clusters[0].staleness)
        };
        let seconds = |text: &str, interval| {
            limit(text).unwrap().active.limit(Duration::from_secs(interval)).as_secs()
        };
        assert_eq!((seconds("3x", 10), seconds("3x", 60)), (30, 180));
        assert_eq!((seconds("45s", 10), seconds("45s", 60)), (45, 120));
        for bad in ["x", "3", "1x", "15s", "99999999x"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_mistakes_are_told_with_place_and_mend() {
        let told = problems(
            r#"{"name":"Health","publish_interval":"0.01s","leader":{"lease":"0.5s"},"clusters":[
                {"name":"a","endpoints":["localhost:80"],"steering_header":"X-Steer",
                 "passive":{"fall":0,"failure_statuses":["5xx"]},
                 "active":{"path":"healthz","interval":"1s","timeout":"2s","jitter_percent":80,
                           "extract":{"ready":"ready"},"expect_statuses":"200"}},
                {"name":"a"},{"name":"b*"},{}]}"#,
        );
        for place in [
            "/name:",
            "/publish_interval:",
            "/leader/lease:",
            "/clusters/0/endpoints/0:",
            "/clusters/0/steering_header:",
            "/clusters/0/passive/fall:",
            "/clusters/0/passive/failure_statuses/0:",
            "/clusters/0/active/path:",
            "/clusters/0/active/timeout:",
            "/clusters/0/active/jitter_percent:",
            "/clusters/0/active/extract/ready:",
            "/clusters/1/name:",
            "/clusters/2/name:",
            "/clusters/3/name:",
        ] {
            assert!(told.iter().any(|line| line.starts_with(place)), "{place} in {told:#?}");
        }
        assert_eq!(told.len(), 14, "{told:#?}");
    }

    #[test]
    fn an_unknown_field_is_told_with_what_was_meant() {
        let told = problems(r#"{"clusters":[{"name":"a","active":{"intervall":"5s"}}]}"#);
        assert_eq!(told, ["/clusters/0/active/intervall: unknown field: did you mean 'interval'?"]);
    }
}
