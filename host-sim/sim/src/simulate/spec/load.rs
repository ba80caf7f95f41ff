//! How many requests come, and from whom.

use crate::scenario::value::{Fields, Span};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Open-loop load: requests come whether or not earlier ones were answered. One of `rate` and `rho`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Requests a second, of all clients together.
    #[schemars(range(min = 0))]
    pub rate: Option<f64>,
    /// The same, as a part of what all endpoints can serve when nothing is wrong with them.
    #[schemars(range(min = 0, max = 100))]
    pub rho: Option<f64>,
    /// The gaps between requests. Default `poisson`.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Changes, in order of time.
    #[serde(default)]
    pub steps: Vec<LoadStep>,
}

/// Another load from a time on. One of `rate` and `rho`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadStep {
    /// From when on, the warm-up not counted.
    pub at: Span,
    /// Requests a second.
    #[schemars(range(min = 0))]
    pub rate: Option<f64>,
    /// The same, as a part of what all endpoints can serve.
    #[schemars(range(min = 0, max = 100))]
    pub rho: Option<f64>,
}

/// The gaps between requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// As of many clients that know nothing of each other.
    #[default]
    Poisson,
    /// As of a metronome.
    Constant,
}

/// Clients that are alike.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// Name of the group. Default `clients`.
    #[serde(default = "clients")]
    pub name: String,
    /// Its part of the requests, relative to the other groups. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub share: f64,
    /// Where they are: they use the proxies of their zone, or any if it has none.
    #[serde(default)]
    pub zone: String,
    /// Path of the requests. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// Headers of the requests.
    #[serde(default)]
    pub headers: Fields,
    /// How long a client waits for each try. Default for ever.
    pub timeout: Option<Span>,
    /// How often a client tries again after a failure or a timeout. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 60))]
    pub retries: u32,
    /// How long it waits before it does. Default `0ms`.
    #[serde(default)]
    pub backoff: Span,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            name: clients(),
            share: 1.0,
            zone: String::new(),
            path: root(),
            headers: Fields::default(),
            timeout: None,
            retries: 0,
            backoff: Span(Duration::ZERO),
        }
    }
}

fn clients() -> String {
    "clients".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn one() -> f64 {
    1.0
}
