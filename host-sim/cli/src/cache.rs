//! The option that every command with modules has.

use clap::Args;
use host_sim_engine::ModuleCache;

/// Whether compiled modules are kept.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CacheArgs {
    /// Compile the modules, whatever earlier runs have left in $HOST_SIM_CACHE (default:
    /// ~/.cache/host-sim), and leave nothing there.
    #[arg(long)]
    no_cache: bool,
}

impl CacheArgs {
    pub(crate) fn modules(self) -> ModuleCache {
        if self.no_cache { ModuleCache::off() } else { ModuleCache::user() }
    }
}
