//! The one seam between pure code and the host: two methods.

/// The version of a stored value. The host draws it from one process-wide counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub u32);

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value as stored.
    pub bytes: Vec<u8>,
    /// Its version, to be handed back by a writer that read it.
    pub cas: Cas,
}

/// What a writer believes about the value it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is none. Envoy creates an absent key whatever version is named and refuses a present
    /// one whose version differs, so a version that no value has makes "create if absent".
    Absent,
    /// It still has this version.
    Version(Cas),
    /// Anything: the writer is the only one of this key.
    Any,
}

/// The host answered with a status that is neither success nor the expected refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The proxy-wasm status.
    pub status: u32,
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// Someone else wrote first.
    Conflict,
    /// The host failed.
    Store(StoreError),
}

/// The host's shared data.
pub trait SharedStore {
    /// The value under `key`, or `None` if there never was one.
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// Stores `value` if `expected` holds.
    fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError>;
}
