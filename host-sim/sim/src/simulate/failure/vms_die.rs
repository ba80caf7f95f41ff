//! VMs of plugins trap, on every worker of every proxy: what a bug or a lack of memory does. What
//! comes then is the `failure_policy` of the bootstrap.

use super::{Effect, Site, Victims};
use crate::simulate::server::EffectId;
use schemars::JsonSchema;
use serde::Deserialize;

/// Each VM traps in its next callback. Native policies have none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmsDie {
    /// Names of the plugins whose VMs it hits. Default all.
    #[serde(default)]
    pub plugins: Vec<String>,
}

impl Effect for VmsDie {
    fn befalls(&self) -> Victims {
        Victims::Proxies
    }

    fn begin(&self, site: &mut Site<'_, '_>, _: EffectId) {
        site.proxies.iter_mut().for_each(|proxy| proxy.kill_vms(&self.plugins));
    }
}
