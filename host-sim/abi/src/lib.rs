//! The proxy-wasm ABI as data: enums, header-map codec, hostcall table, and what a status means.
//!
//! Nothing here knows a runtime: the engine binds these to wasmtime, `host-sim inspect` prints
//! them, tests enumerate them.

mod enums;

pub use enums::{Action, BufferType, LogLevel, MapType, MetricType, PeerType, Status, StreamType};
