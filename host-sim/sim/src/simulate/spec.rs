//! Experiment files.
//!
//! ```yaml
//! experiment: strongly different speeds at 0.75 of capacity
//! seeds: 10
//! duration: 20s
//! endpoints:
//! - {name: e, count: 20, slots: 4, service_time: {mean: 40ms, cv: 1}, speeds: [0.5, 1, 1, 1.5]}
//! load: {rho: 0.75}
//! arms:
//! - {name: round robin, policy: {round_robin: {}}}
//! - {name: full scan, policy: {least_request: {selection_method: full_scan}}}
//! ```
//!
//! Strict, as scenario files are: the JSON Schema that [`experiment_schema`] gives is generated from
//! these structs, and all problems of a file are told at once, each with line and column.

pub(crate) mod arm;
pub(crate) mod case;
pub(crate) mod check;
pub(crate) mod endpoint;
pub(crate) mod expect;
pub(crate) mod failure;
pub(crate) mod load;

use crate::ScenarioError;
use crate::scenario::value::Span;
use crate::strict;
pub(crate) use arm::Arm;
use case::Case;
pub(crate) use case::Trouble;
pub(crate) use endpoint::{EndpointGroup, Network, Proxies};
use expect::Expectation;
pub(crate) use failure::{Antagonists, Failure};
pub(crate) use load::{Clients, Load};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A load-balancing experiment for host-sim: proxies, endpoints, load, and arms to compare.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What it is about, as a sentence.
    pub experiment: String,
    /// How many seeds each arm runs with, from 1 on. Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10_000))]
    pub seeds: u64,
    /// Load before anything is measured. Default `2s`.
    #[serde(default = "two_seconds")]
    pub warmup: Span,
    /// How long is measured, after the warm-up.
    pub duration: Span,
    /// Width of the intervals in which each endpoint's share of the traffic is counted, and in which
    /// recovery is looked for. Default `1s`.
    #[serde(default = "one_second")]
    pub interval: Span,
    /// Parts of the measured time that are told besides the whole.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// What stands between clients and endpoints. Default one proxy with one worker.
    #[serde(default)]
    pub proxies: Proxies,
    /// The endpoints, in groups.
    pub endpoints: Vec<EndpointGroup>,
    /// Latency between zones. Default none.
    #[serde(default)]
    pub network: Network,
    /// Endpoints that are slowed down by what runs beside them.
    #[serde(default)]
    pub antagonists: Vec<Antagonists>,
    /// What breaks, and when.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// The time in which something is wrong, for measures of what comes after. Default none.
    pub trouble: Option<Trouble>,
    /// How many requests come.
    pub load: Load,
    /// Who sends them. Default one group that waits for ever and tries once.
    #[serde(default = "some_clients")]
    pub clients: Vec<Clients>,
    /// Loads and failures, one after the other, in the place of those above: every arm runs with every
    /// seed in each, and what is told of an arm is over all of them. Default only those above.
    #[serde(default)]
    pub cases: Vec<Case>,
    /// What is compared. All arms get the same arrivals and the same work.
    pub arms: Vec<Arm>,
    /// What must hold of the result. Results tell whether it does.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// A part of the measured time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How the report calls it.
    pub name: String,
    /// From when on, the warm-up not counted: of requests that clients began to send then.
    pub from: Span,
    /// Until when.
    pub to: Span,
}

impl Experiment {
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
    /// As [`Experiment::parse`].
    pub fn parse_in(text: &str, base: &Path) -> Result<Self, ScenarioError> {
        Self::read(text, Some(base))
    }

    fn read(text: &str, base: Option<&Path>) -> Result<Self, ScenarioError> {
        strict::read(text, &experiment_schema(), base, check::check)
    }

    /// Every endpoint with its group and its number within it, in the order of the file.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&EndpointGroup, usize)> {
        self.endpoints.iter().flat_map(|group| (0..group.count).map(move |at| (group, at)))
    }

    /// Names of the endpoints: of a group of one its name, else with the number behind it.
    pub(crate) fn endpoint_names(&self) -> Vec<String> {
        self.servers().map(|(group, at)| group.endpoint_name(at)).collect()
    }

    /// Which endpoints a name stands for: a group, or one of it.
    pub(crate) fn endpoints_named(&self, name: &str) -> Vec<usize> {
        let all = self.servers().enumerate();
        let named =
            |group: &EndpointGroup, at| group.name == name || group.endpoint_name(at) == name;
        all.filter(|(_, (group, at))| named(group, *at)).map(|(number, _)| number).collect()
    }

    /// Requests a second that all endpoints can serve.
    pub(crate) fn capacity(&self) -> f64 {
        self.servers().map(|(group, at)| super::server::Server::new(group, at).capacity()).sum()
    }

    /// One for each of its cases, or itself.
    pub(crate) fn variants(&self) -> Vec<Self> {
        let variant = |case: &Case| {
            let mut variant = Self { cases: Vec::new(), ..self.clone() };
            if let Some(load) = &case.load {
                variant.load = load.clone();
            }
            if let Some(failures) = &case.failures {
                variant.failures.clone_from(failures);
            }
            variant
        };
        let variants: Vec<Self> = self.cases.iter().map(variant).collect();
        if variants.is_empty() { vec![self.clone()] } else { variants }
    }

    /// Failures of all cases.
    pub(crate) fn all_failures(&self) -> impl Iterator<Item = &Failure> {
        let of_cases = self.cases.iter().filter_map(|case| case.failures.as_ref());
        self.failures.iter().chain(of_cases.flatten())
    }

    /// Whether VMs of plugins are made to trap.
    pub(crate) fn kills_vms(&self) -> bool {
        self.failures.iter().any(|failure| failure.vms_die.is_some())
    }

    /// When the last request is sent.
    pub(crate) fn end(&self) -> Duration {
        self.warmup.0 + self.duration.0
    }
}

/// The JSON Schema of experiment files, for editors and for other tools.
#[must_use]
pub fn experiment_schema() -> Value {
    schemars::schema_for!(Experiment).to_value()
}

fn ten() -> u64 {
    10
}

fn one_second() -> Span {
    Span(Duration::from_secs(1))
}

fn two_seconds() -> Span {
    Span(Duration::from_secs(2))
}

fn some_clients() -> Vec<Clients> {
    vec![Clients::default()]
}

#[cfg(test)]
mod tests;
