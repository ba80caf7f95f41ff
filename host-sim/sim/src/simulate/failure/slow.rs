//! An endpoint is slower than it was: a neighbour, a disk, a bad release.

use super::Effect;
use crate::simulate::server::EffectId;
use crate::simulate::world::World;
use schemars::JsonSchema;
use serde::Deserialize;

/// Its speed changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// What its speed is multiplied with.
    #[schemars(range(min = 0.001, max = 1000))]
    pub factor: f64,
}

impl Effect for Slow {
    fn begin(&self, world: &mut World, endpoint: usize, id: EffectId) {
        world.set_factor(endpoint, id, self.factor);
    }

    fn end(&self, world: &mut World, endpoint: usize, id: EffectId) {
        world.clear_factor(endpoint, id);
    }
}
