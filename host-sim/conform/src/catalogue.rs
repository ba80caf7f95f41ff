//! All cases.
//!
//! Left out on purpose, because Envoy aborts: a local reply in on_log, on_done or on_delete, two
//! in one on_response_headers,
//! closing a stream in on_log, on_response_trailers or twice in one callback, resuming a response that is not there,
//! writing buffer 8, and gRPC services whose name happens to parse as protobuf.

mod bodies;
mod calls;
mod chain;
mod hostcalls;
mod matrix;
mod memory;
mod properties;
mod replies;
mod streams;
mod traps;

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
        traps::cases(),
    ];
    families.into_iter().flatten().collect()
}
