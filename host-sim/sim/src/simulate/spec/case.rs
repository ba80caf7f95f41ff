//! The same experiment under several loads and failures, and the time in which something is wrong.

use super::failure::Failure;
use super::load::Load;
use crate::scenario::value::Span;
use schemars::JsonSchema;
use serde::Deserialize;

/// One of several variants: what it names stands in the place of the experiment's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// How the report calls it.
    pub name: String,
    /// Another load.
    pub load: Option<Load>,
    /// Other failures.
    pub failures: Option<Vec<Failure>>,
}

/// The time in which something is wrong, whatever it is. What comes after is compared with what was
/// before: goodput that does not come back is a cascade.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// When it begins, the warm-up not counted. All before is what it should be like.
    pub from: Span,
    /// When its cause is gone.
    pub to: Span,
    /// Time after which it must be over: from then on goodput tells whether it is. Default `20s`.
    #[serde(default = "twenty_seconds")]
    pub patience: Span,
    /// The part of the goodput before, below which it is not. Default 0.7.
    #[serde(default = "most")]
    #[schemars(range(min = 0, max = 1))]
    pub below: f64,
}

fn twenty_seconds() -> Span {
    Span(std::time::Duration::from_secs(20))
}

fn most() -> f64 {
    0.7
}
