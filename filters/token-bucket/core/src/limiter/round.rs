//! One request's round over all policies, whatever they limit by.

use super::fleet::FleetAnswers;
use crate::admission::{Held, Settlement, Target};
use crate::capacity::Rates;
use crate::concurrency::Permits;
use crate::denial::Denials;
use crate::fair_share::Shares;
use crate::global::{Asker, Question};
use crate::lease::Leases;
use crate::table::Terms;
use crate::{Config, FailureMode, Fault, Gcra, Level, Limit, Mode, OnMissingKey, Outcome, Policy};
use crate::{Reason, Refusal, Tally};
use core::time::Duration;
use request_key::{Attributes, fingerprint};
use shared_state::{HashSeed, SharedStore, StoreError, UnixNanos};

/// How often spending begins anew because a request must be held longer than it seemed.
const HOLD_ATTEMPTS: u32 = 4;

/// Fingerprint of the one bucket of a policy without a key, and of all requests that lack a part.
const SHARED_BUCKET: u64 = 0;

/// One request.
pub(super) struct Round<'a, S> {
    pub(super) config: &'a Config,
    pub(super) store: &'a S,
    pub(super) now: UnixNanos,
    pub(super) terms: Terms,
    /// Whether a request that has to wait may do so.
    pub(super) may_hold: bool,
    pub(super) denials: &'a mut Denials,
    pub(super) leases: &'a mut Leases,
    pub(super) permits: &'a mut Permits,
    pub(super) rates: &'a Rates,
    pub(super) asker: &'a mut Asker,
    pub(super) shares: &'a mut Shares,
    /// What there is to count so far.
    pub(super) tally: &'a mut Tally,
    /// What the limits that admitted have left.
    pub(super) levels: Vec<(usize, Level)>,
    /// What the service knew to be granted.
    pub(super) fleet: FleetAnswers,
    /// What the service is to be asked.
    pub(super) questions: Vec<Question>,
}

/// What one policy gave.
pub(super) struct Given {
    /// `None` if there is nothing to give back.
    pub(super) held: Option<Held>,
    /// When the request goes on; the moment it was asked for if it is not held.
    pub(super) goes_on_at: UnixNanos,
}

/// What all policies gave, and when the request goes on.
type Spent = (Vec<(Target, Held)>, UnixNanos);

impl<'a, S: SharedStore> Round<'a, S> {
    /// Asks all policies that are enforced, and spends from all or none.
    pub(super) fn enforced(
        &mut self,
        seed: HashSeed,
        request: &impl Attributes,
    ) -> Result<Spent, Refusal> {
        let mut targets = Vec::new();
        let config = self.config;
        for (at, policy) in config.policies.iter().enumerate() {
            if policy.mode_for(at, request) != Mode::Enforce {
                continue;
            }
            targets.extend(self.target(at, policy, seed, request)?);
        }
        self.known_refusal(&targets)?;
        let mut prepared = Some(self.prepare(&targets, false, request)?);
        let mut goes_on_at = self.look_at_all(&targets)?;
        for _ in 0..HOLD_ATTEMPTS {
            let Some(held) = self.spend_all(&targets, &mut goes_on_at)? else { continue };
            if let Err(refusal) = self.begin(prepared.take().unwrap_or_default()) {
                self.questions.drain(..).for_each(|question| self.asker.abandon(&question));
                self.give_back(&held);
                return Err(refusal);
            }
            let allowed = targets.iter().map(|target| (target.policy, Outcome::Allowed));
            self.tally.outcomes.extend(allowed);
            return Ok((held, goes_on_at));
        }
        let Some((at, policy)) = targets.first().and_then(|target| self.policy(target)) else {
            return Ok((Vec::new(), self.now));
        };
        self.contended(at, policy).map(|()| (Vec::new(), self.now))
    }

    /// Looks at the limits that could refuse after others have been spent from. Gives the moment at
    /// which the request would go on.
    fn look_at_all(&mut self, targets: &[Target]) -> Result<UnixNanos, Refusal> {
        let holds = |target: &Target| {
            self.policy(target).is_some_and(|(_, policy)| !policy.limit.max_wait().is_zero())
        };
        let mut unseen = targets.len() > 1 && targets.iter().any(holds);
        let mut goes_on_at = self.now;
        for target in targets {
            if self.is_in_lease(target) {
                continue;
            }
            if unseen {
                goes_on_at = goes_on_at.max(self.look(target)?);
            }
            unseen = true;
        }
        Ok(goes_on_at)
    }

    /// Spends from all limits, or gives everything back. `None` if that was because the request is
    /// to be held for longer than it was charged for.
    fn spend_all(
        &mut self,
        targets: &[Target],
        goes_on_at: &mut UnixNanos,
    ) -> Result<Option<Vec<(Target, Held)>>, Refusal> {
        let mut held = Vec::with_capacity(targets.len());
        self.levels.clear();
        for target in targets {
            let given = match self.spend(target, *goes_on_at) {
                Ok(given) => given,
                Err(refusal) => {
                    self.give_back(&held);
                    return Err(refusal);
                }
            };
            let charged_for_less = given.goes_on_at > *goes_on_at && !held.is_empty();
            *goes_on_at = given.goes_on_at.max(*goes_on_at);
            held.extend(given.held.map(|given| (*target, given)));
            if charged_for_less {
                self.give_back(&held);
                return Ok(None);
            }
        }
        Ok(Some(held))
    }

    /// Asks the policies in shadow mode, and adds what they give. Gives the first refusal.
    pub(super) fn shadowed(
        &mut self,
        seed: HashSeed,
        request: &impl Attributes,
        held: &mut Vec<(Target, Held)>,
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
                    .map(|given| held.extend(given.map(|given| (target, given)))),
                Err(refusal) => Err(refusal),
            };
            let outcome = match asked {
                Ok(()) => Outcome::Allowed,
                Err(refusal) => {
                    first.get_or_insert(refusal);
                    self.tally.refusals.push((at, refusal.reason));
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
        let now = self.now;
        let spent = self.spend(target, now)?.held.map(|held| (*target, held));
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
        let weight = match &policy.limit {
            Limit::FairShare(rule) => rule.weight.of(request),
            _ => 1,
        };
        let shares = &mut *self.shares;
        let mut target = |fingerprint| {
            shares.ask(at, fingerprint, weight, cost);
            Ok(Some(Target { policy: at, fingerprint, cost, weight }))
        };
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
            let (at, policy) = self.policy(target)?;
            let longest = policy.limit.longest_wait();
            let wait = self.denials.wait(at, target.fingerprint, self.now, longest)?;
            let wait = wait.saturating_add(self.beyond_least(target));
            let refusal = Refusal { policy: at, reason: Reason::NoToken, wait: Some(wait) };
            Some(match &policy.limit {
                Limit::FairShare(_) => unfair(refusal),
                _ => refusal,
            })
        };
        let unsure = targets.iter().filter(|target| !self.is_in_lease(target));
        match unsure.filter_map(known).max_by_key(|refusal| refusal.wait) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Time of the tokens that this request takes beyond what the cheapest one of its policy does.
    pub(super) fn beyond_least(&self, target: &Target) -> Duration {
        let Some((_, policy)) = self.policy(target) else { return Duration::ZERO };
        policy.limit.time_of(target.cost.saturating_sub(policy.cost.least()))
    }

    /// A policy's bucket at the rate that it has now.
    fn bucket(&self, target: &Target, bucket: &Gcra) -> Gcra {
        let bucket = self.rates.scaled(target.policy, bucket);
        match self.may_hold {
            true => bucket,
            false => bucket.with_max_wait(Duration::ZERO).unwrap_or(bucket),
        }
    }

    /// True if the request can be admitted without shared data.
    fn is_in_lease(&self, target: &Target) -> bool {
        self.policy(target).is_some_and(|(_, policy)| match &policy.limit {
            Limit::Bucket(bucket) => self.lease_holds(target, &self.bucket(target, bucket)),
            Limit::Concurrency(limit) => self.permit_is_at_hand(target, policy, limit),
            Limit::FairShare(_) => self.share(target).is_none(),
        })
    }

    /// Whether the limit would admit, as far as one can tell without spending; and when the request
    /// would go on.
    fn look(&mut self, target: &Target) -> Result<UnixNanos, Refusal> {
        let now = self.now;
        let Some((_, policy)) = self.policy(target) else { return Ok(now) };
        match &policy.limit {
            Limit::Bucket(bucket) => {
                let looked = self.look_at_bucket(target, policy, &self.bucket(target, bucket));
                self.seen(target, &looked);
                looked
            }
            Limit::Concurrency(limit) => self.look_at_permits(target, policy, limit).map(|()| now),
            Limit::FairShare(_) => match self.share(target) {
                Some(share) => self.look_at_bucket(target, policy, &share).map_err(unfair),
                None => Ok(now),
            },
        }
    }

    /// Spends for a request that goes on at a moment, or later; or tells why not.
    fn spend(&mut self, target: &Target, goes_on_at: UnixNanos) -> Result<Given, Refusal> {
        let Some((_, policy)) = self.policy(target) else {
            return Ok(Given { held: None, goes_on_at });
        };
        match &policy.limit {
            Limit::Bucket(bucket) => {
                let bucket = self.bucket(target, bucket);
                let spent = self.spend_from_bucket(target, policy, &bucket, goes_on_at);
                self.seen(target, &spent);
                spent
            }
            Limit::FairShare(_) => {
                let Some(share) = self.share(target) else {
                    return Ok(Given { held: None, goes_on_at });
                };
                let levels = self.levels.len();
                let spent = self.spend_from_bucket(target, policy, &share, goes_on_at);
                // What a share holds is nothing to tell: it changes with what others ask for.
                self.levels.truncate(levels);
                spent.map_err(unfair)
            }
            Limit::Concurrency(limit) => {
                let held = self.take_permit(target, policy, limit)?.map(Held::Permit);
                Ok(Given { held, goes_on_at })
            }
        }
    }

    /// Undoes what was spent a moment ago.
    fn give_back(&mut self, held: &[(Target, Held)]) {
        for (target, held) in held {
            let Some((_, policy)) = self.policy(target) else { continue };
            match (&policy.limit, held) {
                (Limit::Bucket(bucket), Held::Tokens(receipt)) => {
                    let bucket = self.bucket(target, bucket);
                    self.take_tokens_back(target, policy, &bucket, receipt);
                }
                (Limit::FairShare(_), Held::Tokens(receipt)) => {
                    if let Some(share) = self.share(target) {
                        self.take_tokens_back(target, policy, &share, receipt);
                    }
                }
                (_, Held::Permit(permit)) => self.release(target, permit),
                (Limit::Concurrency(_), Held::Tokens(_)) => {}
            }
        }
    }

    /// Ends what a request holds.
    pub(super) fn settle(&mut self, held: &[(Target, Held)], settlement: Settlement<'_>) {
        for (target, held) in held {
            let Some((_, policy)) = self.policy(target) else { continue };
            let cost = settlement.cost(target.policy).unwrap_or(target.cost);
            match (&policy.limit, held) {
                (Limit::Bucket(bucket), Held::Tokens(receipt)) => {
                    let bucket = self.bucket(target, bucket);
                    self.settle_tokens(target, policy, &bucket, receipt, cost);
                }
                (Limit::FairShare(_), Held::Tokens(receipt)) => {
                    if let Some(share) = self.share(target) {
                        self.settle_tokens(target, policy, &share, receipt, cost);
                    }
                }
                (_, Held::Permit(permit)) => self.release(target, permit),
                (Limit::Concurrency(_), Held::Tokens(_)) => {}
            }
        }
    }

    /// The bucket that a fair share holds its key to now, if it holds it to any.
    fn share(&self, target: &Target) -> Option<Gcra> {
        let Target { policy, weight, .. } = *target;
        self.shares.bucket(self.config, self.rates, policy, weight, self.now)
    }

    /// Tells the fair shares of a bucket what it holds.
    fn seen<T>(&mut self, target: &Target, answer: &Result<T, Refusal>) {
        let told =
            self.levels.last().filter(|(at, _)| *at == target.policy).map(|(_, level)| *level);
        let level = match answer {
            Err(Refusal { reason: Reason::NoToken, .. }) => Level::default(),
            _ => match told {
                Some(level) => level,
                None => return,
            },
        };
        self.shares.saw(target.policy, level, self.now);
    }

    fn policy(&self, target: &Target) -> Option<(usize, &'a Policy)> {
        self.config.policies.get(target.policy).map(|policy| (target.policy, policy))
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

/// Who is refused by its share is not refused for want of tokens.
fn unfair(refusal: Refusal) -> Refusal {
    match refusal.reason {
        Reason::NoToken => Refusal { reason: Reason::FairShare, ..refusal },
        _ => refusal,
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
