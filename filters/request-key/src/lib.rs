//! What a request is told apart by: attributes, in one spelling each, hashed with a secret.
//!
//! token-bucket counts by such keys and circuit-breaker keeps a breaker for each. Both store 64 bits
//! and nothing that a client sent, so the rules of what makes two requests equal stand here once.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod key;
pub mod path;
mod siphash;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use key::{Attributes, KeyPart, fingerprint, fingerprint_of};
pub use siphash::siphash_2_4;
