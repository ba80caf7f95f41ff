//! The configuration: what cannot be wrong once it is read.
//!
//! [`Config::from_json`] is the only way in. The document's form stands in `read`, with Envoy's and
//! resilience4j's field names, all ranges and all defaults.

mod read;

use crate::Rules;
use crate::class::Classify;
use plugin_config::{Parsed, Problems};

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decide, count, act.
    Enforce,
    /// Decide and count.
    Shadow,
    /// Do nothing.
    Off,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Label `plugin` of metrics.
    pub name: String,
    /// Whether decisions are acted on.
    pub mode: Mode,
    /// Request header with the ordered list of endpoints.
    pub steering_header: String,
    /// Breakers of endpoints.
    pub endpoints: Option<EndpointScope>,
    /// Breakers of routes or clusters.
    pub guard: Option<GuardScope>,
}

/// One kind of breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    /// Its name, part of shared-data keys and a label of metrics.
    pub name: String,
    /// When its breakers change their state.
    pub rules: Rules,
    /// What they count.
    pub classify: Classify,
}

/// Breakers of endpoints: an open one is taken out of the steering header.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointScope {
    /// What it shares with every scope.
    pub scope: Scope,
    /// Leave one endpoint in the list even if all of them reject.
    pub always_keep_one: bool,
}

/// Breakers of routes or clusters: an open one answers.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardScope {
    /// What it shares with every scope.
    pub scope: Scope,
    /// What has a breaker.
    pub by: GuardedBy,
    /// The answer.
    pub reject: Rejection,
}

/// What a guard has one breaker for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedBy {
    /// Each route; one without a name is known by its cluster.
    Route,
    /// Each cluster.
    Cluster,
}

/// The answer of an open breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Status of a plain HTTP response.
    pub status: u16,
    /// Say `Retry-After`.
    pub retry_after: bool,
    /// Body.
    pub body: String,
}

impl Config {
    /// Reads a plugin configuration. Nothing reads as the defaults: breakers of endpoints.
    pub fn from_json(bytes: &[u8]) -> Result<Parsed<Self>, Problems> {
        plugin_config::read(bytes, read::config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Jitter, LeaseExpiry};
    use core::time::Duration;

    fn config(json: &str) -> Config {
        Config::from_json(json.as_bytes()).unwrap().value
    }

    fn problems(json: &str) -> Vec<String> {
        let problems = Config::from_json(json.as_bytes()).unwrap_err();
        problems.0.iter().map(ToString::to_string).collect()
    }

    fn one_problem(scope: &str) -> String {
        let told = problems(&format!(r#"{{"scopes":[{scope}]}}"#));
        assert_eq!(told.len(), 1, "{told:?}");
        told.into_iter().next().unwrap()
    }

    #[test]
    fn nothing_configures_breakers_of_endpoints_with_the_documented_defaults() {
        let config = config("");
        assert_eq!((config.name.as_str(), config.mode), ("circuit_breaker", Mode::Enforce));
        assert_eq!(config.steering_header, "x-gateway-destination-endpoint");
        assert_eq!(config.guard, None);
        let endpoints = config.endpoints.unwrap();
        assert!(endpoints.always_keep_one);
        let Scope { name, rules, classify } = endpoints.scope;
        assert_eq!(name, shared_state::DEFAULT_ENDPOINT_SCOPE);
        assert_eq!(rules.window, Duration::from_secs(10));
        assert_eq!((rules.minimum_number_of_calls, rules.consecutive_failures), (20, 5));
        assert_eq!(rules.failure_rate_threshold, 50.0);
        assert_eq!(rules.backoff.base, Duration::from_secs(5));
        assert_eq!(rules.backoff.max, Duration::from_secs(300));
        assert_eq!((rules.backoff.multiplier, rules.backoff.jitter), (2.0, Jitter::Equal));
        assert_eq!(rules.decay_interval, Duration::from_secs(60));
        assert_eq!((rules.permitted_calls, rules.max_concurrent), (3, 3));
        assert_eq!(rules.permit_lease, Duration::from_secs(10));
        assert_eq!(rules.on_lease_expiry, LeaseExpiry::Failure);
        assert!(
            classify.failure_statuses.contains(500) && !classify.failure_statuses.contains(499)
        );
        assert_eq!(classify.grpc_failures, 1 << 4 | 1 << 13 | 1 << 14 | 1 << 15);
    }

    #[test]
    fn a_route_scope_answers_503_with_retry_after() {
        let guard = config(r#"{"scopes":[{"by":["route"]}]}"#).guard.unwrap();
        assert_eq!((guard.scope.name.as_str(), guard.by), ("route", GuardedBy::Route));
        assert_eq!(guard.reject, Rejection { status: 503, retry_after: true, body: String::new() });
    }

    #[test]
    fn one_scope_of_each_action_may_stand_side_by_side() {
        let json = r#"{"mode":"shadow","name":"cb","steering":{"header":"x-to"},"scopes":[
            {"name":"ep","by":["cluster","endpoint"],"action":"exclude_endpoint","always_keep_one":false},
            {"name":"cl","by":["cluster"],"action":"reject","reject":{"status":429,"body":"busy"},
             "window":{"type":"time","size":"30s","minimum_number_of_calls":5},
             "trip":{"failure_rate_threshold":12.5,"consecutive_failures":0},
             "open":{"base":"1s","max":"2s","multiplier":1,"jitter":"none","decay_interval":"1s"},
             "half_open":{"permitted_calls":5,"max_concurrent":2,"permit_lease":"3s","on_lease_expiry":"ignored"}}]}"#;
        let config = config(json);
        let guard = config.guard.unwrap();
        assert_eq!(guard.by, GuardedBy::Cluster);
        assert_eq!(guard.scope.rules.failure_rate_threshold, 12.5);
        assert_eq!(guard.scope.rules.max_concurrent, 2);
        assert!(!config.endpoints.unwrap().always_keep_one);
    }

    #[test]
    fn a_count_window_is_refused_with_the_mend() {
        assert_eq!(
            one_problem(r#"{"by":["route"],"window":{"type":"count"}}"#),
            "/scopes/0/window/type: 'count' is not supported: use \"time\", whose size is a duration"
        );
    }

    #[test]
    fn a_threshold_of_zero_and_beyond_all_are_refused() {
        for bad in ["0", "-1", "100.5"] {
            let scope = format!(r#"{{"by":["route"],"trip":{{"failure_rate_threshold":{bad}}}}}"#);
            assert!(one_problem(&scope).starts_with("/scopes/0/trip/failure_rate_threshold: "));
        }
    }

    #[test]
    fn ranges_name_their_field() {
        for (json, pointer) in [
            (r#""window":{"size":"0.5s"}"#, "window/size"),
            (r#""window":{"size":"3601s"}"#, "window/size"),
            (r#""window":{"minimum_number_of_calls":0}"#, "window/minimum_number_of_calls"),
            (r#""open":{"base":"10s","max":"5s"}"#, "open/base"),
            (r#""open":{"base":"0s"}"#, "open/base"),
            (r#""open":{"multiplier":0.5}"#, "open/multiplier"),
            (r#""half_open":{"permitted_calls":0}"#, "half_open/permitted_calls"),
            (r#""half_open":{"permitted_calls":33}"#, "half_open/permitted_calls"),
            (r#""half_open":{"max_concurrent":4}"#, "half_open/max_concurrent"),
            (r#""half_open":{"permit_lease":"0.01s"}"#, "half_open/permit_lease"),
            (r#""reject":{"status":200}"#, "reject/status"),
            (r#""classify":{"failure_statuses":["5xx"]}"#, "classify/failure_statuses/0"),
            (r#""classify":{"ignore_statuses":["501"]}"#, "classify/ignore_statuses"),
            (r#""classify":{"grpc_failures":["UNAVAILABEL"]}"#, "classify/grpc_failures/0"),
            (r#""name":"Ü""#, "name"),
        ] {
            let problem = one_problem(&format!(r#"{{"by":["route"],{json}}}"#));
            assert!(problem.starts_with(&format!("/scopes/0/{pointer}: ")), "{json}: {problem}");
        }
    }

    #[test]
    fn what_has_a_breaker_must_be_known() {
        for by in [r#"["endpoint"]"#, "[]", r#"["route","endpoint"]"#] {
            assert!(
                one_problem(&format!(r#"{{"by":{by}}}"#)).starts_with("/scopes/0/by: "),
                "{by}"
            );
        }
    }

    #[test]
    fn an_action_that_does_not_fit_is_told() {
        let problem = one_problem(r#"{"by":["route"],"action":"exclude_endpoint"}"#);
        assert!(problem.starts_with("/scopes/0/action: "), "{problem}");
        let problem = one_problem(r#"{"by":["route"],"always_keep_one":true}"#);
        assert!(problem.starts_with("/scopes/0/always_keep_one: "), "{problem}");
        let problem = one_problem(r#"{"by":["cluster","endpoint"],"reject":{}}"#);
        assert!(problem.starts_with("/scopes/0/reject: "), "{problem}");
    }

    #[test]
    fn two_scopes_of_one_action_are_refused() {
        let told = problems(r#"{"scopes":[{"by":["route"]},{"by":["cluster"]}]}"#);
        assert_eq!(told, ["/scopes/1: scope 0 rejects already: one is enough, merge them"]);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let told = problems(
            r#"{"name":"","steering":{"header":":path"},"scopes":[
            {"by":["route"],"trip":{"failure_rate_threshold":0},"half_open":{"permitted_calls":99}}]}"#,
        );
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(problems(r#"{"scopes":[]}"#).len(), 1);
    }

    #[test]
    fn a_misspelt_field_is_recognised() {
        let problem = one_problem(r#"{"by":["route"],"trip":{"consecutive_failure":3}}"#);
        assert!(problem.contains("did you mean 'consecutive_failures'?"), "{problem}");
    }
}
