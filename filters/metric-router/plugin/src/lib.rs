//! The metric-router plugin: translates callbacks for its core.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod metrics;
mod root;
mod stream;

use root::Root;

plugin_kit::main!(module: "metric-router", root: Root::new);
