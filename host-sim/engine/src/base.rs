//! What outlives the VMs of single threads: Envoy's "base Wasm" of a VM key, and the handle of a
//! `vm_id`.
//!
//! Both are held by the plugins that use them, and so by every root and stream context. The base
//! remembers what became of each configuration's canary: the same configuration is not tried
//! twice. It also remembers when a configuration had passed its canary and then failed on a
//! thread: Envoy marks the base itself as failed, and refuses every later configuration of the key
//! until the base is gone. The `vm_id`'s shared data and queues vanish with its last holder; a new
//! configuration is loaded before the old one goes, so that an update keeps them.

use crate::SharedData;
use crate::plugin::VmKey;
use crate::queue::SharedQueues;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Identity of a plugin's whole configuration.
pub(crate) type PluginKey = [u8; 32];

/// What the VMs of one key share, over all threads.
pub(crate) struct Base {
    canaries: Mutex<HashMap<PluginKey, bool>>,
    failed: AtomicBool,
    _vm_id: Arc<VmIdHandle>,
}

impl Base {
    /// What a configuration's canary came to, if it has run.
    pub(crate) fn canary(&self, plugin: &PluginKey) -> Option<bool> {
        lock(&self.canaries).get(plugin).copied()
    }

    pub(crate) fn remember_canary(&self, plugin: PluginKey, passed: bool) {
        lock(&self.canaries).insert(plugin, passed);
    }

    /// A configuration has failed on a thread after its canary had passed.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The scope of shared data and queues; dropping the last one forgets them.
struct VmIdHandle {
    vm_id: String,
    data: Arc<SharedData>,
    queues: Arc<SharedQueues>,
    handles: Arc<Mutex<HashMap<String, Weak<VmIdHandle>>>>,
}

impl Drop for VmIdHandle {
    fn drop(&mut self) {
        let mut handles = lock(&self.handles);
        // Another thread may have made a successor meanwhile: what it has written is its own.
        if handles.get(&self.vm_id).is_none_or(|handle| handle.strong_count() == 0) {
            handles.remove(&self.vm_id);
            self.data.forget(&self.vm_id);
            self.queues.forget(&self.vm_id);
        }
    }
}

/// All bases of an engine, and the stores whose scopes they hold open.
#[derive(Default)]
pub(crate) struct Bases {
    pub(crate) data: Arc<SharedData>,
    pub(crate) queues: Arc<SharedQueues>,
    bases: Mutex<HashMap<VmKey, Weak<Base>>>,
    vm_ids: Arc<Mutex<HashMap<String, Weak<VmIdHandle>>>>,
}

impl Bases {
    /// The base of a key; a new one if there is none (any more).
    pub(crate) fn of(&self, key: VmKey, vm_id: &str) -> Arc<Base> {
        let mut bases = lock(&self.bases);
        if let Some(base) = bases.get(&key).and_then(Weak::upgrade) {
            return base;
        }
        bases.retain(|_, base| base.strong_count() > 0);
        let (canaries, failed) = (Mutex::default(), AtomicBool::new(false));
        let base = Arc::new(Base { canaries, failed, _vm_id: self.vm_id(vm_id) });
        bases.insert(key, Arc::downgrade(&base));
        base
    }

    fn vm_id(&self, vm_id: &str) -> Arc<VmIdHandle> {
        let mut handles = lock(&self.vm_ids);
        if let Some(handle) = handles.get(vm_id).and_then(Weak::upgrade) {
            return handle;
        }
        let handle = Arc::new(VmIdHandle {
            vm_id: vm_id.to_owned(),
            data: self.data.clone(),
            queues: self.queues.clone(),
            handles: self.vm_ids.clone(),
        });
        handles.insert(vm_id.to_owned(), Arc::downgrade(&handle));
        handle
    }
}

/// No update here can be left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn data_of_a_vm_id_goes_with_its_last_base_and_its_cas_numbers_go_on() {
        let bases = Bases::default();
        let (first, second) = (bases.of([1; 32], "vm"), bases.of([2; 32], "vm"));
        bases.data.set("vm", b"k", Bytes::new(), 0).unwrap();
        drop(first);
        assert!(bases.data.get("vm", b"k").is_some());
        drop(second);
        assert!(bases.data.get("vm", b"k").is_none());
        bases.data.set("vm", b"k", Bytes::new(), 0).unwrap();
        assert_eq!(bases.data.get("vm", b"k").map(|(_, cas)| cas), Some(2));
    }

    #[test]
    fn a_base_remembers_for_as_long_as_somebody_holds_it() {
        let bases = Bases::default();
        let base = bases.of([1; 32], "vm");
        base.remember_canary([7; 32], false);
        base.fail();
        let same = bases.of([1; 32], "vm");
        assert_eq!((same.canary(&[7; 32]), same.has_failed()), (Some(false), true));
        drop((base, same));
        let fresh = bases.of([1; 32], "vm");
        assert_eq!((fresh.canary(&[7; 32]), fresh.has_failed()), (None, false));
    }
}
