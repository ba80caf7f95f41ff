//! A store in memory, with Envoy's rules and with conflicts on demand, for tests.

use crate::{Cas, Expected, SetError, SharedStore, StoreError, Versioned};
use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;

type Interloper = Box<dyn FnOnce(&MemoryStore)>;

/// Shared data of one process, without a host.
#[derive(Default)]
pub struct MemoryStore {
    values: RefCell<BTreeMap<String, Versioned>>,
    last_cas: Cell<u32>,
    interloper: RefCell<Option<Interloper>>,
    refusals: Cell<u32>,
    failure: Cell<Option<u32>>,
    sets: Cell<u32>,
}

impl MemoryStore {
    /// Lets another worker act between the next read and its write.
    pub fn before_next_set(&self, act: impl FnOnce(&Self) + 'static) {
        *self.interloper.borrow_mut() = Some(Box::new(act));
    }

    /// Refuses the next `count` writes as if someone else had been faster.
    pub fn refuse_sets(&self, count: u32) {
        self.refusals.set(count);
    }

    /// Answers every call with this status from now on.
    pub fn fail_with(&self, status: u32) {
        self.failure.set(Some(status));
    }

    /// Writes tried so far, refused ones included.
    pub fn sets_tried(&self) -> u32 {
        self.sets.get()
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.values.borrow().keys().cloned().collect()
    }
}

impl SharedStore for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        match self.failure.get() {
            Some(status) => Err(StoreError { status }),
            None => Ok(self.values.borrow().get(key).cloned()),
        }
    }

    fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError> {
        if let Some(act) = self.interloper.take() {
            act(self);
        }
        self.sets.set(self.sets.get().saturating_add(1));
        if let Some(status) = self.failure.get() {
            return Err(SetError::Store(StoreError { status }));
        }
        if self.refusals.get() > 0 {
            self.refusals.set(self.refusals.get() - 1);
            return Err(SetError::Conflict);
        }
        let mut values = self.values.borrow_mut();
        let present = values.get(key).map(|found| found.cas);
        let holds = match (expected, present) {
            // An absent key is created whatever version is named: Envoy's rule.
            (Expected::Any, _) | (_, None) => true,
            (Expected::Absent, Some(_)) => false,
            (Expected::Version(cas), Some(found)) => cas == found,
        };
        if !holds {
            return Err(SetError::Conflict);
        }
        self.last_cas.set(self.last_cas.get().wrapping_add(1));
        let cas = Cas(self.last_cas.get());
        values.insert(key.to_owned(), Versioned { bytes: value.to_vec(), cas });
        Ok(())
    }
}
