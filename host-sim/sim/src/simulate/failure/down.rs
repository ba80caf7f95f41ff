//! An endpoint's process dies: what it had is lost, connections are refused. It may come back cold.

use super::{Effect, Site};
use crate::scenario::value::Span;
use crate::simulate::server::EffectId;
use schemars::JsonSchema;
use serde::Deserialize;

/// The process is gone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Down {
    /// It comes back with empty caches. Default as it was.
    pub cold: Option<Cold>,
}

/// How a process is when it has just started.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cold {
    /// Its speed, relative to the usual one.
    #[schemars(range(min = 0.001, max = 1000))]
    pub factor: f64,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Span,
}

impl Effect for Down {
    fn begin(&self, site: &mut Site<'_, '_>, _: EffectId) {
        for endpoint in site.endpoints {
            site.world.take_down(*endpoint);
        }
    }

    fn end(&self, site: &mut Site<'_, '_>, id: EffectId) {
        for endpoint in site.endpoints {
            site.world.bring_up(*endpoint);
            if let Some(cold) = &self.cold {
                site.world.set_factor(*endpoint, id, cold.factor);
                site.world.clear_factor_after(cold.lasts.0, *endpoint, id);
            }
        }
    }
}
