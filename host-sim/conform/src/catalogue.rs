//! All cases.
//!
//! What is left out, because Envoy aborts on it, is listed in `docs/conformance.md`.

mod bodies;
mod calls;
mod chain;
mod ends;
mod foreign;
mod grpc;
mod hostcalls;
mod matrix;
mod memory;
mod properties;
mod replies;
mod signatures;
mod streams;
mod tcp;
mod traps;
mod wasi;

use crate::Case;

/// Every case, roots first: they run when a host starts.
#[must_use]
pub fn catalogue() -> Vec<Case> {
    let families = [
        matrix::roots(),
        matrix::cases(),
        memory::cases(),
        bodies::cases(),
        streams::cases(),
        replies::cases(),
        calls::cases(),
        chain::cases(),
        foreign::cases(),
        grpc::cases(),
        wasi::cases(),
        tcp::cases(),
        traps::cases(),
        ends::cases(),
    ];
    families.into_iter().flatten().collect()
}
