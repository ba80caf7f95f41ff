//! From configuration bytes to a typed value, or to every problem at once.
//!
//! An operator who has made three mistakes wants to read three messages, each with the place and
//! the mend, not one at a time. A module [`read`]s its configuration as a list of calls on
//! [`Fields`], each with a field's name, its range and its default. What is wrong is noted and
//! reading goes on; at the end there is a value without problems, or all of them. The calls are the
//! only description of the format: no second schema can drift from it.
//!
//! The result depends on the bytes alone: no clock, no shared data. Envoy configures each worker
//! separately, and a configuration that some accept and others refuse would poison the VM.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod decimal;
mod fields;
mod header;
mod notes;
#[cfg(feature = "record")]
mod page;
mod problem;
mod read;
mod span;
mod value;
mod words;

pub use Presence::{Or, Required};
pub use decimal::parse_decimal;
pub use fields::{Choice, Fields, Presence, TextOrFields};
pub use header::frames_messages;
#[cfg(feature = "record")]
pub use page::Page;
use problem::nearest;
pub use problem::{Problem, Problems};
#[cfg(feature = "record")]
pub use read::asked;
pub use read::{MAX_BYTES, MAX_DEPTH, Parsed, read};
pub use span::Span;
pub use value::Value;
