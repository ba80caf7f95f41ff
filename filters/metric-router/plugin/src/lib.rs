//! The metric-router plugin: translates callbacks for its core.

#![allow(missing_docs, reason = "the exports are those of the ABI")]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod metrics;
mod questions;
mod registry;
mod root;
mod stream;

use root::Root;

plugin_kit::main!(module: "metric-router", root: Root::new);
