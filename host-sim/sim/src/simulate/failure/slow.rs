//! An endpoint is slower than it was: a neighbour, a disk, a bad release.

use super::{Effect, Site};
use crate::simulate::server::EffectId;
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
    fn begin(&self, site: &mut Site<'_, '_>, id: EffectId) {
        for endpoint in site.endpoints {
            site.world.set_factor(*endpoint, id, self.factor);
        }
    }

    fn end(&self, site: &mut Site<'_, '_>, id: EffectId) {
        for endpoint in site.endpoints {
            site.world.clear_factor(*endpoint, id);
        }
    }
}
