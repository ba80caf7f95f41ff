//! The circuit-breaker plugin: translates callbacks for its core.

#![allow(missing_docs, reason = "the exports are those of the ABI")]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod exchange;
mod report;
mod root;
mod stream;

use root::Root;

plugin_kit::main!(module: "circuit-breaker", root: Root::new);
