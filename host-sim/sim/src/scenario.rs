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
//! Every unknown field is an error with its line. Durations are `5ms`, `1.5s`, `2m`.

use crate::endpoint::{Answer, Behaviour, Failure};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A file.
#[derive(Clone, Debug, Deserialize)]
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
    /// What the endpoints do. Those that are not named answer 200 after a millisecond.
    #[serde(default)]
    pub endpoints: BTreeMap<SocketAddr, EndpointSpec>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The short form of a bootstrap.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// Plugins of the listener, in order.
    pub filters: Vec<FilterSpec>,
    /// Plugins of the cluster's upstream chain, in order.
    #[serde(default)]
    pub upstream_filters: Vec<FilterSpec>,
    /// Retries of the route. Default 0.
    #[serde(default)]
    pub retries: u32,
    /// Timeout of the route, as protobuf writes it. Default `5s`.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// Whether the cluster obeys the steering header. Default true.
    #[serde(default = "default_true")]
    pub override_host: bool,
}

/// One plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    /// Name of a module of the suite, or path of any module.
    pub module: String,
    /// Name of the plugin; that of the module by default.
    pub name: Option<String>,
    /// Scope of shared data. Default `weir`.
    #[serde(default = "default_vm_id")]
    pub vm_id: String,
    /// Configuration of the VM; plugins whose VMs differ in it do not share one.
    pub vm_configuration: Option<String>,
    /// `FAIL_CLOSED` (default), `FAIL_OPEN` or `FAIL_RELOAD`.
    pub failure_policy: Option<String>,
    /// Hostcalls and callbacks that the host keeps from it, such as `proxy_get_shared_data`.
    #[serde(default)]
    pub denied_capabilities: Vec<String>,
    /// Configuration: a document, which the plugin gets as JSON, or a string as it is.
    #[serde(default)]
    pub configuration: Value,
}

/// What an endpoint does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Its usual answer.
    #[serde(default)]
    pub answer: AnswerSpec,
    /// Exceptions by path.
    #[serde(default)]
    pub paths: BTreeMap<String, AnswerSpec>,
    /// What it does with its next requests.
    #[serde(default)]
    pub script: Vec<AnswerSpec>,
}

/// One answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerSpec {
    /// From request to response. Default `1ms`.
    #[serde(deserialize_with = "optional_duration")]
    pub latency: Option<Duration>,
    /// Status. Default 200.
    pub status: Option<u16>,
    /// Response headers.
    pub headers: BTreeMap<String, String>,
    /// Response body.
    pub body: String,
    /// Response trailers.
    pub trailers: BTreeMap<String, String>,
    /// `refuse`, `reset`, `reset_mid_stream` or `hang`.
    pub fail: Option<FailureSpec>,
}

/// Names of [`Failure`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants of Failure, in the same words")]
pub enum FailureSpec {
    Refuse,
    Reset,
    ResetMidStream,
    Hang,
}

impl AnswerSpec {
    pub(crate) fn behaviour(&self) -> Behaviour {
        let pairs = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        Behaviour {
            latency: self.latency.unwrap_or(Duration::from_millis(1)),
            answer: Answer {
                status: self.status.unwrap_or(200),
                headers: pairs(&self.headers),
                body: self.body.clone().into_bytes(),
                trailers: pairs(&self.trailers),
            },
            grpc: None,
            failure: self.fail.map(|fail| match fail {
                FailureSpec::Refuse => Failure::Refuse,
                FailureSpec::Reset => Failure::Reset,
                FailureSpec::ResetMidStream => Failure::ResetMidStream,
                FailureSpec::Hang => Failure::Hang,
            }),
        }
    }
}

/// Something to do, then something to look at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Send requests and wait for their responses.
    pub send: Option<Send>,
    /// Let time pass.
    #[serde(deserialize_with = "optional_duration")]
    pub advance: Option<Duration>,
    /// Step the plugins' wall clock, back if it begins with `-`.
    pub step_clock: Option<String>,
    /// Change what endpoints do.
    pub endpoints: BTreeMap<SocketAddr, EndpointSpec>,
    /// Write shared data of the `vm_id` `weir`, as another plugin might.
    pub set_shared_data: BTreeMap<String, String>,
    /// Overwrite every key of every `vm_id` of the scenario with this.
    pub corrupt_shared_data: Option<String>,
    /// What must hold now.
    pub expect: Option<Expect>,
}

/// Requests to send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Send {
    /// How many. Default 1.
    pub count: usize,
    /// Time between two of them. Default none: they are all under way at once.
    #[serde(deserialize_with = "optional_duration")]
    pub every: Option<Duration>,
    /// Which worker each goes to. Default round robin.
    pub workers: Spread,
    /// Default `GET`.
    pub method: String,
    /// Default `/`.
    pub path: String,
    /// Default none.
    pub headers: BTreeMap<String, String>,
    /// Chunks of the body.
    pub body: Vec<String>,
    /// The client goes away after this long.
    #[serde(deserialize_with = "optional_duration")]
    pub abort_after: Option<Duration>,
}

impl Default for Send {
    fn default() -> Self {
        Self {
            count: 1,
            every: None,
            workers: Spread::default(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            body: Vec::new(),
            abort_after: None,
        }
    }
}

/// How requests are spread over workers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By the seed.
    Random,
    /// All to the first.
    First,
    /// All to the last.
    Last,
}

/// What must hold. Values are numbers, or comparisons such as `">= 3"`; texts are regular
/// expressions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Of the requests that this step sent: how many got which status (0: reset before one).
    pub statuses: BTreeMap<u16, Quantity>,
    /// Headers that every response of this step has.
    pub response_headers: BTreeMap<String, String>,
    /// Headers that no response of this step has.
    pub no_response_headers: Vec<String>,
    /// Requests that endpoints have received since the last time this was asked.
    pub received: BTreeMap<SocketAddr, Quantity>,
    /// The same for one path, such as that of the polls: `/healthz: {127.0.0.1:9001: 5}`.
    pub received_by_path: BTreeMap<String, BTreeMap<SocketAddr, Quantity>>,
    /// Headers that no request received by an endpoint has had.
    pub no_request_headers: Vec<String>,
    /// Sum of a plugin's metric: `name` or `name{label="value"}`. No such metric is 0.
    pub metrics: BTreeMap<String, Quantity>,
    /// A line of the application log matches.
    pub log: Vec<String>,
    /// No line of the application log matches.
    pub no_log: Vec<String>,
    /// Keys of shared data, over all `vm_id`s of the scenario.
    pub shared_keys: Option<Quantity>,
}

/// A number to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Quantity {
    /// Equal.
    Is(f64),
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
}

impl Quantity {
    pub(crate) fn holds(self, actual: f64) -> bool {
        match self {
            Self::Is(wanted) => (actual - wanted).abs() < 1e-9,
            Self::AtLeast(least) => actual >= least,
            Self::AtMost(most) => actual <= most,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(wanted) => write!(f, "{wanted}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Some(number) = value.as_f64() {
            return Ok(Self::Is(number));
        }
        let text = value.as_str().unwrap_or_default();
        let parse = |rest: &str| rest.trim().parse().ok();
        let parsed = if let Some(rest) = text.strip_prefix(">=") {
            parse(rest).map(Self::AtLeast)
        } else if let Some(rest) = text.strip_prefix("<=") {
            parse(rest).map(Self::AtMost)
        } else {
            None
        };
        parsed.ok_or_else(|| D::Error::custom("expected a number, or \">= N\", or \"<= N\""))
    }
}

/// A file that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(pub String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a file's text. Errors name line and column.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self =
            serde_yaml_ng::from_str(text).map_err(|error| ScenarioError(error.to_string()))?;
        let fault = if scenario.bootstrap.is_some() == scenario.suite.is_some() {
            Some("a scenario needs either `bootstrap` or `suite`")
        } else if scenario.workers.is_empty() || scenario.workers.contains(&0) {
            Some("`workers` lists numbers from 1")
        } else if scenario.steps.is_empty() {
            Some("`steps` is empty: nothing would be shown")
        } else if !scenario.steps.iter().any(|step| step.expect.is_some()) {
            Some("no step has an `expect`: the scenario could not fail")
        } else {
            None
        };
        fault.map_or(Ok(scenario), |fault| Err(ScenarioError(fault.to_owned())))
    }
}

/// Reads `5ms`, `1.5s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let wrong = || D::Error::custom(format!("'{text}' is no duration: write 5ms, 1.5s or 2m"));
    parse_duration(&text).map(Some).ok_or_else(wrong)
}

fn one_worker() -> Vec<usize> {
    vec![1]
}

fn default_seed() -> u64 {
    1
}

fn default_true() -> bool {
    true
}

fn default_timeout() -> String {
    "5s".to_owned()
}

fn default_vm_id() -> String {
    "weir".to_owned()
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

    #[test]
    fn a_small_scenario_has_defaults() {
        let scenario = Scenario::parse(SMALL).unwrap();
        assert_eq!((scenario.workers, scenario.seed), (vec![1], 1));
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let error = Scenario::parse(&SMALL.replace("statuses", "status")).unwrap_err().0;
        assert!(error.contains("unknown field `status`") && error.contains("line 5"), "{error}");
    }

    #[test]
    fn a_scenario_that_cannot_fail_is_refused() {
        let error =
            Scenario::parse(&SMALL.replace("expect: {statuses: {200: '>= 1'}}", "advance: 1s"));
        assert!(error.unwrap_err().0.contains("could not fail"));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        for wrong in ["5", "s", "-1s", "1.2.3s", "1 day"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
