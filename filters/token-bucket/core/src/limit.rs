//! What a policy limits by.

use crate::fair_share::ROUND;
use crate::{Concurrency, FairShare, Gcra};
use core::time::Duration;

/// The limit of a policy. Each kind has its own state in shared data, and its own way to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests in time: a token bucket for each value of the key.
    Bucket(Gcra),
    /// Requests in flight.
    Concurrency(Concurrency),
    /// A share of another policy's bucket, for each value of the key.
    FairShare(FairShare),
}

impl Limit {
    /// The same limit, which may come to owe so many tokens. `None` if they take too long to come.
    pub(crate) fn with_max_debt(self, tokens: u32) -> Option<Self> {
        match self {
            Self::Bucket(bucket) => bucket.with_max_debt(tokens).map(Self::Bucket),
            limit => Some(limit),
        }
    }

    /// The same limit, for which requests are held so long. `None` if it cannot tell how long they
    /// would have to be.
    pub(crate) fn with_max_wait(self, wait: Duration) -> Option<Self> {
        match self {
            limit if wait.is_zero() => Some(limit),
            Self::Bucket(bucket) => bucket.with_max_wait(wait).map(Self::Bucket),
            Self::Concurrency(_) | Self::FairShare(_) => None,
        }
    }

    /// What a client is told to wait that cannot be told exactly.
    pub(crate) fn usual_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.token_time(),
            Self::Concurrency(_) | Self::FairShare(_) => Duration::from_secs(1),
        }
    }

    /// Time of so many tokens.
    pub(crate) fn time_of(&self, tokens: u32) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.price(tokens),
            Self::Concurrency(_) | Self::FairShare(_) => Duration::ZERO,
        }
    }

    /// The longest that it holds a request.
    pub(crate) fn max_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.max_wait(),
            Self::Concurrency(_) | Self::FairShare(_) => Duration::ZERO,
        }
    }

    /// The longest that a refusal can tell a client to wait. What a worker remembers and lies
    /// further ahead is from before the clock stepped back.
    pub(crate) fn longest_wait(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.longest_refill().saturating_add(bucket.refill_time()),
            // Refused by what others ask for, which changes from round to round.
            Self::FairShare(_) => ROUND,
            // Such refusals are not remembered.
            Self::Concurrency(_) => Duration::ZERO,
        }
    }
}
