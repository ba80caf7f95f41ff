//! Policies that limit by a token bucket.

use super::corrupt_record;
use super::round::Round;
use crate::admission::Target;
use crate::table::{Answer, Ask, Place, Receipt, give_back, spend};
use crate::{Fault, Gcra, Policy, Reason, Refusal};
use shared_state::{ReadError, SharedStore, Transition, UpdateError, Updated, read, update};

impl<S: SharedStore> Round<'_, S> {
    /// Whether the bucket would admit, as far as one can tell without spending.
    pub(super) fn look_at_bucket(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
    ) -> Result<(), Refusal> {
        let prior = match read(self.store, &policy.shards.of(target.fingerprint)) {
            Ok(prior) => prior,
            // Whoever writes next counts and mends it.
            Err(ReadError::Corrupt(_)) => None,
            Err(ReadError::Store(error)) => {
                return self.store_failed(target.policy, policy, error);
            }
        };
        let answer = match spend(prior, &self.ask(target, bucket)) {
            Transition::Keep(answer) | Transition::Store(_, answer) => answer,
        };
        match answer {
            Answer::Admitted(..) | Answer::Uncounted => Ok(()),
            refused => self.answered(target, refused).map(drop),
        }
    }

    /// Spends, or tells why not. `None` if there is nothing to give back.
    pub(super) fn spend_from_bucket(
        &mut self,
        target: &Target,
        policy: &Policy,
        bucket: &Gcra,
    ) -> Result<Option<Receipt>, Refusal> {
        let at = target.policy;
        let ask = self.ask(target, bucket);
        match update(self.store, &policy.shards.of(target.fingerprint), |prior| spend(prior, &ask))
        {
            Ok(Updated { value, conflicts, corrupt }) => {
                if conflicts > 0 {
                    self.tally.conflicts.push((at, conflicts));
                }
                self.tally.faults.extend(corrupt.map(|error| corrupt_record(&policy.name, error)));
                self.answered(target, value)
            }
            Err(UpdateError::Store(error)) => self.store_failed(at, policy, error).map(|()| None),
            Err(UpdateError::Contended) => self.contended(at, policy).map(|()| None),
        }
    }

    /// Gives back what was spent, or counts that it could not.
    pub(super) fn give_tokens_back(&mut self, target: &Target, policy: &Policy, receipt: &Receipt) {
        let key = policy.shards.of(target.fingerprint);
        let given = update(self.store, &key, |prior| give_back(prior, target.fingerprint, receipt));
        if !given.is_ok_and(|given| given.value) {
            self.tally.faults.push(Fault {
                reason: "token_not_returned",
                detail: format!(
                    "other workers had spent from the bucket of policy '{}' since",
                    policy.name
                ),
            });
        }
    }

    /// Turns a table's answer into this request's, and remembers what will still hold later.
    fn answered(&mut self, target: &Target, answer: Answer) -> Result<Option<Receipt>, Refusal> {
        let at = target.policy;
        let refused = |reason, wait| Err(Refusal { policy: at, reason, wait });
        match answer {
            Answer::Admitted(receipt, level) => {
                if receipt.place == Place::Overflow {
                    self.tally.overflows.push(at);
                }
                self.levels.push((at, level));
                Ok(Some(receipt))
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

    fn ask<'b>(&self, target: &Target, bucket: &'b Gcra) -> Ask<'b> {
        Ask {
            fingerprint: target.fingerprint,
            bucket,
            cost: target.cost,
            now: self.now,
            room: self.config.slots_per_shard,
            on_full: self.config.on_full,
        }
    }
}
