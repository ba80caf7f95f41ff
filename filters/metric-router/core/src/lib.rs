//! Which endpoints a request should go to, best first.
//!
//! The proxy's own policies see what the proxy sees: requests in flight, and with a recent version
//! load reports. What they cannot see is what another filter of the suite knows: health, breakers,
//! smoothed latency over all workers. This crate turns that knowledge into an ordered list of
//! endpoints; the proxy's `override_host` policy takes the first, retries walk the rest, and what
//! is not listed is left to the cluster's own policy.
//!
//! | part | question it answers |
//! |---|---|
//! | [`Config`] | what was asked for |
//! | [`Router`] | which cluster is this, and what is due at a tick |
//! | [`Cluster`] | pick, learn, measure, for one cluster in one worker |
//! | [`OrcaWeight`] | what a load report is worth (gRPC A58) |
//! | [`Snapshot`] | which endpoints are candidates, and at what price |
//! | [`Schedule`] | whose turn it is, in proportion to weight |
//!
//! A pick reads the snapshot and this worker's own requests in flight, nothing else: shared data is
//! read by the tick. Everything that could go wrong ends in the same place: no steering for this
//! request, counted by [`Reason`], and the cluster's own policy decides. So the filter is never
//! worse than the proxy alone.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod base64;
mod cluster;
mod config;
mod debug;
mod division;
mod ewma;
mod exchange;
mod fitness;
mod flight;
mod key;
mod label;
mod look;
mod mechanism;
mod membership;
mod note;
mod orca;
mod pick;
mod policy;
mod ramp;
mod rank;
mod refresh;
mod registry;
mod router;
mod row;
mod schedule;
mod service;
mod service_time;
mod shared;
mod snapshot;
mod spare;
mod steering;
#[cfg(test)]
mod testing;
mod throughput;
mod verify;
mod work;
mod worker;

pub use cluster::Cluster;
pub use config::{
    AccessLog, AutoRules, Canary, ClusterConfig, Config, ConsistentHash, Endpoints, HotCold,
    LeastCost, LoadReports, Locality, Mode, PeakEwmaRules, Policy, SlowStart, Steering,
};
pub use debug::{DebugHeader, Secret};
pub use division::Part;
pub use flight::{Flight, Outcome, Response};
pub use key::{Attributes, KeyPart};
pub use label::Label;
pub use mechanism::Mechanism;
pub use note::Note;
pub use orca::OrcaWeight;
pub use pick::{Pick, Reason, Steered, Why};
pub use registry::{MAX_ANSWER_BYTES, Registry, RegistryAnswer, Told, Unusable};
pub use router::{ClusterId, Course, Journey, MAX_CLUSTERS, Router};
pub use schedule::Schedule;
pub use service::{Answered, ClusterChoice, ServiceConfig};
pub use snapshot::{Candidate, Condition, Facts, Load, Snapshot};
