//! What `host-sim explore` compares between orders of workers.

use schemars::JsonSchema;
use serde::Deserialize;

/// For `host-sim explore`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExploreSpec {
    /// What must be at the end as it is when workers run one after the other.
    pub same: Vec<Aspect>,
}

/// What can be seen of a run, whatever the scenario expects.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// How many requests got which status.
    Statuses,
    /// How many requests got which body.
    Bodies,
    /// The plugins' metrics.
    Metrics,
    /// Keys of shared data and their values.
    SharedData,
}
