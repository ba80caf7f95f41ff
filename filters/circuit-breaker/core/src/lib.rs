//! When to stop sending, and how to begin again.
//!
//! A breaker counts what became of the requests to one endpoint, route or cluster. When too many
//! fail it opens and nothing is sent for a while; then a few probes decide whether it closes. The
//! proxy has parts of this: its `circuit_breakers` bound concurrency and know no failures, its
//! outlier detection ejects and returns a host by time alone, and neither probes.
//!
//! All workers share one record a breaker ([`shared_state::BreakerRecord`]), so it trips on what all
//! of them saw, and each change of state is made once. What a worker keeps for itself is a cache of
//! states, at most 100 ms old, and a batch of outcomes that waits as long: see [`WorkerBreakers`].
//!
//! - [`admit`] and [`record`] are the state machine, pure;
//! - [`Ending`] and [`Classify`] tell failures from what only looks like one;
//! - [`destinations`] edits the ordered list of endpoints in the steering header;
//! - [`Filter`] puts them together for one worker;
//! - [`Config`] is what an operator writes.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod backoff;
mod breaker;
mod change;
mod class;
mod config;
pub mod destinations;
mod filter;
mod load;
mod outlier;
mod ramp;
mod retry_after;
mod room;
mod spared;
mod status;
mod window;
mod worker;

#[cfg(test)]
mod model;
#[cfg(test)]
mod races;
#[cfg(test)]
mod resilience4j;

pub use backoff::{Backoff, Jitter};
pub use breaker::{
    Admission, LeaseExpiry, Outcome, Permit, PermitTally, Rules, SlowCalls, Step, Verdict, admit,
    record,
};
pub use change::{Change, Reason};
pub use class::{Classify, Ending, RateLimited, grpc};
pub use config::{
    Action, Config, Debug, EndpointScope, Forced, GuardScope, Mode, OnFull, Override, Rejection,
    Scope, Slots,
};
pub use filter::{Decision, Exchange, Filter, Request, Response, Steering};
pub use load::{Adaptive, AdmissionControl, Algorithm, Bulkhead, Cause, LoadRules, RetryBudget};
pub use outlier::SuccessRate;
pub use ramp::Ramp;
pub use retry_after::{parse_http_date, parse_retry_after, retry_after_secs};
pub use status::StatusSet;
pub use window::Window;
pub use worker::{Clock, Degradation, Event, Subject, WorkerBreakers};
