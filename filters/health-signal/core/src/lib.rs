//! What is known of an endpoint's health, from every source, as one record.
//!
//! ```text
//!  each worker                         the leader of the cluster (one VM of the process)
//!  ------------                        -------------------------------------------------
//!  Attempt --> Outcome \                reports of all workers --> merge --> Evidence \
//!  headers --> orca     > Observer -->                                                 > ClusterHealth
//!  clock   --> Latency /  WorkerReport  Schedule --> poll --> Answer --> healthz      /      |
//!                                                                                            v
//!                                                                       fuse --> EndpointHealth
//! ```
//!
//! The request path writes to this VM's memory only. Once a tick each worker writes one record that
//! is its alone, and the leader reads them all, polls, and writes one record an endpoint. Nothing
//! here knows a host, a clock or a draw: all of them come in as values.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod active;
pub mod agent;
mod answer;
mod budget;
mod cluster_health;
pub mod config;
mod directory;
mod endpoint_map;
mod error_ratio;
mod evidence;
mod flap;
mod fusion;
pub mod healthz;
mod latency;
mod leadership;
mod observer;
pub mod oob;
pub mod orca;
mod outcome;
mod passive;
mod patience;
pub mod prometheus;
pub mod query;
mod rise_fall;
mod row;
mod schedule;
mod signal;
mod signals;
mod status;

pub use active::{ActiveTrack, PollFailure, Said};
pub use agent::Agent;
pub use answer::{Answer, MAX_BODY_BYTES, Origin, POLL_HEADER, PROXIED_HEADER, SERVED_HEADER};
pub use budget::Budget;
pub use cluster_health::{ClusterHealth, Due, PollOutcome, Publication, Totals, utilization};
pub use config::Config;
pub use directory::Directory;
pub use endpoint_map::EndpointMap;
pub use error_ratio::ErrorRatio;
pub use evidence::{Evidence, merge};
pub use flap::Flap;
pub use fusion::{DecidedBy, Opinions, Verdict, fuse};
pub use latency::Latency;
pub use leadership::leader_key;
pub use observer::Observer;
pub use outcome::{Attempt, FailureKind, Outcome};
pub use passive::PassiveTrack;
pub use patience::Patience;
pub use rise_fall::RiseFall;
pub use schedule::Schedule;
pub use signal::Signal;
pub use signals::{Signals, Source};
pub use status::StatusRanges;

/// The module part of this module's shared-data keys.
pub const MODULE: &str = "health";
