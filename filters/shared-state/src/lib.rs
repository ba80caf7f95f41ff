//! Everything that crosses a module boundary.
//!
//! The four plugins run in separate VMs, one of each on every worker. The only memory they have in
//! common is the host's shared data: a process-wide map from key to bytes with a version number
//! (`cas`), no delete, no expiry, no enumeration, and one mutex. This crate turns that into
//! contracts:
//!
//! | key | written by | read by | record |
//! |---|---|---|---|
//! | `weir/2/members/<cluster>` | metric-router, health-signal (CAS) | both | [`Members`] |
//! | `weir/2/<module>/workers` | every VM of the module (CAS) | same module | [`WorkerSlots`] |
//! | `weir/2/router/worker/<cluster>/<slot>` | one metric-router VM | metric-router | [`WorkerReport`] |
//! | `weir/2/router/flights/<cluster>` | metric-router (CAS) | metric-router | [`AllFlights`] |
//! | `weir/2/router/listing/<cluster>` | metric-router's leader | metric-router | [`Listing`] |
//! | `weir/2/router/leader/<cluster>` | metric-router (CAS) | metric-router | [`Lease`] |
//! | `weir/2/health/worker/<cluster>/<slot>` | one health-signal VM | health-signal | [`WorkerReport`] |
//! | `weir/2/health/endpoint/<cluster>/<endpoint>` | health-signal's leader | metric-router | [`EndpointHealth`] |
//! | `weir/2/health/leader/<cluster>` | health-signal (CAS) | health-signal | [`Lease`] |
//! | `weir/2/breaker/<scope>/<key>` | circuit-breaker (CAS) | metric-router | [`BreakerRecord`] |
//! | `weir/2/bucket/<plugin>/<policy>/<shard>` | token-bucket (CAS) | token-bucket | [`SlotTable`] |
//! | `weir/2/permit/<plugin>/<policy>/<shard>` | token-bucket (CAS) | token-bucket | [`PermitTable`] |
//! | `weir/2/active/<plugin>/<policy>` | token-bucket (CAS) | token-bucket | [`ActiveKeys`] |
//! | `weir/2/bucket/seed` | token-bucket (CAS, once) | token-bucket | [`HashSeed`] |
//!
//! Rules that hold for all of them:
//!
//! - The schema version is part of the key. A layout change bumps it, so that modules of different
//!   versions never read each other's bytes.
//! - Keys are immortal, so none holds a client-controlled value.
//! - Decoding is total. A record that does not decode counts as absent and is counted.
//! - Nothing is written at start: absent means unknown health, full bucket, closed breaker.
//! - Prefer one writer a record. Compare-and-swap only where a decision must be unique, and then
//!   through [`update()`], the one loop in the suite.
//! - Time is wall clock and may step back; see [`UnixNanos`].

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod active;
mod breaker;
mod bucket;
#[cfg(any(test, feature = "testing"))]
pub mod corpus;
mod endpoint;
mod flights;
mod health;
mod key;
mod leadership;
mod lease;
mod listing;
mod members;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod permit;
mod record;
mod store;
mod time;
mod update;
mod worker;

pub use active::{ActiveKeys, Demand, MAX_ACTIVE};
pub use breaker::{
    BreakerRecord, BreakerState, BreakerWindow, CountWindow, DEFAULT_ENDPOINT_SCOPE,
    HalfOpenProgress, MAX_COUNT_WINDOW, MAX_PERMITS, PermitLease, TimeWindow, WINDOW_BUCKETS,
    WindowBucket,
};
pub use bucket::{HashSeed, MAX_SLOTS, Pace, Settled, SlotTable};
pub use endpoint::{Endpoint, ParseEndpointError};
pub use flights::{AllFlights, Flights, Progress};
pub use health::{
    EndpointHealth, HealthState, LoadReport, MAX_NAMED_METRICS, ReportedResponse, metric_id,
};
pub use key::{Key, SCHEMA_VERSION};
pub use leadership::{Leadership, Standing};
pub use lease::{Lease, LeaseOutcome};
pub use listing::{Listed, Listing, zone_id};
pub use members::{MAX_MEMBERS, Member, Members};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryStore;
pub use permit::{Holding, MAX_HOLDINGS, PermitTable};
pub use record::{DecodeError, Reader, Record, Writer, decode, encode};
pub use store::{Cas, Expected, SetError, SharedStore, StoreError, Versioned};
pub use time::{CLOCK_TOLERANCE, UnixNanos};
pub use update::{MAX_CAS_ATTEMPTS, ReadError, Transition, UpdateError, Updated, read, update};
pub use worker::{MAX_WORKERS, WorkerEntry, WorkerReport, WorkerSlot, WorkerSlots};
