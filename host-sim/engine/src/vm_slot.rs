//! A worker's VMs: shared by plugins of one VM key, started once, perhaps reloaded.

use crate::plugin::{Plugin, VmKey};
use crate::vm::{Callback, Context, Outcome, RootState, Vm};
use crate::worker::Worker;
use crate::{LogLevel, StartError, UnixNanos};
use host_sim_bootstrap::FailurePolicy;
use std::sync::Arc;

/// Place of a VM.
pub(crate) struct VmSlot {
    /// In the order they joined; the first one's `vm_config` counts.
    plugins: Vec<(Arc<Plugin>, u32)>,
    key: VmKey,
    pub(crate) vm: Option<Vm>,
    loaded: UnixNanos,
    generation: u64,
}

impl VmSlot {
    pub(crate) fn key(&self) -> VmKey {
        self.key
    }

    /// Whether a plugin of that name lives here.
    pub(crate) fn serves(&self, plugin: &str) -> bool {
        self.plugins.iter().any(|(member, _)| member.name() == plugin)
    }

    pub(crate) fn root_of(&self, plugin: &Arc<Plugin>) -> Option<u32> {
        self.plugins.iter().find(|(member, _)| Arc::ptr_eq(member, plugin)).map(|(_, root)| *root)
    }
}

impl Worker {
    /// Puts a plugin into its VM, which is made when it is the first one there.
    pub(crate) fn add_plugin(&mut self, plugin: &Arc<Plugin>) -> Result<(), StartError> {
        let index = match self.vms.iter().position(|slot| slot.key == plugin.vm_key) {
            Some(index) => index,
            None => {
                let index = self.vms.len();
                let vm = Vm::start(&self.shared, plugin, index, 0);
                let vm = vm.map_err(|reason| error(plugin, &reason, None))?;
                let loaded = self.shared.borrow().now();
                let (plugins, key) = (Vec::new(), plugin.vm_key);
                self.vms.push(VmSlot { plugins, key, vm: Some(vm), loaded, generation: 0 });
                index
            }
        };
        let root = self.start_root(index, plugin)?;
        if let Some(slot) = self.vms.get_mut(index) {
            slot.plugins.push((plugin.clone(), root));
        }
        Ok(())
    }

    /// context_create, vm_start, configure: the start of a plugin's root context.
    fn start_root(&mut self, index: usize, plugin: &Arc<Plugin>) -> Result<u32, StartError> {
        let Some(vm) = self.vm(index) else { return Ok(0) };
        let context = Context::Root { plugin: plugin.clone(), state: RootState::Active };
        let root = vm.store.data_mut().add_context(context);
        let created =
            vm.invoke(root, Callback::RootCreate, "proxy_on_context_create", |store, exports| {
                exports.context_create.as_ref().map(|f| f.call(store, (root, 0)))
            });
        if let Outcome::Failed = created {
            // Envoy loads such a plugin; its requests get what the failure policy says.
            return Ok(root);
        }
        let size = plugin.config.vm.configuration.bytes.len() as u32;
        let started = vm.invoke(root, Callback::VmStart, "proxy_on_vm_start", |store, exports| {
            exports.vm_start.as_ref().map(|f| f.call(store, (root, size)))
        });
        accepted(vm, plugin, started, "proxy_on_vm_start")?;
        let size = plugin.config.configuration.bytes.len() as u32;
        let valid = vm.invoke(
            root,
            Callback::Configure,
            "proxy_validate_configuration",
            |store, exports| {
                exports.validate_configuration.as_ref().map(|f| f.call(store, (root, size)))
            },
        );
        accepted(vm, plugin, valid, "proxy_validate_configuration")?;
        let configured =
            vm.invoke(root, Callback::Configure, "proxy_on_configure", |store, exports| {
                exports.configure.as_ref().map(|f| f.call(store, (root, size)))
            });
        accepted(vm, plugin, configured, "proxy_on_configure")?;
        Ok(root)
    }

    /// FAIL_RELOAD: a failed VM is made anew by the next request, at most once a jittered
    /// interval.
    pub(crate) fn reload_if_due(&mut self, index: usize, plugin: &Arc<Plugin>) {
        let Some(slot) = self.vms.get(index) else { return };
        let failed = slot.vm.as_ref().is_none_or(|vm| vm.failed.is_some());
        if !failed || plugin.config.failure_policy != FailurePolicy::FailReload {
            return;
        }
        let loaded = slot.loaded;
        let engine = self.engine.clone();
        let stat = |outcome: &str| {
            let name = format!("wasm.{}.vm_reload_{outcome}", plugin.name());
            engine.stats().counter(&name).inc();
        };
        let base = plugin.config.reload_base_interval;
        let wait = {
            let mut shared = self.shared.borrow_mut();
            let nanos = u64::try_from(base.as_nanos()).unwrap_or(u64::MAX).max(1);
            // Jittered lower bound: the base and up to half of it again.
            base + std::time::Duration::from_nanos(shared.rng.next() % (nanos / 2).max(1))
        };
        let now = self.shared.borrow().now();
        if now.since(loaded) < wait {
            return stat("backoff");
        }
        let outcome = if self.reload(index, now) { "success" } else { "failure" };
        stat(outcome);
        self.log(LogLevel::Info, plugin.name(), &format!("VM reload: {outcome}"));
    }

    fn reload(&mut self, index: usize, now: UnixNanos) -> bool {
        let Some(slot) = self.vms.get_mut(index) else { return false };
        slot.loaded = now;
        slot.generation += 1;
        let generation = slot.generation;
        let plugins: Vec<_> = slot.plugins.drain(..).map(|(plugin, _)| plugin).collect();
        let Some(first) = plugins.first() else { return false };
        self.shared.borrow_mut().ticks.retain(|(vm, _), _| *vm != index);
        let vm = Vm::start(&self.shared, first, index, generation);
        let Some(slot) = self.vms.get_mut(index) else { return false };
        let mut success = vm.is_ok();
        slot.vm = vm.ok();
        for plugin in plugins {
            let root = if success { self.start_root(index, &plugin) } else { Ok(0) };
            success &= root.is_ok();
            if let Some(slot) = self.vms.get_mut(index) {
                slot.plugins.push((plugin, root.unwrap_or(0)));
            }
        }
        if !success && let Some(slot) = self.vms.get_mut(index) {
            slot.vm = None;
        }
        success
    }
}

/// A callback that answers 0, or traps, rejects the plugin.
fn accepted(
    vm: &Vm,
    plugin: &Plugin,
    outcome: Outcome<u32>,
    callback: &str,
) -> Result<(), StartError> {
    match outcome {
        Outcome::Absent => Ok(()),
        Outcome::Returned(answer) if answer != 0 => Ok(()),
        Outcome::Returned(_) => Err(error(plugin, &format!("{callback} returned false"), Some(vm))),
        Outcome::Failed => {
            let why = vm.failed.as_deref().unwrap_or_default();
            Err(error(plugin, why, Some(vm)))
        }
    }
}

fn error(plugin: &Plugin, reason: &str, vm: Option<&Vm>) -> StartError {
    let log = vm.map(|vm| vm.store.data().last_words.iter().cloned().collect());
    StartError {
        plugin: plugin.name().to_owned(),
        reason: format!("Unable to create Wasm plugin {}: {reason}", plugin.name()),
        log: log.unwrap_or_default(),
    }
}
