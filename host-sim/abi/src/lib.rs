//! The proxy-wasm ABI as data: enums, header-map codec, hostcall table, and what a status means.
//!
//! Nothing here knows a runtime: the engine binds these to wasmtime, `host-sim inspect` prints
//! them, tests enumerate them.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod enums;
mod hostcall;
pub mod pairs;
mod quirk;

pub use enums::{Action, BufferType, LogLevel, MapType, MetricType, PeerType, Status, StreamType};
pub use hostcall::{AbiVersion, HOSTCALLS, Hostcall, why};
pub use quirk::{QUIRKS, Quirk};
