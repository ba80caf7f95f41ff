//! Shared data of the host, as the cores know it.

use crate::ffi::{self, CAS_MISMATCH, NOT_FOUND};
use shared_state::{Cas, Expected, SetError, SharedStore, StoreError, Versioned};

/// The version that stands for "create if absent": Envoy looks at a version only where the key is
/// present, and no value ever has this one before its counter has gone round.
const NO_VERSION: u32 = u32::MAX;

/// The version that stands for "whatever is there".
const ANY_VERSION: u32 = 0;

/// The shared data of this VM's `vm_id`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostStore;

impl SharedStore for HostStore {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        match ffi::shared_data(key) {
            Ok((bytes, cas)) => Ok(Some(Versioned { bytes, cas: Cas(cas) })),
            Err(NOT_FOUND) => Ok(None),
            Err(status) => Err(StoreError { status }),
        }
    }

    fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError> {
        let cas = match expected {
            Expected::Absent => NO_VERSION,
            Expected::Version(Cas(cas)) => cas,
            Expected::Any => ANY_VERSION,
        };
        ffi::set_shared_data(key, value, cas).map_err(|status| match status {
            CAS_MISMATCH => SetError::Conflict,
            status => SetError::Store(StoreError { status }),
        })
    }
}
