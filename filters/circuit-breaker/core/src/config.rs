//! The configuration: what cannot be wrong once it is read.
//!
//! [`Config::from_json`] is the only way in. The document's form stands in `read`, with Envoy's and
//! resilience4j's field names, all ranges and all defaults.

mod read;
#[cfg(test)]
mod readme;

use crate::Rules;
use crate::class::Classify;
use crate::load::LoadRules;
use crate::outlier::SuccessRate;
use plugin_config::{Parsed, Problems};
use request_key::KeyPart;

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
    /// All other breakers, in the order in which they are asked.
    pub guards: Vec<GuardScope>,
    /// Who may ask why a request was treated as it was.
    pub debug: Option<Debug>,
}

/// The request header that asks for an explanation, and what it must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debug {
    /// Its name.
    pub header: String,
    /// Its value.
    pub secret: String,
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
    /// Breakers whose state the operator has decided.
    pub overrides: Vec<Override>,
}

/// A state that the operator has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Values of the scope's parts; empty for all of its breakers.
    pub key: Vec<String>,
    /// What holds.
    pub state: Forced,
}

/// What an operator may decide about a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// It rejects, whatever happens.
    Open,
    /// It lets everything pass and counts nothing.
    Closed,
    /// It counts and changes its state, and lets everything pass.
    Shadow,
}

/// Breakers of endpoints: an open one is taken out of the steering header.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointScope {
    /// What it shares with every scope.
    pub scope: Scope,
    /// Leave one endpoint in the list even if all of them reject.
    pub always_keep_one: bool,
    /// How many of a cluster's endpoints may be taken out at once, in percent.
    pub max_ejection_percent: u8,
    /// Whether an endpoint is compared with those beside it.
    pub success_rate: Option<SuccessRate>,
}

/// Breakers of routes, clusters, clients or whatever else a request is told apart by.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardScope {
    /// What it shares with every scope.
    pub scope: Scope,
    /// What has a breaker: each combination of the values of these.
    pub by: Vec<KeyPart>,
    /// The bound of memory, where clients choose the values; `None` for names of the proxy's own
    /// configuration.
    pub slots: Option<Slots>,
    /// What becomes of a request that an open one rejects.
    pub action: Action,
    /// How much may be under way.
    pub load: LoadRules,
    /// A request that passes a breaker which is not closed is not retried.
    pub suppress_retries: bool,
}

/// Places for breakers whose number clients decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// How many there are.
    pub count: u16,
    /// What a key has that finds none.
    pub on_full: OnFull,
}

/// What a key has that finds no place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// No breaker.
    Allow,
    /// One breaker together with all that found none either.
    Share,
}

/// What becomes of a request that an open breaker rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is answered.
    Reject(Rejection),
    /// It goes elsewhere.
    Fallback {
        /// The request header that the route takes its cluster from.
        header: String,
        /// The cluster.
        cluster: String,
    },
    /// It passes, and is counted and told of.
    Pass,
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
    /// More headers.
    pub headers: Vec<(String, String)>,
}

impl GuardScope {
    /// What has a breaker, in words that are a label of metrics.
    pub fn kind(&self) -> &'static str {
        match self.by.as_slice() {
            [KeyPart::Route] => "route",
            [KeyPart::Cluster] => "cluster",
            _ => "key",
        }
    }
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
        assert!(config.guards.is_empty());
        let endpoints = config.endpoints.unwrap();
        assert!(endpoints.always_keep_one);
        let Scope { name, rules, classify, .. } = endpoints.scope;
        assert_eq!(name, shared_state::DEFAULT_ENDPOINT_SCOPE);
        assert_eq!(rules, Rules { one_at_first: true, ..Rules::DEFAULT });
        assert_eq!(endpoints.max_ejection_percent, 100);
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
    fn only_endpoints_begin_with_one_probe_and_only_where_nothing_else_is_said() {
        let endpoints = |half_open: &str| {
            let json = format!(r#"{{"scopes":[{{"by":["cluster","endpoint"]{half_open}}}]}}"#);
            config(&json).endpoints.unwrap().scope.rules
        };
        let rules = [endpoints(""), endpoints(r#","half_open":{"max_concurrent":2}"#)];
        assert_eq!(
            rules.map(|rules| (rules.one_at_first, rules.max_concurrent)),
            [(true, 3), (false, 2)]
        );
        let guard = config(r#"{"scopes":[{"by":["route"]}]}"#).guards.remove(0);
        assert!(!guard.scope.rules.one_at_first);
    }

    #[test]
    fn a_route_scope_answers_503_with_retry_after() {
        let guard = config(r#"{"scopes":[{"by":["route"]}]}"#).guards.remove(0);
        assert_eq!((guard.scope.name.as_str(), guard.by), ("route", vec![KeyPart::Route]));
        let rejection =
            Rejection { status: 503, retry_after: true, body: String::new(), headers: vec![] };
        assert_eq!((guard.action, guard.slots), (Action::Reject(rejection), None));
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
        let guard = &config.guards[0];
        assert_eq!(guard.by, [KeyPart::Cluster]);
        assert_eq!(guard.scope.rules.failure_rate_threshold, 12.5);
        assert_eq!(guard.scope.rules.max_concurrent, 2);
        assert!(!config.endpoints.unwrap().always_keep_one);
    }

    #[test]
    fn a_count_window_holds_at_least_the_calls_that_it_waits_for() {
        let rules = |window: &str| {
            let json = format!(r#"{{"scopes":[{{"by":["route"],"window":{window}}}]}}"#);
            let rules = config(&json).guards.remove(0).scope.rules;
            (rules.window, rules.minimum_number_of_calls)
        };
        assert_eq!(rules(r#"{"type":"count"}"#), (crate::Window::Count(100), 20));
        assert_eq!(rules(r#"{"type":"count","size":7}"#), (crate::Window::Count(7), 7));
        let window = r#"{"type":"count","size":10,"minimum_number_of_calls":11}"#;
        assert_eq!(
            one_problem(&format!(r#"{{"by":["route"],"window":{window}}}"#)),
            "/scopes/0/window/minimum_number_of_calls: the window never holds more than its size, \
             10: lower it, or raise size"
        );
    }

    #[test]
    fn keys_are_bounded_and_names_are_not() {
        let guard = config(r#"{"scopes":[{"by":["route","header:x-tenant"]}]}"#).guards.remove(0);
        assert_eq!(guard.slots, Some(Slots { count: 1024, on_full: OnFull::Allow }));
        assert_eq!((guard.scope.name.as_str(), guard.kind()), ("key", "key"));
        let problem = one_problem(r#"{"by":["route"],"slots":8}"#);
        assert!(problem.starts_with("/scopes/0/slots: "), "{problem}");
    }

    #[test]
    fn an_override_names_a_scope_and_its_values() {
        let scopes =
            r#""scopes":[{"by":["route","header:x-tenant"]},{"name":"c","by":"cookie:id"}]"#;
        let told = |overrides: &str| {
            let told = problems(&format!(r#"{{{scopes},"overrides":[{overrides}]}}"#));
            assert_eq!(told.len(), 1, "{told:?}");
            told.into_iter().next().unwrap()
        };
        for (json, pointer) in [
            (r#"{"scope":"other","state":"SHADOW"}"#, "/scope"),
            (r#"{"scope":"key","key":["checkout"],"state":"SHADOW"}"#, "/key"),
            (r#"{"scope":"key"}"#, "/state"),
            (r#"{"scope":"key","state":"OPEN"}"#, "/state"),
            (r#"{"scope":"c","key":"1","state":"SHADOW"}"#, "/key"),
        ] {
            let problem = told(json);
            assert!(problem.starts_with(&format!("/overrides/0{pointer}: ")), "{json}: {problem}");
        }
    }

    #[test]
    fn more_than_eight_scopes_are_refused() {
        let scope = |at| format!(r#"{{"name":"s{at}","by":["route"]}}"#);
        let scopes = |count| (0..count).map(scope).collect::<Vec<_>>().join(",");
        assert_eq!(config(&format!(r#"{{"scopes":[{}]}}"#, scopes(8))).guards.len(), 8);
        assert!(problems(&format!(r#"{{"scopes":[{}]}}"#, scopes(9)))[0].starts_with("/scopes: "));
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let told = problems(r#"{"debug":{"secret":"short"}}"#);
        assert!(told[0].starts_with("/debug/secret: "), "{told:?}");
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
            (r#""reject":{"headers":[{"name":"X","value":""}]}"#, "reject/headers/0/name"),
            (r#""ramp":{"aggression":0}"#, "ramp/aggression"),
            (r#""trip":{"slow_call_duration":"0s"}"#, "trip/slow_call_duration"),
            (r#""trip":{"slow_call_rate_threshold":50}"#, "trip/slow_call_rate_threshold"),
            (
                r#""trip":{"consecutive_local_origin_failures":3}"#,
                "trip/consecutive_local_origin_failures",
            ),
            (r#""action":"fallback_cluster""#, "fallback_cluster"),
            (r#""action":"pass","reject":{}"#, "reject"),
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
        for by in ["[]", r#"["route","endpoint"]"#] {
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
    fn the_cluster_of_an_endpoint_goes_without_saying() {
        let config = config(r#"{"scopes":[{"by":"endpoint"}]}"#);
        assert!(config.endpoints.is_some());
    }

    #[test]
    fn two_scopes_of_endpoints_are_refused_and_so_are_two_of_one_name() {
        let two = r#"{"scopes":[{"by":["endpoint"]},{"name":"b","by":["endpoint"]}]}"#;
        let message = "/scopes/1: scope 0 excludes endpoints already: one is enough, merge them";
        assert_eq!(problems(two), [message]);
        let named = r#"{"scopes":[{"by":["route"]},{"name":"route","by":["cluster"]}]}"#;
        assert_eq!(problems(named), ["/scopes/1/name: 'route' is taken by entry 0: rename one"]);
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
