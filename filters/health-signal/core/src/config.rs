//! The plugin's configuration: parsed once, and then unable to be wrong.
//!
//! One document serves both instances: the upstream one is given the same JSON with
//! `"position": "upstream"`, and takes from it which clusters to watch, what counts as a failure,
//! and which path is a poll and not traffic.

mod read;

use crate::StatusRanges;
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

/// What a poll asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollKind {
    /// A status and a JSON document.
    HttpJson,
    /// A status; the body is not read.
    Http,
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
}

/// RFC 6901 pointers to what the health answer holds. A field that is absent there says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// A word, looked up in `status_map`.
    pub status: String,
    /// A boolean: false means that the endpoint drains.
    pub ready: String,
    /// Requests that wait inside the endpoint.
    pub queue_depth: String,
    /// Connections that the endpoint has open.
    pub connections: String,
    /// A value that changes while the endpoint is alive.
    pub timestamp: String,
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

/// How endpoints are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// What is asked for.
    pub kind: PollKind,
    /// The request's `:path`.
    pub path: String,
    /// The request's `:authority`; the cluster's name if `None`.
    pub host: Option<String>,
    /// Mean time between two polls of one endpoint.
    pub interval: Duration,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// How far a single gap may lie from `interval`, in percent of it.
    pub jitter_percent: u32,
    /// Good polls in a row that bring an endpoint back.
    pub rise: u32,
    /// Failed polls in a row that make it `Down`.
    pub fall: u32,
    /// Statuses whose answer is good, or is read on.
    pub expect_statuses: StatusRanges,
    /// What the words of the answer mean, in lower case.
    pub status_map: Vec<(String, ReportedState)>,
    /// Where the answer holds what.
    pub extract: Extract,
    /// How long the answer's timestamp may stand still.
    pub frozen_after: Duration,
}

/// How long each kind of evidence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// A load report.
    pub orca: Duration,
    /// The result of a poll.
    pub active: Duration,
    /// A success or failure of an ordinary request.
    pub passive: Duration,
}

/// What holds for one cluster, or for all that have no entry of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name, or [`ANY_CLUSTER`].
    pub name: String,
    /// Its endpoints; learned from traffic if empty.
    pub endpoints: Vec<Endpoint>,
    /// Evidence from ordinary requests.
    pub passive: Passive,
    /// Evidence from load reports.
    pub orca: Orca,
    /// Evidence from polls; none if `None`.
    pub active: Option<Active>,
    /// When evidence gets too old.
    pub staleness: Staleness,
    /// The header by which the cluster's `override_host` policy is steered.
    pub steering_header: String,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        assert!(any.passive.enabled && any.orca.enabled && any.active.is_none());
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
        assert_eq!(limit("3x").unwrap().active, Duration::from_secs(30));
        assert_eq!(limit("45s").unwrap().active, Duration::from_secs(45));
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
    fn the_examples_of_the_readme_are_accepted() {
        let readme = include_str!("../../README.md");
        let examples = readme.split("```json").skip(1).filter_map(|rest| rest.split("```").next());
        assert!(examples.map(config).count() > 0);
    }

    #[test]
    fn the_readme_names_every_field() {
        let readme = include_str!("../../README.md");
        let source = include_str!("config/read.rs");
        let calls = source.split("fields.").skip(1).filter_map(|call| call.split_once('('));
        let fields: Vec<_> = calls
            .filter_map(|(_, arguments)| arguments.trim_start().strip_prefix('"')?.split_once('"'))
            .map(|(field, _)| field)
            .collect();
        assert!(fields.len() > 30, "{fields:?}");
        for field in fields.into_iter().chain(["queue_depth"]) {
            assert!(readme.contains(field), "{field}");
        }
    }

    #[test]
    fn an_unknown_field_is_told_with_what_was_meant() {
        let told = problems(r#"{"clusters":[{"name":"a","active":{"intervall":"5s"}}]}"#);
        assert_eq!(told, ["/clusters/0/active/intervall: unknown field: did you mean 'interval'?"]);
    }
}
