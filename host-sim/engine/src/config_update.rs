//! Replacing a plugin while requests are in flight, as Envoy does for a new filter configuration.
//!
//! The order is Envoy's: the canary first, and if it refuses, nothing has changed. Then every
//! thread starts a root for the new plugin, in the VM it already has if the VM's key is the same;
//! new streams use it from there on. A worker lets go of the old plugin at once, the main thread
//! when the last worker has made the change. Letting go ends the old root (done, delete) when the
//! last stream that began with it is gone; until then its ticks, queues and calls go on. Going back
//! to a configuration whose root still drains takes that root back, without configuring it again.
//!
//! A thread on which the new root fails, although the canary had passed, goes on *without the
//! plugin*, whatever its failure policy says: also that is Envoy's.

use crate::inbox::{Inbox, Post};
use crate::plugin::Plugin;
use crate::plugin_slot::{PluginSlot, run_canary};
use crate::stats::Counter;
use crate::worker::Turn;
use crate::{Engine, StartError};
use host_sim_bootstrap::PluginConfig;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Inboxes of an engine's running threads.
#[derive(Default)]
pub(crate) struct Directory(Mutex<Vec<(Option<u32>, Weak<Inbox>)>>);

impl Directory {
    pub(crate) fn enter(&self, worker: Option<u32>, inbox: &Arc<Inbox>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(_, inbox)| inbox.strong_count() > 0);
        entries.push((worker, Arc::downgrade(inbox)));
        // The main thread first, then workers by number.
        entries.sort_by_key(|(worker, _)| *worker);
    }

    fn inboxes(&self) -> Vec<Arc<Inbox>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter_map(|(_, inbox)| inbox.upgrade()).collect()
    }

    fn main(&self) -> Option<Arc<Inbox>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let main = entries.iter().find(|(worker, _)| worker.is_none())?;
        main.1.upgrade()
    }
}

/// One update on its way through the threads.
pub(crate) struct Rollout {
    /// Places by number.
    slots: Vec<usize>,
    plugin: Arc<Plugin>,
    engine: Weak<Engine>,
    reloads: Option<Counter>,
}

impl Drop for Rollout {
    /// The last thread is done.
    fn drop(&mut self) {
        if let Some(reloads) = &self.reloads {
            reloads.inc();
        }
        let engine = self.engine.upgrade();
        if let Some(main) = engine.and_then(|engine| engine.directory().main()) {
            main.post(Post::Retire);
        }
    }
}

impl Engine {
    /// Changes the configuration of every filter and service whose plugin has that name, while
    /// requests are in flight. Threads make the change in their next turn.
    ///
    /// # Errors
    /// When no plugin has the name, or the new configuration is refused: then nothing changes.
    pub fn update_plugin(
        self: &Arc<Self>,
        name: &str,
        change: impl Fn(&mut PluginConfig),
    ) -> Result<(), StartError> {
        let mut updates: Vec<(Arc<Plugin>, Vec<usize>)> = Vec::new();
        for (at, slot) in self.slots().iter().enumerate() {
            let Some(old) = slot.current().filter(|plugin| plugin.name() == name) else { continue };
            match updates.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &old)) {
                Some((_, slots)) => slots.push(at),
                None => updates.push((old, vec![at])),
            }
        }
        if updates.is_empty() {
            let known = self.slots().iter().map(|slot| {
                slot.current().map_or_else(|| slot.filter.clone(), |plugin| plugin.name().into())
            });
            let known = known.collect::<Vec<String>>().join(", ");
            let reason = format!("no filter or service runs a plugin named {name:?}: {known}");
            return Err(StartError::host(reason));
        }
        let mut accepted = Vec::new();
        for (old, slots) in updates {
            let mut config = old.config.clone();
            change(&mut config);
            let plugin = self.plugins().load(&config, self.options(), old.singleton)?;
            run_canary(self, &plugin)?;
            accepted.push((plugin, slots));
        }
        for (plugin, slots) in accepted {
            self.roll_out(slots, &plugin, None);
        }
        Ok(())
    }

    /// Puts an accepted plugin in its places, and has every thread follow.
    pub(crate) fn roll_out(
        self: &Arc<Self>,
        slots: Vec<usize>,
        plugin: &Arc<Plugin>,
        reloads: Option<Counter>,
    ) {
        for at in &slots {
            if let Some(slot) = self.slots().get(*at) {
                slot.replace(plugin.clone());
            }
        }
        let engine = Arc::downgrade(self);
        let rollout = Arc::new(Rollout { slots, plugin: plugin.clone(), engine, reloads });
        for inbox in self.directory().inboxes() {
            inbox.post(Post::Update(rollout.clone()));
        }
    }
}

impl Turn<'_> {
    /// This thread's part of an update.
    pub(crate) fn follow(&mut self, rollout: &Rollout) {
        let main = self.shared.borrow().worker.is_none();
        for at in &rollout.slots {
            let engine = self.engine.clone();
            if engine.slots().get(*at).is_none_or(|slot: &PluginSlot| slot.singleton && !main) {
                continue;
            }
            let old = self.fill_place(*at, Some(&rollout.plugin));
            match old {
                Some(handle) if main => self.retiring.push(handle),
                Some(handle) => self.release(handle),
                None => {}
            }
        }
    }

    /// The main thread's last part of an update.
    pub(crate) fn retire(&mut self) {
        for handle in std::mem::take(&mut self.retiring) {
            self.release(handle);
        }
    }
}
