//! Policies that limit by a token bucket.

use super::corrupt_record;
use super::round::{Given, Round};
use crate::admission::{Held, Target};
use crate::lease::Leased;
use crate::table::{Answer, Ask, Correction, Grant, Place, Receipt, give_back, owe, spend};
use crate::{Fault, Gcra, Policy, Reason, Refusal};
use shared_state::{
    DecodeError, ReadError, SharedStore, SlotTable, Transition, UnixNanos, UpdateError, Updated,
    read, update,
};

impl<S: SharedStore> Round<'_, S> {
    /// True if this worker has drawn enough tokens ahead.
    pub(super) fn lease_holds(&self, target: &Target, bucket: &Gcra) -> bool {
        self.leases.holds(self.leased(target, bucket), target.cost, self.now)
    }

    /// Whether the bucket would admit, as far as one can tell without spending; and when the request
    /// would go on.
    pub(super) fn look_at_bucket(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
    ) -> Result<UnixNanos, Refusal> {
        let now = self.now;
        let prior = match read(self.store, &policy.shards.of(target.fingerprint)) {
            Ok(prior) => prior,
            // Whoever writes next counts and mends it.
            Err(ReadError::Corrupt(_)) => None,
            Err(ReadError::Store(error)) => {
                return self.store_failed(target.policy, policy, error).map(|()| now);
            }
        };
        let answer = match spend(prior, &self.ask(target, bucket, now)) {
            Transition::Keep(answer) | Transition::Store(_, answer) => answer,
        };
        match answer {
            Answer::Admitted(Grant { hold, .. }) => Ok(now.plus(hold)),
            Answer::Uncounted => Ok(now),
            refused => self.answered(target, refused).map(|_| now),
        }
    }

    /// Spends for a request that goes on at a moment, or later; or tells why not.
    pub(super) fn spend_from_bucket(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
        goes_on_at: UnixNanos,
    ) -> Result<Given, Refusal> {
        let (at, key) = (target.policy, self.leased(target, bucket));
        // Tokens drawn ahead are for now.
        if goes_on_at == self.now
            && let Some((receipt, level)) = self.leases.spend(key, target.cost, self.now)
        {
            self.levels.push((at, level));
            return Ok(Given { held: Some(Held::Tokens(receipt)), goes_on_at });
        }
        let ask = self.ask(target, bucket, goes_on_at);
        let uncounted = Given { held: None, goes_on_at };
        let table = policy.shards.of(target.fingerprint);
        match update(self.store, &table, |prior| spend(prior, &ask)) {
            Ok(Updated { value, conflicts, corrupt }) => {
                self.note(target, policy, conflicts, corrupt);
                if ask.unspent.is_some() {
                    self.leases.end(key);
                }
                let Some(grant) = self.answered(target, value)? else { return Ok(uncounted) };
                if grant.receipt.place == Place::Slot {
                    self.leases.admitted(key, target.cost, grant.lease, self.now);
                }
                self.levels.push((at, grant.level));
                let goes_on_at = goes_on_at.max(self.now.plus(grant.hold));
                Ok(Given { held: Some(Held::Tokens(grant.receipt)), goes_on_at })
            }
            Err(UpdateError::Store(error)) => {
                self.store_failed(at, policy, error).map(|()| uncounted)
            }
            Err(UpdateError::Contended) => self.contended(at, policy).map(|()| uncounted),
        }
    }

    /// Takes back what was spent a moment ago, or counts that it could not.
    pub(super) fn take_tokens_back(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
        receipt: &Receipt,
    ) {
        if !self.give_tokens_back(target, policy, bucket, receipt, target.cost) {
            self.tally.faults.push(Fault {
                reason: "token_not_returned",
                detail: format!(
                    "other workers had spent from the bucket of policy '{}' since",
                    policy.name
                ),
            });
        }
    }

    /// Corrects what was spent to what the request has cost in the end.
    pub(super) fn settle_tokens(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
        receipt: &Receipt,
        cost: u32,
    ) {
        if let Some(less @ 1..) = target.cost.checked_sub(cost) {
            self.give_tokens_back(target, policy, bucket, receipt, less);
        } else if let Some(more @ 1..) = cost.checked_sub(target.cost) {
            self.correct(target, policy, &self.correction(target, bucket, receipt, more), owe);
        }
    }

    /// Gives back some tokens of a receipt; tells whether all of them are there again.
    fn give_tokens_back(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
        receipt: &Receipt,
        tokens: u32,
    ) -> bool {
        self.denials.forget(target.policy, target.fingerprint);
        if self.leases.put_back(self.leased(target, bucket), receipt, tokens, self.now) {
            return true;
        }
        let fix = self.correction(target, bucket, receipt, tokens);
        self.correct(target, policy, &fix, give_back)
    }

    fn correct(
        &mut self,
        target: &Target,
        policy: &Policy,
        fix: &Correction<'_>,
        how: impl Fn(Option<SlotTable>, &Correction<'_>) -> Transition<SlotTable, bool>,
    ) -> bool {
        let table = policy.shards.of(target.fingerprint);
        match update(self.store, &table, |prior| how(prior, fix)) {
            Ok(Updated { value, conflicts, corrupt }) => {
                self.note(target, policy, conflicts, corrupt);
                value
            }
            // There is nothing to decide any more: what could not be corrected stays as it was.
            Err(UpdateError::Store(error)) => {
                let _ = self.store_failed(target.policy, policy, error);
                false
            }
            Err(UpdateError::Contended) => {
                let _ = self.contended(target.policy, policy);
                false
            }
        }
    }

    /// Turns a table's answer into this request's, and remembers what will still hold later.
    fn answered(&mut self, target: &Target, answer: Answer) -> Result<Option<Grant>, Refusal> {
        let at = target.policy;
        let refused = |reason, wait| Err(Refusal { policy: at, reason, wait });
        match answer {
            Answer::Admitted(grant) => {
                if grant.receipt.place == Place::Overflow {
                    self.tally.overflows.push(at);
                }
                Ok(Some(grant))
            }
            Answer::Uncounted => {
                self.tally.overflows.push(at);
                Ok(None)
            }
            Answer::Refused(wait, place) => {
                if place == Place::Overflow {
                    self.tally.overflows.push(at);
                }
                // Requests that cost less pass sooner: what holds for all is the least of them.
                let known = wait.saturating_sub(self.beyond_least(target));
                self.denials.insert(at, target.fingerprint, self.now.plus(known));
                refused(Reason::NoToken, Some(wait))
            }
            Answer::Full(wait) => {
                self.tally.overflows.push(at);
                refused(Reason::TableFull, Some(wait))
            }
            Answer::TooCostly => refused(Reason::TooCostly, None),
        }
    }

    /// Counts how an update went.
    fn note(
        &mut self,
        target: &Target,
        policy: &Policy,
        conflicts: u32,
        corrupt: Option<DecodeError>,
    ) {
        if conflicts > 0 {
            self.tally.conflicts.push((target.policy, conflicts));
        }
        self.tally.faults.extend(corrupt.map(|error| corrupt_record(&policy.name, error)));
    }

    fn leased<'b>(&self, target: &Target, bucket: &'b Gcra) -> Leased<'b> {
        let Target { policy, fingerprint, .. } = *target;
        let time = bucket.lease_time(self.terms.longest_lease);
        Leased { policy, fingerprint, bucket, time }
    }

    fn ask<'b>(&self, target: &Target, bucket: &'b Gcra, goes_on_at: UnixNanos) -> Ask<'b> {
        let key = self.leased(target, bucket);
        Ask {
            fingerprint: target.fingerprint,
            bucket,
            cost: target.cost,
            now: self.now,
            at: goes_on_at,
            wish: self.leases.wish(key, self.now),
            unspent: self.leases.unspent(key),
            terms: self.terms,
        }
    }

    fn correction<'b>(
        &self,
        target: &Target,
        bucket: &'b Gcra,
        receipt: &'b Receipt,
        tokens: u32,
    ) -> Correction<'b> {
        let (fingerprint, now, terms) = (target.fingerprint, self.now, self.terms);
        Correction { fingerprint, bucket, receipt, tokens, now, terms }
    }
}
