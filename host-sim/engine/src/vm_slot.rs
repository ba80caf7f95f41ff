//! A thread's VMs, its root contexts, and who holds them.
//!
//! Envoy counts references, and so does this: a *handle* is one plugin's root context on this
//! thread, held by the places of the configuration that the plugin fills and by every stream that
//! began with it. With its last holder the root ends. A VM is held by the handles in it; with the
//! last one it goes, without a word to roots that wait for `proxy_done`. A failed VM takes no new
//! root: whoever needs one gets another VM.

use crate::plugin::{Plugin, VmKey};
use crate::plugin_slot::refused;
use crate::vm::{Callback, Context, Outcome, RootState, Vm};
use crate::worker::Turn;
use crate::{LogLevel, StartError, UnixNanos};
use host_sim_bootstrap::FailurePolicy;
use std::sync::Arc;
use std::time::Duration;

/// Room for a VM. A VM that comes after another one in the same room has a higher generation.
#[derive(Default)]
pub(crate) struct VmSlot {
    key: VmKey,
    pub(crate) vm: Option<Vm>,
    generation: u64,
    /// Handles in it.
    handles: usize,
    /// One of its callbacks runs, which has the VM.
    pub(crate) runs: bool,
}

/// A plugin's root context on this thread.
pub(crate) struct PluginHandle {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) vm: usize,
    pub(crate) generation: u64,
    pub(crate) root: u32,
    /// Places and streams.
    holders: usize,
    /// Its `on_context_create` trapped. Envoy never tries such a root again, whatever the policy.
    stillborn: bool,
}

/// What fills a place of the configuration on this thread.
pub(crate) enum Place {
    /// Discovery has brought nothing yet.
    Missing,
    /// The plugin did not start on this thread: it is as if it were not configured.
    Absent,
    /// Its handle, and when it was loaded.
    Filled { handle: usize, loaded: UnixNanos },
}

impl Turn<'_> {
    /// Puts a plugin in a place. Gives the handle that was there, which the caller releases.
    pub(crate) fn fill_place(&mut self, at: usize, plugin: Option<&Arc<Plugin>>) -> Option<usize> {
        let place = match plugin {
            None => Place::Missing,
            Some(plugin) => match self.hold(plugin) {
                Some(handle) => Place::Filled { handle, loaded: self.shared.borrow().now() },
                None => Place::Absent,
            },
        };
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || Place::Missing);
        }
        let old = self.places.get_mut(at).map(|old| std::mem::replace(old, place));
        self.note_upstream_vms();
        match old {
            Some(Place::Filled { handle, .. }) => Some(handle),
            _ => None,
        }
    }

    /// A handle of the plugin, one more time held; made if there is none that is alive.
    fn hold(&mut self, plugin: &Arc<Plugin>) -> Option<usize> {
        let known = self.handles.iter().position(|handle| {
            handle.as_ref().is_some_and(|handle| {
                Arc::ptr_eq(&handle.plugin, plugin) && (handle.stillborn || self.is_alive(handle))
            })
        });
        if let Some(known) = known {
            self.hold_again(known);
            return Some(known);
        }
        let index = match self.start_vm(plugin) {
            Ok(index) => index,
            Err(error) => return self.fail_to_start(plugin, &error),
        };
        let started = self.start_root(index, plugin);
        let (root, stillborn) = match started {
            Ok(root) => (root, self.vms.get(index).is_some_and(|slot| slot.is_failed())),
            Err(error) => {
                self.fail_to_start(plugin, &error);
                self.drop_idle_vm(index);
                return None;
            }
        };
        let generation = self.vms.get_mut(index).map_or(0, |slot| {
            slot.handles += 1;
            slot.generation
        });
        let plugin = plugin.clone();
        let handle = PluginHandle { plugin, vm: index, generation, root, holders: 1, stillborn };
        let free = self.handles.iter().position(Option::is_none);
        match free.and_then(|free| Some((free, self.handles.get_mut(free)?))) {
            Some((free, room)) => {
                *room = Some(handle);
                Some(free)
            }
            None => {
                self.handles.push(Some(handle));
                Some(self.handles.len() - 1)
            }
        }
    }

    /// One more holder.
    pub(crate) fn hold_again(&mut self, handle: usize) {
        if let Some(Some(handle)) = self.handles.get_mut(handle) {
            handle.holders += 1;
        }
    }

    /// One holder less; the last one ends the root, and the VM if it was the VM's last.
    pub(crate) fn release(&mut self, handle: usize) {
        let Some(room) = self.handles.get_mut(handle) else { return };
        let Some(held) = room else { return };
        held.holders = held.holders.saturating_sub(1);
        if held.holders > 0 {
            return;
        }
        let Some(gone) = room.take() else { return };
        if self.is_alive(&gone) {
            self.end_root(gone.vm, gone.root);
        }
        let Some(slot) = self.vms.get_mut(gone.vm) else { return };
        if slot.generation == gone.generation {
            slot.handles = slot.handles.saturating_sub(1);
            self.drop_idle_vm(gone.vm);
        }
    }

    /// Whether the handle's VM is the one it was made in, and has not failed.
    pub(crate) fn is_alive(&self, handle: &PluginHandle) -> bool {
        self.lives(handle.vm, handle.generation)
    }

    /// Whether a VM is still there, and has not failed.
    pub(crate) fn lives(&self, index: usize, generation: u64) -> bool {
        let Some(slot) = self.vms.get(index).filter(|slot| slot.generation == generation) else {
            return false;
        };
        match &slot.vm {
            Some(vm) => vm.failed().is_none(),
            None => slot.runs && self.inside(index).is_none_or(|state| state.failed.is_none()),
        }
    }

    /// The thread's VM of the plugin's key; a new one if there is none that is alive.
    fn start_vm(&mut self, plugin: &Arc<Plugin>) -> Result<usize, StartError> {
        let alive = |slot: &VmSlot| slot.key == plugin.vm_key && slot.vm.is_some();
        if let Some(index) = self.vms.iter().position(|slot| alive(slot) && !slot.is_failed()) {
            return Ok(index);
        }
        let idle = |slot: &VmSlot| slot.vm.is_none() && slot.handles == 0 && !slot.runs;
        let free = self.vms.iter().position(idle);
        let index = free.unwrap_or_else(|| {
            self.vms.push(VmSlot::default());
            self.vms.len() - 1
        });
        let generation = self.vms.get(index).map_or(0, |slot| slot.generation) + 1;
        let vm = Vm::start(&self.shared, plugin, index, generation);
        let vm = vm.map_err(|reason| refused(plugin.name(), &reason))?;
        if let Some(slot) = self.vms.get_mut(index) {
            *slot =
                VmSlot { key: plugin.vm_key, vm: Some(vm), generation, handles: 0, runs: false };
        }
        Ok(index)
    }

    /// A VM that nobody holds goes: roots that still wait to be ended are, others are not asked.
    fn drop_idle_vm(&mut self, index: usize) {
        if self.vms.get(index).is_none_or(|slot| slot.handles > 0) {
            return;
        }
        for root in self.vm(index).map(|vm| vm.active_roots()).unwrap_or_default() {
            self.end_root(index, root);
        }
        let Some(slot) = self.vms.get_mut(index) else { return };
        let (Some(vm), generation) = (slot.vm.take(), slot.generation) else { return };
        self.gone.fuel += vm.fuel_consumed();
        self.gone.hostcalls += vm.store.data().hostcalls;
        self.forget_vm(index, generation);
    }

    fn fail_to_start(&self, plugin: &Plugin, error: &StartError) -> Option<usize> {
        plugin.base.fail();
        let rest = "the plugin does not run on this thread, its requests pass without it";
        self.log(LogLevel::Error, plugin.name(), &format!("{error}\n  {rest}"));
        None
    }

    /// context_create, vm_start, configure: the start of a plugin's root context.
    pub(crate) fn start_root(
        &mut self,
        index: usize,
        plugin: &Arc<Plugin>,
    ) -> Result<u32, StartError> {
        let Some(vm) = self.vm(index) else { return Ok(0) };
        let context = Context::Root { plugin: plugin.clone(), state: RootState::Active };
        let root = vm.store.data_mut().add_context(context);
        let created =
            vm.invoke(root, Callback::RootCreate, "proxy_on_context_create", |store, exports| {
                exports.context_create.as_ref().map(|f| f.call(store, (root, 0)))
            });
        // Envoy loads a plugin whose root traps when it is created; its requests get what the
        // failure policy says. It calls the failed VM once more, with vm_start.
        let failed = vm.store.data_mut().failed.take();
        let size = plugin.config.vm.configuration.bytes.len() as u32;
        let started = vm.invoke(root, Callback::VmStart, "proxy_on_vm_start", |store, exports| {
            exports.vm_start.as_ref().map(|f| f.call(store, (root, size)))
        });
        accepted(vm, plugin, started, "proxy_on_vm_start")?;
        if let Outcome::Failed = created {
            vm.store.data_mut().failed = failed;
            return Ok(root);
        }
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

    /// One plugin's trial run, as Envoy makes it before it accepts a configuration. The VM is
    /// dropped without done or delete; what it wrote to shared data stays.
    pub(crate) fn canary(
        engine: &Arc<crate::Engine>,
        plugin: &Arc<Plugin>,
    ) -> Result<(), StartError> {
        let mut worker = Self::bare(engine, None);
        let index = worker.start_vm(plugin)?;
        worker.start_root(index, plugin).map(|_| ())
    }

    /// FAIL_RELOAD: the next request makes a new root, in a VM that is alive or a new one, at most
    /// once a jittered interval. Every place of the configuration counts for itself, so that two
    /// plugins of one VM come back one by one, each by its own policy.
    pub(crate) fn reload_if_due(&mut self, at: usize) {
        let Some(Place::Filled { handle, loaded }) = self.places.get(at) else { return };
        let (old, loaded) = (*handle, *loaded);
        let Some(Some(handle)) = self.handles.get(old) else { return };
        let plugin = handle.plugin.clone();
        if self.is_alive(handle) || plugin.config.failure_policy != FailurePolicy::FailReload {
            return;
        }
        let now = self.shared.borrow().now();
        if now.since(loaded) < self.reload_wait(plugin.config.reload_base_interval) {
            return self.count_reload(&plugin, "backoff");
        }
        let fresh = self.hold(&plugin);
        let alive = fresh.and_then(|fresh| self.handles.get(fresh)?.as_ref());
        let alive = alive.is_some_and(|handle| self.is_alive(handle));
        let handle = fresh.filter(|_| alive).unwrap_or(old);
        if let Some(place) = self.places.get_mut(at) {
            *place = Place::Filled { handle, loaded: now };
        }
        if alive {
            self.release(old);
        } else if let Some(fresh) = fresh {
            self.release(fresh);
        }
        self.note_upstream_vms();
        let outcome = if alive { "success" } else { "failure" };
        self.count_reload(&plugin, outcome);
        self.log(LogLevel::Info, plugin.name(), &format!("VM reload: {outcome}"));
    }

    /// Jittered lower bound: the base and up to half of it again.
    fn reload_wait(&self, base: Duration) -> Duration {
        let nanos = u64::try_from(base.as_nanos()).unwrap_or(u64::MAX).max(1);
        let jitter = self.shared.borrow_mut().rng.next() % (nanos / 2).max(1);
        base + Duration::from_nanos(jitter)
    }

    fn count_reload(&self, plugin: &Plugin, outcome: &str) {
        let name = format!("wasm.{}.vm_reload_{outcome}", plugin.name());
        self.engine.stats().counter(&name).inc();
    }
}

impl VmSlot {
    pub(crate) fn is_failed(&self) -> bool {
        self.vm.as_ref().is_some_and(|vm| vm.failed().is_some())
    }
}

/// A callback that answers 0, or traps, rejects the plugin.
fn accepted(
    vm: &Vm,
    plugin: &Plugin,
    outcome: Outcome<u32>,
    callback: &str,
) -> Result<(), StartError> {
    let reason = match outcome {
        Outcome::Absent => return Ok(()),
        Outcome::Returned(answer) if answer != 0 => return Ok(()),
        Outcome::Returned(_) => format!("{callback} returned false"),
        Outcome::Failed => vm.failed().unwrap_or_default().to_owned(),
    };
    let log = vm.store.data().last_words.iter().cloned().collect();
    Err(StartError { log, ..refused(plugin.name(), &reason) })
}
