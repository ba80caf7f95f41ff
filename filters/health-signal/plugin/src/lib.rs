//! The health-signal plugin: translates callbacks for its core.
//!
//! One module, two instances, in two VMs. Downstream, in the listener's chain, it sees the last
//! attempt of each request, reads load reports, and on its tick reports, leads, polls and
//! publishes. Upstream, in a cluster's chain, it sees every attempt and names the endpoint that
//! served it. The upstream instance never polls: a call made from a VM that is also a filter of
//! the called cluster would enter that VM again while it runs, which the SDK does not survive.

#![allow(missing_docs, reason = "the exports are those of the ABI")]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attempt;
mod destination;
mod leader;
mod metrics;
mod root;
mod shared;
mod stream;
mod streams;
mod worker;

use root::Root;

plugin_kit::main!(module: "health-signal", root: Root::new);
