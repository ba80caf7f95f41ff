//! One request's round over all policies, whatever they limit by.

use super::fleet::FleetAnswers;
use crate::admission::{Admission, Held, Target};
use crate::capacity::Rates;
use crate::concurrency::Permits;
use crate::denial::Denials;
use crate::global::{Asker, Question};
use crate::key::{Attributes, fingerprint};
use crate::{Config, FailureMode, Fault, Level, Limit, Mode, OnMissingKey, Outcome, Policy};
use crate::{Reason, Refusal, Tally};
use core::time::Duration;
use shared_state::{HashSeed, SharedStore, StoreError, UnixNanos};

/// Fingerprint of the one bucket of a policy without a key, and of all requests that lack a part.
const SHARED_BUCKET: u64 = 0;

/// One request.
pub(super) struct Round<'a, S> {
    pub(super) config: &'a Config,
    pub(super) store: &'a S,
    pub(super) now: UnixNanos,
    pub(super) denials: &'a mut Denials,
    pub(super) permits: &'a mut Permits,
    pub(super) rates: &'a Rates,
    pub(super) asker: &'a mut Asker,
    /// What there is to count so far.
    pub(super) tally: &'a mut Tally,
    /// What the limits that admitted have left.
    pub(super) levels: Vec<(usize, Level)>,
    /// What the service knew to be granted.
    pub(super) fleet: FleetAnswers,
    /// What the service is to be asked.
    pub(super) questions: Vec<Question>,
}

impl<S: SharedStore> Round<'_, S> {
    /// Asks all policies that are enforced, and spends from all or none.
    pub(super) fn enforced(
        &mut self,
        seed: HashSeed,
        request: &impl Attributes,
    ) -> Result<Admission, Refusal> {
        let mut targets = Vec::new();
        let config = self.config;
        for (at, policy) in config.policies.iter().enumerate() {
            if policy.mode_for(at, request) != Mode::Enforce {
                continue;
            }
            targets.extend(self.target(at, policy, seed, request)?);
        }
        self.known_refusal(&targets)?;
        let prepared = self.prepare(&targets, false, request)?;
        for target in targets.iter().skip(1) {
            self.look(target)?;
        }
        let mut held = Vec::with_capacity(targets.len());
        for target in &targets {
            match self.spend(target) {
                Ok(spent) => held.extend(spent.map(|spent| (*target, spent))),
                Err(refusal) => {
                    self.give_back(&held);
                    return Err(refusal);
                }
            }
        }
        if let Err(refusal) = self.begin(prepared) {
            self.questions.drain(..).for_each(|question| self.asker.abandon(&question));
            self.give_back(&held);
            return Err(refusal);
        }
        let allowed = targets.iter().map(|target| (target.policy, Outcome::Allowed));
        self.tally.outcomes.extend(allowed);
        Ok(Admission { held })
    }

    /// Asks the policies in shadow mode, and adds what they give. Gives the first refusal.
    pub(super) fn shadowed(
        &mut self,
        seed: HashSeed,
        request: &impl Attributes,
        admission: &mut Admission,
    ) -> Option<Refusal> {
        let levels = self.levels.len();
        let config = self.config;
        let mut first = None;
        for (at, policy) in config.policies.iter().enumerate() {
            if policy.mode_for(at, request) != Mode::Shadow {
                continue;
            }
            let asked = match self.target(at, policy, seed, request) {
                Ok(None) => continue,
                Ok(Some(target)) => self
                    .known_refusal(&[target])
                    .and_then(|()| self.shadow(&target, request))
                    .map(|spent| admission.held.extend(spent.map(|spent| (target, spent)))),
                Err(refusal) => Err(refusal),
            };
            let outcome = match asked {
                Ok(()) => Outcome::Allowed,
                Err(refusal) => {
                    first.get_or_insert(refusal);
                    Outcome::ShadowLimited
                }
            };
            self.tally.outcomes.push((at, outcome));
        }
        // Clients are told of limits that exist.
        self.levels.truncate(levels);
        first
    }

    fn shadow(
        &mut self,
        target: &Target,
        request: &impl Attributes,
    ) -> Result<Option<Held>, Refusal> {
        let prepared = self.prepare(core::slice::from_ref(target), true, request)?;
        let spent = self.spend(target)?.map(|spent| (*target, spent));
        if let Err(refusal) = self.begin(prepared) {
            self.give_back(spent.as_slice());
            return Err(refusal);
        }
        Ok(spent.map(|(_, spent)| spent))
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
        let cost = policy.cost.of(request);
        let target = |fingerprint| Ok(Some(Target { policy: at, fingerprint, cost }));
        if policy.parts.is_empty() {
            return target(SHARED_BUCKET);
        }
        match (fingerprint(seed, &policy.name, &policy.parts, request), policy.on_missing_key) {
            (Some(fingerprint), _) => target(fingerprint),
            (None, OnMissingKey::Shared) => target(SHARED_BUCKET),
            (None, OnMissingKey::Skip) => {
                self.tally.outcomes.push((at, Outcome::Skipped));
                Ok(None)
            }
            (None, OnMissingKey::Deny) => {
                Err(Refusal { policy: at, reason: Reason::MissingKey, wait: None })
            }
        }
    }

    /// Refuses for the longest of the waits that this worker remembers. No shared data is read.
    fn known_refusal(&self, targets: &[Target]) -> Result<(), Refusal> {
        let known = |target: &Target| {
            let &Target { policy: at, fingerprint, .. } = target;
            let longest = self.config.policies.get(at)?.limit.longest_wait();
            let wait = self.denials.wait(at, fingerprint, self.now, longest)?;
            let wait = wait.saturating_add(self.beyond_least(target));
            Some(Refusal { policy: at, reason: Reason::NoToken, wait: Some(wait) })
        };
        match targets.iter().filter_map(known).max_by_key(|refusal| refusal.wait) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Time of the tokens that this request takes beyond what the cheapest one of its policy does.
    pub(super) fn beyond_least(&self, target: &Target) -> Duration {
        let Some(policy) = self.config.policies.get(target.policy) else { return Duration::ZERO };
        policy.limit.time_of(target.cost.saturating_sub(policy.cost.least()))
    }

    /// Whether the limit would admit, as far as one can tell without spending.
    fn look(&mut self, target: &Target) -> Result<(), Refusal> {
        let Some(policy) = self.config.policies.get(target.policy) else { return Ok(()) };
        match &policy.limit {
            Limit::Bucket(bucket) => {
                let bucket = self.rates.scaled(target.policy, bucket);
                self.look_at_bucket(target, policy, &bucket)
            }
            Limit::Concurrency(limit) => self.look_at_permits(target, policy, limit),
        }
    }

    /// Spends, or tells why not. `None` if there is nothing to give back.
    fn spend(&mut self, target: &Target) -> Result<Option<Held>, Refusal> {
        let Some(policy) = self.config.policies.get(target.policy) else { return Ok(None) };
        match &policy.limit {
            Limit::Bucket(bucket) => {
                let bucket = self.rates.scaled(target.policy, bucket);
                let receipt = self.spend_from_bucket(target, policy, &bucket)?;
                Ok(receipt.map(Held::Tokens))
            }
            Limit::Concurrency(limit) => {
                Ok(self.take_permit(target, policy, limit)?.map(Held::Permit))
            }
        }
    }

    /// Undoes what was spent.
    pub(super) fn give_back(&mut self, held: &[(Target, Held)]) {
        for (target, held) in held {
            let Some(policy) = self.config.policies.get(target.policy) else { continue };
            match held {
                Held::Tokens(receipt) => self.give_tokens_back(target, policy, receipt),
                Held::Permit(permit) => self.release(target, permit),
            }
        }
    }

    /// What follows if the host's shared data failed.
    pub(super) fn store_failed(
        &mut self,
        at: usize,
        policy: &Policy,
        error: StoreError,
    ) -> Result<(), Refusal> {
        let detail = format!("shared data answered {} to policy '{}'", error.status, policy.name);
        self.tally.faults.push(Fault { reason: "store_failed", detail });
        fall_back(self.config.failure_mode, at, Reason::StoreFailed, policy.limit.usual_wait())
    }

    /// What follows if every attempt to write was lost to other workers.
    pub(super) fn contended(&mut self, at: usize, policy: &Policy) -> Result<(), Refusal> {
        let detail = format!("policy '{}' lost every attempt to other workers", policy.name);
        self.tally.faults.push(Fault { reason: "contended", detail });
        fall_back(self.config.on_contention, at, Reason::Contended, policy.limit.usual_wait())
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
