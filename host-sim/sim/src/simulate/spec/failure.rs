//! What goes wrong. Each kind of failure is a file below `failure/`, which knows what it does when it
//! begins and when it ends; here they are only listed.

use crate::scenario::value::Span;
use crate::simulate::failure::{Answers, Down, Effect, Slow, VmsDie};
use schemars::JsonSchema;
use serde::Deserialize;

/// Something befalls endpoints at a time, or proxies. One of `down`, `answers`, `slow` and `vms_die`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// When, the warm-up not counted.
    pub at: Span,
    /// How long. Default to the end.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
    /// Again and again, from the beginning of one to that of the next. Default once.
    pub every: Option<Span>,
    /// Which: names of endpoints, or of groups. Needed unless proxies are hit.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// The process is gone: connections are refused.
    pub down: Option<Down>,
    /// Every request is answered, without work.
    pub answers: Option<Answers>,
    /// The endpoint is slower, or faster.
    pub slow: Option<Slow>,
    /// VMs of plugins trap.
    pub vms_die: Option<VmsDie>,
}

impl Failure {
    /// What was written; a file that was checked has one.
    pub(crate) fn effects(&self) -> Vec<&dyn Effect> {
        fn of<E: Effect>(effect: &Option<E>) -> Option<&dyn Effect> {
            effect.as_ref().map(|effect| effect as &dyn Effect)
        }
        let all = [of(&self.down), of(&self.answers), of(&self.slow), of(&self.vms_die)];
        all.into_iter().flatten().collect()
    }
}

/// Something runs beside endpoints now and then and takes their CPU away: whom it hits is drawn.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Antagonists {
    /// What is left of an endpoint's speed.
    #[schemars(range(min = 0.001, max = 1000))]
    pub factor: f64,
    /// For how long it is hit.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// From one hit to the next, which hits another endpoint.
    pub every: Span,
    /// Whom: names of endpoints, or of groups. Default all.
    #[serde(default)]
    pub endpoints: Vec<String>,
}
