//! All policies of a plugin, applied to one request.
//!
//! **All or nothing.** A request that one policy refuses must not cost it a token of another. The
//! store has no transaction over several keys, so the limiter first looks at all buckets and then
//! spends from one after the other. Between the look and the spending another worker may take the
//! last token; what was spent until then is given back. For that instant other workers may see it
//! as spent, and refuse a request that would have passed; none passes that should not have.
//!
//! **One read saved.** The first bucket needs no look: if it refuses, nothing has been spent yet.
//! One policy therefore takes one read and one write, and a refusal one read.
//!
//! **Exact across workers.** Each spending is one compare-and-swap on the record, with no leases
//! and no local share: whatever the order of the workers' reads and writes, tokens leave the bucket
//! one by one. The price is a write of shared data for each admitted request.
//!
//! **Shadow policies** have their say after the others have admitted, each for itself: they must
//! neither cost nor save a token of a policy that counts.

use crate::denial::Denials;
use crate::key::{Attributes, fingerprint};
use crate::table::{Answer, Ask, Place, Receipt, give_back, spend};
use crate::{Config, FailureMode, Fault, Level, Mode, OnMissingKey, Outcome, Policy};
use crate::{Reason, Refusal, Verdict};
use core::time::Duration;
use shared_state::{
    DecodeError, HashSeed, ReadError, SharedStore, StoreError, Transition, UnixNanos, UpdateError,
    Updated, read, update,
};

/// Tokens that a request takes.
const COST: u32 = 1;

/// Fingerprint of the one bucket of a policy without a key, and of all requests that lack a part.
const SHARED_BUCKET: u64 = 0;

/// The limiter of one worker. What it remembers, it could ask for again.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    drawn: HashSeed,
    seed: Option<HashSeed>,
    denials: Denials,
}

/// A policy and its bucket for this request.
type Target = (usize, u64);

impl Limiter {
    /// With a seed drawn by this worker. It is used if no worker has stored one before.
    pub fn new(config: Config, drawn: HashSeed) -> Self {
        Self { config, drawn, seed: None, denials: Denials::default() }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Decides on a request, and spends.
    pub fn decide(
        &mut self,
        store: &impl SharedStore,
        request: &impl Attributes,
        now: UnixNanos,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        if self.config.mode == Mode::Off {
            return verdict;
        }
        let seed = self.seed(store, &mut verdict);
        let (config, denials) = (&self.config, &mut self.denials);
        let mut round = Round { config, store, now, denials, verdict: &mut verdict };
        let admitted = round.enforced(seed, request);
        match admitted {
            Ok(()) => round.shadowed(seed, request),
            Err(refusal) => round.refused(refusal),
        }
        verdict
    }

    /// The seed of all workers, fetched once. Policies without a key need none.
    fn seed(&mut self, store: &impl SharedStore, verdict: &mut Verdict) -> HashSeed {
        let keyed = self.config.policies.iter().any(|policy| !policy.parts.is_empty());
        if let Some(seed) = self.seed.or((!keyed).then_some(self.drawn)) {
            return seed;
        }
        let drawn = self.drawn;
        let found = update(store, &HashSeed::key(), |prior| match prior {
            Some(seed) => Transition::Keep(seed),
            None => Transition::Store(drawn, drawn),
        });
        match found {
            Ok(Updated { value, corrupt, .. }) => {
                verdict.faults.extend(corrupt.map(|error| corrupt_record("seed", error)));
                self.seed = Some(value);
                value
            }
            // The buckets will not be found either; the next request asks again.
            Err(_) => drawn,
        }
    }
}

/// One request.
struct Round<'a, S> {
    config: &'a Config,
    store: &'a S,
    now: UnixNanos,
    denials: &'a mut Denials,
    verdict: &'a mut Verdict,
}

impl<S: SharedStore> Round<'_, S> {
    fn enforced(&mut self, seed: HashSeed, request: &impl Attributes) -> Result<(), Refusal> {
        let mut targets = Vec::new();
        let config = self.config;
        for (at, policy) in config.policies.iter().enumerate().filter(|(_, policy)| !policy.shadow)
        {
            targets.extend(self.target(at, policy, seed, request)?);
        }
        self.known_refusal(&targets)?;
        for target in targets.iter().skip(1) {
            self.look(*target)?;
        }
        let mut receipts = Vec::with_capacity(targets.len());
        for target in &targets {
            match self.spend(*target) {
                Ok(receipt) => receipts.push((*target, receipt)),
                Err(refusal) => {
                    self.give_back(&receipts);
                    return Err(refusal);
                }
            }
        }
        self.verdict.outcomes.extend(targets.iter().map(|(at, _)| (*at, Outcome::Allowed)));
        if self.config.mode == Mode::Shadow {
            self.verdict.levels.clear();
        }
        Ok(())
    }

    fn shadowed(&mut self, seed: HashSeed, request: &impl Attributes) {
        let levels = self.verdict.levels.len();
        let config = self.config;
        for (at, policy) in config.policies.iter().enumerate().filter(|(_, policy)| policy.shadow) {
            let asked = match self.target(at, policy, seed, request) {
                Ok(None) => continue,
                Ok(Some(target)) => {
                    self.known_refusal(&[target]).and_then(|()| self.spend(target).map(drop))
                }
                Err(refusal) => Err(refusal),
            };
            let outcome = match asked {
                Ok(()) => Outcome::Allowed,
                Err(refusal) => {
                    self.verdict.shadow_refusal.get_or_insert(refusal);
                    Outcome::ShadowLimited
                }
            };
            self.verdict.outcomes.push((at, outcome));
        }
        // Clients are told of limits that exist.
        self.verdict.levels.truncate(levels);
    }

    fn refused(&mut self, refusal: Refusal) {
        self.verdict.levels.clear();
        if self.config.mode == Mode::Shadow {
            self.verdict.shadow_refusal = Some(refusal);
            self.verdict.outcomes.push((refusal.policy, Outcome::ShadowLimited));
            return;
        }
        self.verdict.refusal = Some(refusal);
        self.verdict.outcomes.push((refusal.policy, Outcome::Limited));
        if let (Reason::NoToken, Some(wait)) = (refusal.reason, refusal.wait) {
            let level = Level { remaining: 0, next_token: wait };
            self.verdict.levels.push((refusal.policy, level));
        }
    }

    /// The policy's bucket for this request; `None` if the policy does not apply.
    fn target(
        &mut self,
        at: usize,
        policy: &Policy,
        seed: HashSeed,
        request: &impl Attributes,
    ) -> Result<Option<Target>, Refusal> {
        if !policy.applies.to(request) {
            return Ok(None);
        }
        if policy.parts.is_empty() {
            return Ok(Some((at, SHARED_BUCKET)));
        }
        match (fingerprint(seed, &policy.name, &policy.parts, request), policy.on_missing_key) {
            (Some(fingerprint), _) => Ok(Some((at, fingerprint))),
            (None, OnMissingKey::Shared) => Ok(Some((at, SHARED_BUCKET))),
            (None, OnMissingKey::Skip) => {
                self.verdict.outcomes.push((at, Outcome::Skipped));
                Ok(None)
            }
            (None, OnMissingKey::Deny) => {
                Err(Refusal { policy: at, reason: Reason::MissingKey, wait: None })
            }
        }
    }

    /// Refuses for the longest of the waits that this worker remembers. No shared data is read.
    fn known_refusal(&self, targets: &[Target]) -> Result<(), Refusal> {
        let known = |&(at, fingerprint): &Target| {
            let bucket = &self.config.policies.get(at)?.bucket;
            let longest = bucket.refill_time().saturating_add(bucket.token_time());
            let wait = self.denials.wait(at, fingerprint, self.now, longest)?;
            Some(Refusal { policy: at, reason: Reason::NoToken, wait: Some(wait) })
        };
        match targets.iter().filter_map(known).max_by_key(|refusal| refusal.wait) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Whether the bucket would admit, as far as one can tell without spending.
    fn look(&mut self, (at, fingerprint): Target) -> Result<(), Refusal> {
        let Some(policy) = self.config.policies.get(at) else { return Ok(()) };
        let prior = match read(self.store, policy.shards.of(fingerprint)) {
            Ok(prior) => prior,
            // Whoever writes next counts and mends it.
            Err(ReadError::Corrupt(_)) => None,
            Err(ReadError::Store(error)) => return self.store_failed(at, policy, error),
        };
        let answer = match spend(prior, &self.ask(policy, fingerprint)) {
            Transition::Keep(answer) | Transition::Store(_, answer) => answer,
        };
        match answer {
            Answer::Admitted(..) | Answer::Uncounted => Ok(()),
            refused => self.answered(at, fingerprint, refused).map(drop),
        }
    }

    /// Spends, or tells why not. `None` if there is nothing to give back.
    fn spend(&mut self, (at, fingerprint): Target) -> Result<Option<Receipt>, Refusal> {
        let Some(policy) = self.config.policies.get(at) else { return Ok(None) };
        let ask = self.ask(policy, fingerprint);
        match update(self.store, policy.shards.of(fingerprint), |prior| spend(prior, &ask)) {
            Ok(Updated { value, conflicts, corrupt }) => {
                if conflicts > 0 {
                    self.verdict.conflicts.push((at, conflicts));
                }
                self.verdict
                    .faults
                    .extend(corrupt.map(|error| corrupt_record(&policy.name, error)));
                self.answered(at, fingerprint, value)
            }
            Err(UpdateError::Store(error)) => self.store_failed(at, policy, error).map(|()| None),
            Err(UpdateError::Contended) => self.contended(at, policy).map(|()| None),
        }
    }

    fn give_back(&mut self, receipts: &[(Target, Option<Receipt>)]) {
        for ((at, fingerprint), receipt) in receipts {
            let (Some(receipt), Some(policy)) = (receipt, self.config.policies.get(*at)) else {
                continue;
            };
            let key = policy.shards.of(*fingerprint);
            let given = update(self.store, key, |prior| give_back(prior, *fingerprint, receipt));
            if !given.is_ok_and(|given| given.value) {
                self.verdict.faults.push(Fault {
                    reason: "token_not_returned",
                    detail: format!(
                        "other workers had spent from the bucket of policy '{}' since",
                        policy.name
                    ),
                });
            }
        }
    }

    /// Turns a table's answer into this request's, and remembers what will still hold later.
    fn answered(
        &mut self,
        at: usize,
        fingerprint: u64,
        answer: Answer,
    ) -> Result<Option<Receipt>, Refusal> {
        let refused = |reason, wait| Err(Refusal { policy: at, reason, wait });
        match answer {
            Answer::Admitted(receipt, level) => {
                if receipt.place == Place::Overflow {
                    self.verdict.overflows.push(at);
                }
                self.verdict.levels.push((at, level));
                Ok(Some(receipt))
            }
            Answer::Uncounted => {
                self.verdict.overflows.push(at);
                Ok(None)
            }
            Answer::Refused(wait, place) => {
                if place == Place::Overflow {
                    self.verdict.overflows.push(at);
                }
                self.denials.insert(at, fingerprint, self.now.plus(wait));
                refused(Reason::NoToken, Some(wait))
            }
            Answer::Full(wait) => {
                self.verdict.overflows.push(at);
                refused(Reason::TableFull, Some(wait))
            }
            Answer::TooCostly => refused(Reason::TooCostly, None),
        }
    }

    fn store_failed(
        &mut self,
        at: usize,
        policy: &Policy,
        error: StoreError,
    ) -> Result<(), Refusal> {
        let detail = format!("shared data answered {} to policy '{}'", error.status, policy.name);
        self.verdict.faults.push(Fault { reason: "store_failed", detail });
        fall_back(self.config.failure_mode, at, Reason::StoreFailed, policy.bucket.token_time())
    }

    fn contended(&mut self, at: usize, policy: &Policy) -> Result<(), Refusal> {
        let detail = format!("policy '{}' lost every attempt to other workers", policy.name);
        self.verdict.faults.push(Fault { reason: "contended", detail });
        fall_back(self.config.on_contention, at, Reason::Contended, policy.bucket.token_time())
    }

    fn ask<'b>(&self, policy: &'b Policy, fingerprint: u64) -> Ask<'b> {
        Ask {
            fingerprint,
            bucket: &policy.bucket,
            cost: COST,
            now: self.now,
            room: self.config.slots_per_shard,
            on_full: self.config.on_full,
        }
    }
}

fn fall_back(
    mode: FailureMode,
    policy: usize,
    reason: Reason,
    wait: Duration,
) -> Result<(), Refusal> {
    match mode {
        FailureMode::Allow => Ok(()),
        FailureMode::Deny => Err(Refusal { policy, reason, wait: Some(wait) }),
    }
}

fn corrupt_record(of: &str, error: DecodeError) -> Fault {
    let detail =
        format!("the record of '{of}' was not ours ({error:?}): taken as absent, replaced");
    Fault { reason: "corrupt_record", detail }
}

#[cfg(test)]
mod tests;
