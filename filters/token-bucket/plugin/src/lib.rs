//! The token-bucket plugin: translates callbacks for its core.
//!
//! All decisions are [`token_bucket_core::Limiter`]'s. What is here is the proxy's side of it:
//! where the request's attributes come from, how a refusal is answered, and what is counted where.

#![allow(missing_docs, reason = "the exports are those of the ABI")]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answer;
mod attributes;
mod global;
mod hold;
mod metrics;
mod root;
mod stream;

use root::Root;

plugin_kit::main!(module: "token-bucket", root: Root::new);
