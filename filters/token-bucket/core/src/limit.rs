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
    /// The same limit, which may come to owe so many tokens. `None` if they take too long to come.
    pub(crate) fn with_max_debt(self, tokens: u32) -> Option<Self> {
        match self {
            Self::Bucket(bucket) => bucket.with_max_debt(tokens).map(Self::Bucket),
            limit @ Self::Concurrency(_) => Some(limit),
        }
    }

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
            Self::Bucket(bucket) => bucket.price(tokens),
            Self::Concurrency(_) => Duration::ZERO,
        }
    }

    /// The longest that it holds a request.
    pub(crate) fn max_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.max_wait(),
            Self::Concurrency(_) => Duration::ZERO,
        }
    }

    /// The longest that a refusal can tell a client to wait. What a worker remembers and lies
    /// further ahead is from before the clock stepped back.
    pub(crate) fn longest_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.longest_refill().saturating_add(bucket.refill_time()),
            // Such refusals are not remembered.
            Self::Concurrency(_) => Duration::ZERO,
        }
    }
}
