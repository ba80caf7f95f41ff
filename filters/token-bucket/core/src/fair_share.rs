//! Weighted max-min fair shares of one bucket, among the keys that ask for it.
//!
//! A bucket that all clients share goes to who asks most. A fair share changes nothing while there
//! is enough for all; when the bucket is nearly empty, it holds each key to its share.
//!
//! **The level.** The share is max-min fair: nobody gets more than it asks for, and what some leave
//! goes to the others by weight. There is then one number, the *level* `L` (tokens a round for a
//! weight of 1), with `sum(min(demand_k, L * w_k)) = R`, where `R` is what the bucket refills in a
//! round. It is found by filling up: in order of demand by weight, each key that asks for less than
//! its part of what is left takes that and goes; the first that asks for more sets the level. If
//! none does there is no level, and nobody is held to anything: a lone key may use all.
//!
//! **Demand** is counted by each worker in its own memory, refused requests included, and added up
//! four times a round of one second in one record ([`shared_state::ActiveKeys`]). A key's demand is
//! that of the last complete round or of the current one, whichever is more, so one that begins to
//! flood is noticed within a quarter of a round. Keys that were silent for a round do not count. In
//! the first round there is no complete one, and all who ask are taken to want their whole share.
//!
//! **Holding to it.** Each key has a bucket of its own whose rate is `L * w_k` and whose span is one
//! round, or as long as the lightest key waits for a token. It is charged only while the common
//! bucket holds less than `start_below_percent`: that rest is kept for the keys that have not had
//! their share, and what is above it is anybody's. The own buckets are kept and shared between
//! workers as any policy's are, so a key gets its share once and not once for each worker; they are
//! spans of time in which a token has a price, so a level that changes neither makes tokens nor
//! takes what was earned.
//!
//! **What it costs.** While there is enough: two writes a worker and round, whatever the number of
//! requests. While there is not: one spending more for each request that passes.
//!
//! **What holds.** The common bucket alone decides how many pass, so a wrong level never lets too
//! many through; it divides them unfairly for one round. Each key with more demand than its share
//! gets, to within one token a round and its burst of one round, what max-min fairness gives it.

use crate::capacity::Rates;
use crate::cost::whole;
use crate::{Attributes, Config, Fault, Gcra, Level, Limit, Policy, Tally};
use core::time::Duration;
use shared_state::{ActiveKeys, Demand, MAX_ACTIVE, SharedStore, Transition, UnixNanos, update};
use sorting::sort_by;

/// Length of a round.
pub(crate) const ROUND: Duration = Duration::from_secs(1);

/// How often demand is added up.
const EXCHANGE_INTERVAL: Duration = Duration::from_millis(250);

/// The heaviest key.
pub(crate) const MAX_WEIGHT: u32 = 1_000;

/// Which bucket is shared, and by what rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FairShare {
    /// Name of the policy whose bucket is shared.
    pub of_name: String,
    /// And its number.
    pub of: usize,
    /// What a key weighs.
    pub weight: Weight,
    /// Below this level of the shared bucket, in percent, keys are held to their shares.
    pub start_below_percent: u8,
}

/// What a key weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weight {
    /// All the same.
    Constant(u32),
    /// A whole number from 1 to [`MAX_WEIGHT`] in this request header; 1 if it holds none.
    Header(String),
}

/// Tokens a round for a weight of 1, in thousandths; at least 1.
pub(crate) type MilliTokens = u64;

/// The level of a bucket that refills `capacity` in a round. `None` if all demand fits.
pub(crate) fn level(capacity: MilliTokens, demands: &[Demand]) -> Option<MilliTokens> {
    let complete = demands.iter().any(|demand| demand.previous > 0);
    let wanted = |demand: &Demand| match complete {
        true => u64::from(demand.previous.max(demand.current)).saturating_mul(1_000),
        false => u64::MAX,
    };
    let mut sorted: Vec<(u64, u64)> = Vec::with_capacity(demands.len());
    sorted.extend(demands.iter().map(|demand| (wanted(demand), u64::from(demand.weight.max(1)))));
    // In order of demand by weight, without a division.
    sort_by(&mut sorted, |(a, v), (b, w)| {
        (u128::from(*a) * u128::from(*w)).cmp(&(u128::from(*b) * u128::from(*v)))
    });
    let mut left = capacity;
    let mut weights: u64 = sorted.iter().map(|(_, weight)| weight).sum();
    for (wanted, weight) in sorted {
        if u128::from(wanted) * u128::from(weights) > u128::from(left) * u128::from(weight) {
            return left.checked_div(weights).map(|level| level.max(1));
        }
        left = left.saturating_sub(wanted);
        weights = weights.saturating_sub(weight);
    }
    None
}

/// The bucket that holds a key of this weight to the level.
pub(crate) fn bucket(level: MilliTokens, weight: u32) -> Option<Gcra> {
    const ROUND_MILLI_NS: u64 = 1_000_000_000_000;
    let span = ROUND_MILLI_NS.checked_div(level)?.max(1_000_000_000);
    let rate = level.saturating_mul(u64::from(weight.clamp(1, MAX_WEIGHT)));
    Gcra::from_times(ROUND_MILLI_NS.checked_div(rate)?.max(1), span)
}

/// What a bucket refills in a round.
pub(crate) fn capacity(shared: &Gcra) -> MilliTokens {
    let token_ns = shared.token_time().as_nanos().max(1);
    let tokens = ROUND.as_nanos().saturating_mul(1_000).checked_div(token_ns);
    tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(u64::MAX)
}

impl Weight {
    /// What this request's key weighs.
    pub(crate) fn of(&self, request: &impl Attributes) -> u32 {
        match self {
            Self::Constant(weight) => *weight,
            Self::Header(name) => {
                let told = request.header(name).and_then(|value| whole(&value));
                told.map_or(1, |weight| weight.clamp(1, MAX_WEIGHT))
            }
        }
    }
}

/// What a worker knows of the fair shares of a plugin.
#[derive(Debug, Default)]
pub(crate) struct Shares(Vec<Share>);

impl Shares {
    /// Of all policies that are fair shares.
    pub(crate) fn new(config: &Config) -> Self {
        let share = |(policy, found): (usize, &Policy)| match &found.limit {
            Limit::FairShare(rule) => Some(Share { policy, of: rule.of, ..Share::default() }),
            _ => None,
        };
        Self(config.policies.iter().enumerate().filter_map(share).collect())
    }

    /// Counts what a key asks for.
    pub(crate) fn ask(&mut self, policy: usize, fingerprint: u64, weight: u32, tokens: u32) {
        if let Some(share) = self.0.iter_mut().find(|share| share.policy == policy) {
            share.ask(fingerprint, weight, tokens);
        }
    }

    /// The bucket of this policy was seen to hold this.
    pub(crate) fn saw(&mut self, of: usize, level: Level, now: UnixNanos) {
        for share in self.0.iter_mut().filter(|share| share.of == of) {
            share.seen = Some((now, level));
        }
    }

    /// The bucket that a key of this weight is held to now. `None`: it is held to nothing.
    pub(crate) fn bucket(
        &self,
        config: &Config,
        rates: &Rates,
        policy: usize,
        weight: u32,
        now: UnixNanos,
    ) -> Option<Gcra> {
        let share = self.0.iter().find(|share| share.policy == policy)?;
        let (rule, shared) = share.rule(config, rates)?;
        bucket(share.held_to(&shared, rule.start_below_percent, now)?, weight)
    }

    /// Adds up demand with the other workers, where it is due.
    pub(crate) fn exchange(
        &mut self,
        store: &impl SharedStore,
        config: &Config,
        rates: &Rates,
        now: UnixNanos,
        tally: &mut Tally,
    ) {
        for share in self.0.iter_mut().filter(|share| share.is_due(now)) {
            let Some((_, shared)) = share.rule(config, rates) else { continue };
            let Some(policy) = config.policies.get(share.policy) else { continue };
            let (key, capacity) = (ActiveKeys::key(&config.name, &policy.name), capacity(&shared));
            let told = match update(store, &key, |prior| share.exchange(prior, capacity, now)) {
                Ok(told) => Some(told.value),
                Err(_) => {
                    let detail = format!("demand for policy '{}' was not added up", policy.name);
                    tally.faults.push(Fault { reason: "demand_lost", detail });
                    None
                }
            };
            share.exchanged(told, now);
        }
    }
}

/// What a worker knows of one fair share.
#[derive(Debug, Default)]
struct Share {
    policy: usize,
    of: usize,
    /// Demand that is not added up yet: fingerprint, weight, tokens; in order of fingerprint.
    asked: Vec<(u64, u32, u32)>,
    level: Option<MilliTokens>,
    exchanged_at: UnixNanos,
    /// What the shared bucket held when this worker last saw it.
    seen: Option<(UnixNanos, Level)>,
}

impl Share {
    /// The rule, and the bucket that is shared.
    fn rule<'a>(&self, config: &'a Config, rates: &Rates) -> Option<(&'a FairShare, Gcra)> {
        let Limit::FairShare(rule) = &config.policies.get(self.policy)?.limit else { return None };
        let Limit::Bucket(shared) = &config.policies.get(self.of)?.limit else { return None };
        Some((rule, rates.scaled(self.of, shared)))
    }

    /// Counts what a key asks for.
    fn ask(&mut self, fingerprint: u64, weight: u32, tokens: u32) {
        match self.asked.binary_search_by_key(&fingerprint, |(key, ..)| *key) {
            Ok(at) => {
                if let Some((_, was, sum)) = self.asked.get_mut(at) {
                    *was = weight;
                    *sum = sum.saturating_add(tokens);
                }
            }
            // A worker that sees more keys between two exchanges leaves some out of the division.
            Err(_) if self.asked.len() >= usize::from(MAX_ACTIVE) => {}
            Err(at) => self.asked.insert(at, (fingerprint, weight, tokens)),
        }
    }

    /// True if demand is to be added up.
    fn is_due(&self, now: UnixNanos) -> bool {
        self.exchanged_at > now || now.since(self.exchanged_at) >= EXCHANGE_INTERVAL
    }

    /// Adds this worker's demand to that of all, and gives the level; for the one loop of updates.
    fn exchange(
        &self,
        prior: Option<ActiveKeys>,
        capacity: MilliTokens,
        now: UnixNanos,
    ) -> Transition<ActiveKeys, Option<MilliTokens>> {
        let mut keys = prior.unwrap_or_default();
        keys.roll(now, ROUND);
        for (fingerprint, weight, tokens) in &self.asked {
            keys.add(*fingerprint, *weight, *tokens);
        }
        let level = level(capacity, keys.demands());
        if self.asked.is_empty() { Transition::Keep(level) } else { Transition::Store(keys, level) }
    }

    /// Takes over what an exchange gave. `None`: it failed; the level stays, the demand is dropped.
    fn exchanged(&mut self, level: Option<Option<MilliTokens>>, now: UnixNanos) {
        self.asked.clear();
        self.level = level.unwrap_or(self.level);
        self.exchanged_at = now;
    }

    /// The level that keys are held to now. `None`: there is enough for all.
    fn held_to(
        &self,
        shared: &Gcra,
        start_below_percent: u8,
        now: UnixNanos,
    ) -> Option<MilliTokens> {
        let (at, level) = self.seen?;
        let token_ns = shared.token_time().as_nanos().max(1);
        let since = now.since(at).as_nanos().checked_div(token_ns).unwrap_or(0);
        let holds = since.saturating_add(u128::from(level.remaining));
        let most = shared.refill_time().as_nanos().checked_div(token_ns).unwrap_or(0);
        let is_low = holds.saturating_mul(100) < most.saturating_mul(start_below_percent.into());
        self.level.filter(|_| is_low)
    }
}

#[cfg(test)]
mod tests;
