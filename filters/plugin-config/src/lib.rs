//! From configuration bytes to a typed value, or to every problem at once.
//!
//! An operator who has made three mistakes wants to read three messages, each with the place and
//! the mend, not one at a time. Serde stops at the first error, so [`parse`] mends the document
//! where the error lies, notes the problem, and parses again until nothing is wrong or nothing can
//! be mended. What serde cannot know (ranges, cross-field rules) the modules check afterwards with
//! a [`Check`], which collects as well. The same Rust struct stays the only description of the
//! format: no second schema can drift from it.
//!
//! The result depends on the bytes alone: no clock, no shared data. Envoy configures each worker
//! separately, and a configuration that some accept and others refuse would poison the VM.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod check;
mod document;
mod fields;
mod node;
mod notes;
mod parse;
mod problem;
mod read;
mod span;
mod value;

pub use Presence::{Or, Required};
pub use check::{Check, Shown};
pub use fields::{Choice, Fields, Presence};
pub use parse::parse;
use problem::nearest;
pub use problem::{Problem, Problems};
pub use read::{MAX_BYTES, MAX_DEPTH, Parsed, read};
pub use span::{OneOrMany, Span};
pub use value::Value;
