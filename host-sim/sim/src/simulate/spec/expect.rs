//! What a result must come to, so that a file says what it is for and a run says whether it holds.

use schemars::JsonSchema;
use serde::Deserialize;

/// Something that must hold: of an arm's measure, or of its ratio to another arm's. One of `at_most`
/// and `at_least`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The arm.
    pub arm: String,
    /// What is measured, such as `p99` or `error_percent`.
    pub measure: String,
    /// In which window. Default the whole.
    pub window: Option<String>,
    /// The other arm: then the bound is one of the ratio, seed by seed. `best_policy` is the policy
    /// with the lowest median, an oracle not counted.
    pub against: Option<String>,
    /// The median over seeds is not higher.
    pub at_most: Option<f64>,
    /// The median over seeds is not lower.
    pub at_least: Option<f64>,
}

/// Stands for the policy that is best.
pub(crate) const BEST_POLICY: &str = "best_policy";
