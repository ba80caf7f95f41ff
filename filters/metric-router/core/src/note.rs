//! What went wrong beside a decision. The decision stands without it.

use crate::Unusable;
use core::fmt;
use shared_state::{ReadError, StoreError, UpdateError};

/// A record that could not be used, by whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Members,
    Health,
    Breaker,
    Workers,
    Listing,
}

/// Something to be counted under [`Note::name`], and told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The list of endpoints did not decode; it was taken as empty.
    CorruptMembers,
    /// An endpoint's health did not decode; it was taken as unknown.
    CorruptHealth,
    /// A breaker did not decode; it was taken as closed.
    CorruptBreaker,
    /// What the workers tell each other did not decode; the others were taken as idle.
    CorruptWorkers,
    /// What a registry said did not decode; it was taken as unsaid.
    CorruptListing,
    /// A registry's answer could not be used; the last good list stays.
    Registry(Unusable),
    /// Too many workers wrote at once; this one's news was dropped.
    Contended,
    /// The host refused shared data.
    Store(StoreError),
    /// More workers than slots: this one's load is not seen by the others.
    NoWorkerSlot,
}

impl Note {
    /// The value of the label `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CorruptMembers => "corrupt_members",
            Self::CorruptHealth => "corrupt_health",
            Self::CorruptBreaker => "corrupt_breaker",
            Self::CorruptWorkers => "corrupt_workers",
            Self::CorruptListing => "corrupt_listing",
            Self::Registry(_) => "registry_unusable",
            Self::Contended => "contended",
            Self::Store(_) => "store_failed",
            Self::NoWorkerSlot => "no_worker_slot",
        }
    }

    pub(crate) const fn corrupt(source: Source) -> Self {
        match source {
            Source::Members => Self::CorruptMembers,
            Source::Health => Self::CorruptHealth,
            Source::Breaker => Self::CorruptBreaker,
            Source::Workers => Self::CorruptWorkers,
            Source::Listing => Self::CorruptListing,
        }
    }

    pub(crate) const fn read(source: Source, error: ReadError) -> Self {
        match error {
            ReadError::Corrupt(_) => Self::corrupt(source),
            ReadError::Store(error) => Self::Store(error),
        }
    }

    pub(crate) const fn update(error: UpdateError) -> Self {
        match error {
            UpdateError::Contended => Self::Contended,
            UpdateError::Store(error) => Self::Store(error),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CorruptMembers => f.write_str("the learned endpoints did not decode"),
            Self::CorruptHealth => f.write_str("an endpoint's health did not decode"),
            Self::CorruptBreaker => f.write_str("a breaker's record did not decode"),
            Self::CorruptWorkers => f.write_str("another worker's report did not decode"),
            Self::CorruptListing => f.write_str("a registry's list did not decode"),
            Self::Registry(Unusable::Status(0)) => f.write_str("the registry did not answer"),
            Self::Registry(Unusable::Status(status)) => {
                write!(f, "the registry answered {status}")
            }
            Self::Registry(Unusable::TooLong) => f.write_str("the registry's answer is too long"),
            Self::Registry(Unusable::Shape) => {
                f.write_str("the registry's answer is no list of services")
            }
            Self::Registry(Unusable::NotAsked) => {
                f.write_str("the registry could not be asked: is there such a cluster?")
            }
            Self::Contended => f.write_str("too many workers changed a record at once"),
            Self::Store(StoreError { status }) => {
                write!(f, "the host answered shared data with status {status}")
            }
            Self::NoWorkerSlot => f.write_str("all worker slots are taken"),
        }
    }
}
