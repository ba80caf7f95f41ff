//! What a policy limits by.

use crate::{Concurrency, Gcra};
use core::time::Duration;

/// The limit of a policy. Each kind has its own state in shared data, and its own way to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests in time: a token bucket for each value of the key.
    Bucket(Gcra),
    /// Requests in flight.
    Concurrency(Concurrency),
}

impl Limit {
    /// What a client is told to wait that cannot be told exactly.
    pub(crate) fn usual_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.token_time(),
            Self::Concurrency(_) => Duration::from_secs(1),
        }
    }

    /// Time of so many tokens.
    pub(crate) fn time_of(&self, tokens: u32) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.token_time().saturating_mul(tokens),
            Self::Concurrency(_) => Duration::ZERO,
        }
    }

    /// The longest that a refusal can tell a client to wait. What a worker remembers and lies
    /// further ahead is from before the clock stepped back.
    pub(crate) fn longest_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.refill_time().saturating_add(bucket.token_time()),
            // Such refusals are not remembered.
            Self::Concurrency(_) => Duration::ZERO,
        }
    }
}
