//! What a worker tells of its breakers: changes, permits, and where they did less than they should.

use super::Subject;
use crate::breaker::PermitTally;
use crate::change::Change;

/// Something that the operator may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This worker changed the state of a breaker.
    Changed {
        /// Which breaker.
        subject: Subject,
        /// From what, to what, and why.
        change: Change,
    },
    /// A request passes only because the operator wants this breaker to reject nothing.
    Pardoned(Subject),
    /// A permit was granted.
    Granted,
    /// Permits were resolved.
    Resolved(PermitTally),
    /// A breaker did less than it should.
    Degraded(Degradation),
}

/// Why a breaker did less than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degradation {
    /// Its record was no record: taken as closed.
    Corrupt,
    /// The host failed: the request passed.
    Store,
    /// Every race for its record was lost: the request passed, or its outcome waits.
    Contended,
    /// The worker follows as many as it may: this one does not exist.
    TooManyBreakers,
    /// A list named more endpoints that never answered than the cluster has.
    UnconfirmedEndpoint,
    /// Every place that a key may have is in use.
    NoSlot,
    /// The host names no cluster.
    NoCluster,
}

impl Degradation {
    /// The label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt_record",
            Self::Store => "store_failed",
            Self::Contended => "contended",
            Self::TooManyBreakers => "too_many_breakers",
            Self::UnconfirmedEndpoint => "unconfirmed_endpoint",
            Self::NoSlot => "no_slot",
            Self::NoCluster => "no_cluster",
        }
    }

    /// What happens because of it.
    pub const fn consequence(self) -> &'static str {
        match self {
            Self::Corrupt => "a breaker's record does not decode and is taken as closed",
            Self::Store => "shared data cannot be read or written, requests pass",
            Self::Contended => "a breaker's record lost every race, its outcomes wait",
            Self::TooManyBreakers => "a worker follows too many breakers, this one does not exist",
            Self::NoCluster => "a request has no cluster",
            Self::NoSlot => {
                "every slot that a key may have is in use: it is treated as on_full says"
            }
            Self::UnconfirmedEndpoint => {
                "the steering header names more endpoints that never answered than the cluster has"
            }
        }
    }
}
