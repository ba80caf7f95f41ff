//! Exact keyed token buckets in bounded memory.
//!
//! A [`Config`] names policies; each has a token bucket ([`Gcra`]: one number) and a key, and
//! there is one bucket for each value of the key. The buckets live in shared data, in a fixed
//! number of tables ([`shared_state::SlotTable`]), so that all workers of the proxy spend from the
//! same ones and no client can make them grow. A [`Limiter`] asks all policies about a request
//! and gives a [`Verdict`]: pass or refuse, what to count, what to tell the client.
//!
//! What holds, whatever the order of the workers' reads and writes, the clock, or the contents of
//! shared data that others may write to:
//!
//! - In any window of length `w`, at most `max_tokens + floor(w * tokens_per_fill / fill_interval)`
//!   requests of one key pass. The exceptions: what the configuration allows by name
//!   (`failure_mode`, `on_contention` and `on_full` as `allow`), a record destroyed by a stranger,
//!   which counts as a full bucket, and a worker that sleeps between reading the clock and writing
//!   the record for longer than a second and than the bucket takes to fill.
//! - A refused request spends nothing. If it raced with another worker over several policies, one
//!   token may be lost; none is ever created.
//! - Memory is at most `shards * slots_per_shard * 16` bytes a policy, however many clients there
//!   are.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod admission;
mod capacity;
mod concurrency;
mod config;
mod cost;
mod demand;
mod denial;
mod fair_share;
pub mod fields;
mod gcra;
pub mod global;
mod lease;
mod limit;
mod limiter;
mod matching;
mod peers;
mod problem;
mod shaping;
mod table;
#[cfg(test)]
mod testing;
mod verdict;

pub use admission::{Admission, Settlement};
pub use capacity::Capacity;
pub use concurrency::Concurrency;
pub use config::{
    Config, FailureMode, GrpcStatus, Mode, OnFull, OnMissingKey, Policy, ReplyConfig, Shards,
    TellLimits,
};
pub use cost::{Cost, Settle, whole};
pub use fair_share::{FairShare, Weight};
pub use gcra::{Decision, Gcra, Level};
pub use limit::Limit;
pub use limiter::{FleetAnswers, Limiter};
pub use matching::{HeaderMatch, HostMatch, Match, PathMatch, Rule, ValueMatch};
pub use peers::Peers;
pub use problem::problem_details;
pub use request_key::{Attributes, KeyPart};
pub use shaping::Queue;
pub use verdict::{Fault, FleetOutcome, Outcome, Reason, Refusal, Tally, Verdict};
