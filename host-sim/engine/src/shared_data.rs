//! Shared data: the process-wide key-value store of the ABI, one namespace per `vm_id`.
//!
//! One mutex guards all of it, as in the reference host: what a plugin author measures here is
//! what contends there. Compare-and-swap numbers come from one counter for all keys. A CAS on a
//! key that does not exist creates it *whatever number is given*: that is the only
//! create-if-absent the ABI has, plugins rely on it, and it is tested below.

use bytes::Bytes;
use host_sim_abi::Status;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The store. Never forgets a key: the ABI has no delete.
#[derive(Debug, Default)]
pub struct SharedData {
    inner: Mutex<Inner>,
}

/// Values and their CAS numbers, of one `vm_id`.
type Space = HashMap<Box<[u8]>, (Bytes, u32)>;

#[derive(Debug, Default)]
struct Inner {
    last_cas: u32,
    spaces: HashMap<Box<str>, Space>,
    conflicts: u64,
}

impl SharedData {
    /// Value and CAS number of a key.
    #[must_use]
    pub fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Bytes, u32)> {
        self.lock().spaces.get(vm_id)?.get(key).cloned()
    }

    /// Writes. `cas` 0 always overwrites; another number must be the current one, if the key
    /// exists.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] when the value has changed.
    pub fn set(&self, vm_id: &str, key: &[u8], value: Bytes, cas: u32) -> Result<(), Status> {
        let inner = &mut *self.lock();
        if !inner.spaces.contains_key(vm_id) {
            inner.spaces.insert(vm_id.into(), HashMap::new());
        }
        let Some(space) = inner.spaces.get_mut(vm_id) else { return Err(Status::InternalFailure) };
        let next = inner.last_cas.wrapping_add(1).max(1);
        match space.get_mut(key) {
            Some((_, current)) if cas != 0 && *current != cas => {
                inner.conflicts += 1;
                return Err(Status::CasMismatch);
            }
            Some(slot) => *slot = (value, next),
            None => {
                space.insert(key.into(), (value, next));
            }
        }
        inner.last_cas = next;
        Ok(())
    }

    /// Forgets every key of a `vm_id`. The reference host does so when the last VM with that id
    /// goes; plugins cannot.
    pub fn forget(&self, vm_id: &str) {
        self.lock().spaces.remove(vm_id);
    }

    /// How many keys a `vm_id` has, for tests on unbounded growth.
    #[must_use]
    pub fn key_count(&self, vm_id: &str) -> usize {
        self.lock().spaces.get(vm_id).map_or(0, HashMap::len)
    }

    /// How many writes lost a CAS race so far.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.lock().conflicts
    }

    /// Every key and value of a `vm_id`, ordered by key.
    #[must_use]
    pub fn snapshot(&self, vm_id: &str) -> BTreeMap<Vec<u8>, (Bytes, u32)> {
        let inner = self.lock();
        let space = inner.spaces.get(vm_id).into_iter().flatten();
        space.map(|(key, entry)| (key.to_vec(), entry.clone())).collect()
    }

    /// Nothing below leaves the map half-written if it panics.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn any_cas_number_creates_an_absent_key() {
        let data = SharedData::default();
        assert_eq!(data.set("vm", b"k", value("a"), 77), Ok(()));
        assert_eq!(data.get("vm", b"k"), Some((value("a"), 1)));
    }

    #[test]
    fn a_wrong_cas_number_leaves_an_existing_key_alone() {
        let data = SharedData::default();
        data.set("vm", b"k", value("a"), 0).unwrap();
        assert_eq!(data.set("vm", b"k", value("b"), 9), Err(Status::CasMismatch));
        assert_eq!(data.get("vm", b"k"), Some((value("a"), 1)));
        assert_eq!(data.conflicts(), 1);
    }

    #[test]
    fn cas_numbers_come_from_one_counter_for_all_keys_and_vm_ids() {
        let data = SharedData::default();
        data.set("a", b"1", value(""), 0).unwrap();
        data.set("b", b"1", value(""), 0).unwrap();
        data.set("a", b"2", value(""), 0).unwrap();
        let cas = |vm, key: &[u8]| data.get(vm, key).map(|(_, cas)| cas);
        assert_eq!((cas("a", b"1"), cas("b", b"1"), cas("a", b"2")), (Some(1), Some(2), Some(3)));
    }

    #[test]
    fn cas_zero_always_overwrites() {
        let data = SharedData::default();
        data.set("vm", b"k", value("a"), 0).unwrap();
        data.set("vm", b"k", value("b"), 0).unwrap();
        assert_eq!(data.get("vm", b"k"), Some((value("b"), 2)));
    }

    #[test]
    fn namespaces_do_not_see_each_other() {
        let data = SharedData::default();
        data.set("", b"k", value("a"), 0).unwrap();
        assert_eq!(data.get("other", b"k"), None);
        assert_eq!((data.key_count(""), data.key_count("other")), (1, 0));
        data.forget("");
        assert_eq!(data.get("", b"k"), None);
    }
}
