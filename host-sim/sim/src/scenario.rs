//! Scenario files.
//!
//! ```yaml
//! scenario: a burst over all workers gets exactly its tokens
//! workers: [1, 2, 4]              # run once with each; default 1
//! suite:                          # or `bootstrap: FILE`, an Envoy bootstrap beside this file
//!   filters:
//!   - module: token_bucket        # a name in dist/, or the path of any proxy-wasm module
//!     configuration: {policies: [{name: all, token_bucket: {max_tokens: 10, fill_interval: 3600s}}]}
//! endpoints:
//!   127.0.0.1:9001: {answer: {latency: 5ms}}
//! steps:
//! - send: {count: 60, workers: random, headers: {x-client: alice}}
//!   expect: {statuses: {200: 10, 429: 50}}
//! - advance: 1s
//! - expect: {metrics: {'weir_requests_total{outcome="limited"}': 50}}
//! ```
//!
//! Durations are `5ms`, `1.5s`, `2m`. Every field is described in the JSON Schema that
//! [`json_schema`] gives; it is generated from these structs. All problems of a file are told at
//! once, each with line and column.

mod checks;
pub(crate) mod endpoint;
pub(crate) mod expect;
pub(crate) mod explore;
pub(crate) mod fault;
pub(crate) mod step;
pub(crate) mod suite;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod value;

use crate::problem::Problem;
use crate::strict;
use endpoint::EndpointSpec;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use step::{ByAddress, Step};
use suite::SuiteSpec;
use tcp::TcpEndpointSpec;

/// A scenario for host-sim, which runs proxy-wasm plugins as Envoy does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, as a sentence.
    pub scenario: String,
    /// Numbers of workers to run it with.
    #[serde(default = "one_worker")]
    pub workers: Vec<usize>,
    /// Seed of all random choices, unless the command line names one.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// An Envoy bootstrap, relative to this file.
    pub bootstrap: Option<PathBuf>,
    /// The short form of one.
    pub suite: Option<SuiteSpec>,
    /// What DNS says of the names in the bootstrap's clusters, perhaps nothing: `{shop: [10.1.0.1]}`.
    /// `localhost` is 127.0.0.1 unless it is here; any other name must be here.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// What the endpoints do. Those that are not named answer 200 after a millisecond.
    #[serde(default)]
    #[schemars(with = "ByAddress<EndpointSpec>")]
    pub endpoints: BTreeMap<SocketAddr, EndpointSpec>,
    /// What endpoints do with connections of the TCP proxy. Those that are not named echo.
    #[serde(default)]
    #[schemars(with = "ByAddress<TcpEndpointSpec>")]
    pub tcp_endpoints: BTreeMap<SocketAddr, TcpEndpointSpec>,
    /// Faults that are armed when the host has started.
    #[serde(default)]
    pub faults: Vec<fault::FaultSpec>,
    /// What must not depend on the order in which workers run, besides the expectations.
    #[serde(default)]
    pub explore: explore::ExploreSpec,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A file that cannot be run: every problem, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(pub Vec<Problem>);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a file's text; files it names are not looked for.
    ///
    /// # Errors
    /// Every problem with line and column; of the syntax, the first.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        Self::read(text, None)
    }

    /// The same, and modules and files it names are looked for from the folder `base`.
    ///
    /// # Errors
    /// As [`Scenario::parse`].
    pub fn parse_in(text: &str, base: &Path) -> Result<Self, ScenarioError> {
        Self::read(text, Some(base))
    }

    fn read(text: &str, base: Option<&Path>) -> Result<Self, ScenarioError> {
        strict::read(text, &json_schema(), base, checks::check)
    }
}

/// The JSON Schema of scenario files, for editors and for other tools.
#[must_use]
pub fn json_schema() -> Value {
    schemars::schema_for!(Scenario).to_value()
}

fn one_worker() -> Vec<usize> {
    vec![1]
}

fn default_seed() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
scenario: small
suite: {filters: []}
steps:
- expect: {statuses: {200: '>= 1'}}
";

    fn problems(text: &str) -> String {
        Scenario::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_small_scenario_has_defaults() {
        let scenario = Scenario::parse(SMALL).unwrap();
        assert_eq!((scenario.workers, scenario.seed), (vec![1], 1));
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
        let error = problems(&SMALL.replace("statuses", "status"));
        assert_eq!(error, "line 5 column 12: unknown field 'status', did you mean 'statuses'?");
    }

    #[test]
    fn a_scenario_that_cannot_fail_is_refused() {
        let error = problems(&SMALL.replace("expect: {statuses: {200: '>= 1'}}", "advance: 1s"));
        assert!(error.contains("line 5") && error.contains("could not fail"), "{error}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = "
scenario: 7
workers: [0]
suite: {filters: [{modul: a}]}
endpoints: {here: {answer: {fail: explode}}}
steps:
- advance: soon
  send: {method: GET, workers: al}
- faults: [{hostcall: proxy_set_shared_dat, answer: cas_mismatc}, {trap: proxy_on_request_header}]
  expect: {statuses: {ok: 1}, metrics: {x: many}, log: ['(']}
";
        let error = problems(text);
        for told in [
            "line 2 column 11: expected a string, got 7: write it in quotes",
            "line 4 column 20: unknown field 'modul', did you mean 'module'?",
            "line 4 column 19: the field 'module' is missing",
            "line 5 column 13: 'here' is no address",
            "line 5 column 35: unknown \"explode\"",
            "line 7 column 12: 'soon' is no duration",
            "line 8 column 32: unknown \"al\"",
            "no hostcall is called 'proxy_set_shared_dat', did you mean 'proxy_set_shared_data'?",
            "unknown \"cas_mismatc\", did you mean 'cas_mismatch'?",
            "no callback is called 'proxy_on_request_header', did you mean 'proxy_on_request_headers'?",
            "'ok' is no status",
            "'many' is no quantity",
            "no regular expression",
        ] {
            assert!(error.contains(told), "missing: {told}\nin:\n{error}");
        }
    }
}
