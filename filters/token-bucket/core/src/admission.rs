//! What an admitted request holds, from the decision to its end.
//!
//! A token that is spent is gone with the decision, but not all is so simple: a request that never
//! reaches the origin gets its tokens back, one that cost more or less than it was taken for is
//! settled, and a permit is released. Whoever carries the request keeps its [`Admission`] and gives
//! it to [`crate::Limiter::end`] once. It cannot be copied, and what is dropped instead stays spent:
//! tokens are lost, never made.

use crate::Config;
use crate::concurrency::Permit;
use crate::table::Receipt;

/// A policy, its bucket for one request, and what the request takes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index of the policy.
    pub(crate) policy: usize,
    /// Which of its buckets.
    pub(crate) fingerprint: u64,
    /// Tokens.
    pub(crate) cost: u32,
    /// What its key weighs in a fair share.
    pub(crate) weight: u32,
}

/// What one policy gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Held {
    /// Tokens of a bucket.
    Tokens(Receipt),
    /// A permit to be in flight.
    Permit(Permit),
}

/// What a request holds; nothing if it was refused, or passed without being counted.
#[derive(Debug, Default, PartialEq)]
pub struct Admission {
    pub(crate) held: Vec<(Target, Held)>,
}

impl Admission {
    /// True if both hold the same of the same, so that one could stand for the other.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.held.len() == other.held.len()
            && self.held.iter().zip(&other.held).all(|((one, _), (other, _))| one == other)
    }

    /// Policies that gave tokens and are settled by the response: the index of each, and the header
    /// that tells it what the request has cost.
    pub fn settled_by<'a>(&self, config: &'a Config) -> Vec<(usize, &'a str)> {
        let header = |(target, held): &(Target, Held)| {
            let settle = config.policies.get(target.policy)?.settle.as_ref()?;
            let is_settled = matches!(held, Held::Tokens(_));
            is_settled.then_some((target.policy, settle.response_header.as_str()))
        };
        self.held.iter().filter_map(header).collect()
    }

    /// True if such an end changes anything in shared data, which a permit may tell of itself. Where
    /// it does not, the clock need not be read for it.
    pub(crate) fn is_changed_by(
        &self,
        settlement: &Settlement<'_>,
        is_told: impl Fn(&Permit) -> bool,
    ) -> bool {
        self.held.iter().any(|(target, held)| match (held, settlement) {
            (Held::Tokens(_), Settlement::Undone) => true,
            (Held::Tokens(_), Settlement::Served(_)) => {
                settlement.cost(target.policy).is_some_and(|cost| cost != target.cost)
            }
            (Held::Permit(permit), _) => is_told(permit),
        })
    }

    /// The permits that it holds.
    pub(crate) fn permits(&self) -> impl Iterator<Item = &Permit> {
        self.held.iter().filter_map(|(_, held)| match held {
            Held::Permit(permit) => Some(permit),
            Held::Tokens(_) => None,
        })
    }
}

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement<'a> {
    /// It never reached the origin: the client went away while it was held, or somebody else
    /// refused it. All is given back.
    Undone,
    /// It was carried out. What it has cost in the end, by index of the policy; what is not named
    /// has cost what it was taken for.
    Served(&'a [(usize, u32)]),
}

impl Settlement<'_> {
    /// What the request has cost a policy in the end; `None` if it is as was said before.
    pub(crate) fn cost(&self, policy: usize) -> Option<u32> {
        match self {
            Self::Undone => Some(0),
            Self::Served(costs) => {
                costs.iter().find(|(named, _)| *named == policy).map(|(_, cost)| *cost)
            }
        }
    }
}
