//! Keys of shared data: typed, versioned, bounded.
//!
//! A key can never be deleted, so each is built from names of the configuration (clusters, scopes,
//! policies) and from endpoint addresses of the host, never from what a client sent. A part that is
//! long or holds a separator is replaced by its hash, which bounds the length of every key.

use core::fmt::Write as _;
use core::marker::PhantomData;

/// Version of every record layout in this crate. Part of each key: bump it when a layout changes.
pub const SCHEMA_VERSION: u32 = 2;

/// Longest part that is kept as it is, in bytes. Cluster names of Istio stay readable.
const MAX_PART_BYTES: usize = 96;

/// The name of one record of type `R`.
#[derive(Debug)]
pub struct Key<R> {
    text: String,
    record: PhantomData<fn() -> R>,
}

impl<R> Key<R> {
    /// `weir/<schema>/<module>/<part>/<part>...`.
    pub fn new(module: &'static str, parts: &[&str]) -> Self {
        let mut text = String::with_capacity(48);
        // Writing to a String cannot fail.
        let _ = write!(text, "weir/{SCHEMA_VERSION}/{module}");
        for part in parts {
            text.push('/');
            push_part(&mut text, part);
        }
        Self { text, record: PhantomData }
    }

    /// The key as the host sees it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<R> Clone for Key<R> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), record: PhantomData }
    }
}

fn push_part(text: &mut String, part: &str) {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b'#';
    if !part.is_empty() && part.len() <= MAX_PART_BYTES && part.bytes().all(plain) {
        text.push_str(part);
    } else {
        let _ = write!(text, "#{:016x}", fnv1a(part.as_bytes()));
    }
}

/// FNV-1a, 64 bit: good enough to tell configured names apart, and without a key to keep.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// What FNV-1a begins with.
pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// What FNV-1a multiplies by.
pub(crate) const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_schema_module_and_parts() {
        let key = Key::<()>::new("health", &["endpoint", "backend", "127.0.0.1:80"]);
        assert_eq!(key.as_str(), "weir/2/health/endpoint/backend/127.0.0.1:80");
    }

    #[test]
    fn a_part_with_a_separator_cannot_pose_as_two_parts() {
        let one = Key::<()>::new("m", &["a/b"]);
        let two = Key::<()>::new("m", &["a", "b"]);
        assert_ne!(one.as_str(), two.as_str());
        assert!(one.as_str().starts_with("weir/2/m/#"));
    }

    #[test]
    fn a_long_part_is_hashed_and_stays_distinct() {
        let long = |end: &str| Key::<()>::new("m", &[&("x".repeat(500) + end)]);
        assert!(long("a").as_str().len() < 40);
        assert_ne!(long("a").as_str(), long("b").as_str());
    }
}
