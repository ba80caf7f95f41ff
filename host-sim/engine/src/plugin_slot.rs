//! Places that plugins fill: a filter of a chain, or a service. What fills one can be replaced.

use crate::StartError;
use crate::base::Bases;
use crate::plugin::Plugin;
use crate::{EngineOptions, Worker};
use host_sim_bootstrap::PluginConfig;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A place.
pub(crate) struct PluginSlot {
    /// The filter's name, which configuration discovery goes by; empty for a service.
    pub(crate) filter: String,
    /// A `WasmService` of the main thread only.
    pub(crate) singleton: bool,
    /// `None` until discovery has brought a configuration.
    current: Mutex<Option<Arc<Plugin>>>,
}

impl PluginSlot {
    pub(crate) fn new(filter: &str, singleton: bool, plugin: Option<Arc<Plugin>>) -> Self {
        Self { filter: filter.to_owned(), singleton, current: Mutex::new(plugin) }
    }

    pub(crate) fn current(&self) -> Option<Arc<Plugin>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, plugin: Arc<Plugin>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(plugin);
    }
}

/// Loads plugins, and knows those that are in use: equal configurations are one plugin.
#[derive(Default)]
pub(crate) struct Plugins {
    pub(crate) bases: Bases,
    known: Mutex<Vec<Weak<Plugin>>>,
    /// Loaded by another engine, whose code is used again.
    loaded: Vec<Arc<Plugin>>,
}

impl Plugins {
    /// For an engine that is like another one.
    pub(crate) fn like(slots: &[PluginSlot]) -> Self {
        let loaded = slots.iter().filter_map(PluginSlot::current).collect();
        Self { loaded, ..Self::default() }
    }

    /// Compiles the module, or finds the plugin. Runs nothing.
    pub(crate) fn load(
        &self,
        config: &PluginConfig,
        options: &EngineOptions,
        singleton: bool,
    ) -> Result<Arc<Plugin>, StartError> {
        let model = self.loaded.iter().find(|p| p.config == *config && p.singleton == singleton);
        let loaded = match model {
            Some(model) => Ok(model.again(&self.bases)),
            None => Plugin::load(config, options, singleton, &self.bases),
        };
        let plugin = Arc::new(loaded.map_err(|reason| refused(&config.name, &reason))?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|plugin| plugin.strong_count() > 0);
        let same = |other: &Arc<Plugin>| {
            other.key == plugin.key && other.vm_key == plugin.vm_key && other.singleton == singleton
        };
        if let Some(found) = known.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(found);
        }
        known.push(Arc::downgrade(&plugin));
        Ok(plugin)
    }
}

/// One plugin's trial run, unless its base remembers how that went.
pub(crate) fn run_canary(
    engine: &Arc<crate::Engine>,
    plugin: &Arc<Plugin>,
) -> Result<(), StartError> {
    match plugin.base.canary(&plugin.key) {
        Some(true) => {}
        Some(false) => {
            let reason = "this very configuration was refused before, and is not tried again";
            return Err(refused(plugin.name(), reason));
        }
        None => {
            let outcome = Worker::canary(engine, plugin);
            plugin.base.remember_canary(plugin.key, outcome.is_ok());
            outcome?;
        }
    }
    if plugin.base.has_failed() {
        let reason = "another configuration of this VM has passed its canary and failed on a \
                      thread; Envoy refuses the VM for as long as anything uses it";
        return Err(refused(plugin.name(), reason));
    }
    Ok(())
}

/// Envoy's words, and what is behind them.
pub(crate) fn refused(plugin: &str, reason: &str) -> StartError {
    StartError {
        plugin: plugin.to_owned(),
        reason: format!("Unable to create Wasm plugin {plugin}: {reason}"),
        log: Vec::new(),
    }
}
