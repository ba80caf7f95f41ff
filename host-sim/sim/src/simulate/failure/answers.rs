//! An endpoint answers without working: a sinkhole, which looks fast and idle.

use super::Effect;
use crate::scenario::value::Span;
use crate::simulate::server::EffectId;
use crate::simulate::world::World;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Every request is answered so.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Default 503.
    #[serde(default = "unavailable")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// How long after the request. Default `1ms`.
    #[serde(default = "a_millisecond")]
    pub after: Span,
}

impl Effect for Answers {
    fn begin(&self, world: &mut World, endpoint: usize, id: EffectId) {
        world.set_answer(endpoint, id, self.status, self.after.0);
    }

    fn end(&self, world: &mut World, endpoint: usize, id: EffectId) {
        world.clear_answer(endpoint, id);
    }
}

fn unavailable() -> u16 {
    503
}

fn a_millisecond() -> Span {
    Span(Duration::from_millis(1))
}
