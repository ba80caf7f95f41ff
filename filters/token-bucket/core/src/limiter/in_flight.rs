//! Policies that limit what is in flight.

use super::corrupt_record;
use super::round::Round;
use crate::admission::Target;
use crate::concurrency::{Concurrency, Permit, Permits, Scope, Taken};
use crate::{Config, Level, Limit, Policy, Reason, Refusal};
use core::time::Duration;
use shared_state::{ReadError, SharedStore, UpdateError, Updated, read};

/// What a policy's permits are asked with; `None` if it has none.
pub(super) fn scope(config: &Config, at: usize) -> Option<Scope<'_>> {
    let policy = config.policies.get(at)?;
    let Limit::Concurrency(limit) = &policy.limit else { return None };
    Some(scope_of(config, at, policy, limit))
}

fn scope_of<'a>(
    config: &'a Config,
    at: usize,
    policy: &'a Policy,
    limit: &Concurrency,
) -> Scope<'a> {
    Scope {
        plugin: &config.name,
        policy: &policy.name,
        at,
        shards: policy.shards.count(),
        limit: *limit,
        room: config.slots_per_shard,
        on_full: config.on_full,
        ahead: config.lease_time,
    }
}

impl<S: SharedStore> Round<'_, S> {
    /// True if this worker has drawn a permit ahead.
    pub(super) fn permit_is_at_hand(
        &self,
        target: &Target,
        policy: &Policy,
        limit: &Concurrency,
    ) -> bool {
        let scope = scope_of(self.config, target.policy, policy, limit);
        self.permits.is_at_hand(&scope, target.fingerprint, self.now)
    }

    /// Whether a permit is there, as far as one can tell without taking it.
    pub(super) fn look_at_permits(
        &mut self,
        target: &Target,
        policy: &Policy,
        limit: &Concurrency,
    ) -> Result<(), Refusal> {
        let scope = scope_of(self.config, target.policy, policy, limit);
        let prior = match read(self.store, &Permits::key(&scope, target.fingerprint)) {
            Ok(prior) => prior,
            // Whoever writes next counts and mends it.
            Err(ReadError::Corrupt(_)) => None,
            Err(ReadError::Store(error)) => {
                return self.store_failed(target.policy, policy, error);
            }
        };
        match self.permits.look(&scope, prior, target.fingerprint, self.now) {
            Ok(()) => Ok(()),
            Err(full) => self.no_permit(target, full),
        }
    }

    /// Takes a permit, or tells why not. `None` if the request passes uncounted.
    pub(super) fn take_permit(
        &mut self,
        target: &Target,
        policy: &Policy,
        limit: &Concurrency,
    ) -> Result<Option<Permit>, Refusal> {
        let at = target.policy;
        let scope = scope_of(self.config, at, policy, limit);
        match self.permits.take(self.store, &scope, target.fingerprint, self.now) {
            Ok(Updated { value, conflicts, corrupt }) => {
                if conflicts > 0 {
                    self.tally.conflicts.push((at, conflicts));
                }
                self.tally.faults.extend(corrupt.map(|error| corrupt_record(&policy.name, error)));
                match value {
                    Taken::Granted { permit, left, overflow } => {
                        if overflow {
                            self.tally.overflows.push(at);
                        }
                        let level = Level { remaining: left, next_token: Duration::ZERO };
                        self.levels.push((at, level));
                        Ok(Some(permit))
                    }
                    Taken::Uncounted => {
                        self.tally.overflows.push(at);
                        Ok(None)
                    }
                    Taken::Refused { full } => self.no_permit(target, full).map(|()| None),
                }
            }
            // What passes all the same is counted as soon as it can be written.
            Err(UpdateError::Store(error)) => self
                .store_failed(at, policy, error)
                .map(|()| Some(self.permits.take_unasked(&scope, target.fingerprint))),
            Err(UpdateError::Contended) => self
                .contended(at, policy)
                .map(|()| Some(self.permits.take_unasked(&scope, target.fingerprint))),
        }
    }

    /// Gives a permit back.
    pub(super) fn release(&mut self, target: &Target, permit: &Permit) {
        if let Some(scope) = scope(self.config, target.policy) {
            self.permits.release(self.store, &scope, permit, self.now);
        }
    }

    fn no_permit(&mut self, target: &Target, full: bool) -> Result<(), Refusal> {
        if full {
            self.tally.overflows.push(target.policy);
        }
        let reason = if full { Reason::TableFull } else { Reason::Concurrency };
        // When a request in flight will end is nobody's to say.
        Err(Refusal { policy: target.policy, reason, wait: None })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Request, config};
    use crate::{Config, Limiter, Outcome, Reason, Settlement, Verdict};
    use shared_state::{HashSeed, MemoryStore, UnixNanos};

    fn limiter(policies: &str, drawn: u64) -> Limiter {
        Limiter::new(config(&format!(r#"{{"policies":[{policies}]}}"#)), HashSeed([drawn, 7]))
    }

    const TWO_IN_FLIGHT: &str =
        r#"{"name":"in-flight","key":"header:x-client","concurrency":{"max":2}}"#;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(1_000_000 + secs)
    }

    fn ask(limiter: &mut Limiter, store: &MemoryStore, now: u64) -> Verdict {
        limiter.decide(store, &Request::default().with("x-client", "a"), at(now))
    }

    fn reason(verdict: &Verdict) -> Option<Reason> {
        verdict.refusal.map(|refusal| refusal.reason)
    }

    #[test]
    fn a_request_that_has_ended_makes_room_for_another_whichever_worker_it_comes_to() {
        let store = MemoryStore::default();
        let (mut one, mut other) = (limiter(TWO_IN_FLIGHT, 1), limiter(TWO_IN_FLIGHT, 2));
        let first = ask(&mut one, &store, 0);
        assert_eq!(reason(&ask(&mut other, &store, 0)), None);
        let refused = ask(&mut other, &store, 0);
        assert_eq!(reason(&refused), Some(Reason::Concurrency));
        assert_eq!(refused.levels[0].1.remaining, 0);
        // So few are taken and given back one by one.
        let first = one.end_at_hand(first.admission, &Settlement::Served(&[])).unwrap_err();
        let _ = one.end(&store, first, Settlement::Served(&[]), at(1));
        assert_eq!(reason(&ask(&mut other, &store, 1)), None);
    }

    #[test]
    fn a_permit_is_given_back_when_a_later_bucket_refuses_and_no_token_is_spent_without_one() {
        let store = MemoryStore::default();
        let policies = format!(
            r#"{TWO_IN_FLIGHT},{{"name":"all","token_bucket":{{"max_tokens":3,"fill_interval":"60s"}}}}"#
        );
        let mut worker = limiter(&policies, 1);
        let held = [ask(&mut worker, &store, 0), ask(&mut worker, &store, 0)];
        for _ in 0..3 {
            assert_eq!(reason(&ask(&mut worker, &store, 0)), Some(Reason::Concurrency));
        }
        for verdict in held {
            let _ = worker.end(&store, verdict.admission, Settlement::Served(&[]), at(1));
        }
        let last = ask(&mut worker, &store, 1);
        assert_eq!(reason(&last), None, "refusals had cost no token");
        assert_eq!(reason(&ask(&mut worker, &store, 1)), Some(Reason::NoToken));
        assert_eq!(worker.permits.in_flight(), 1);
    }

    #[test]
    fn a_shadow_policy_counts_what_is_in_flight_and_lets_it_pass() {
        let store = MemoryStore::default();
        let shadow = TWO_IN_FLIGHT.replace("\"name\"", "\"mode\":\"shadow\",\"name\"");
        let mut worker = limiter(&shadow, 1);
        let held: Vec<_> = (0..3).map(|_| ask(&mut worker, &store, 0)).collect();
        assert_eq!(held[2].refusal, None);
        assert_eq!(held[2].tally.outcomes, [(0, Outcome::ShadowLimited)]);
        for verdict in held {
            let _ = worker.end(&store, verdict.admission, Settlement::Served(&[]), at(1));
        }
        assert_eq!(worker.permits.in_flight(), 0);
    }

    #[test]
    fn a_request_that_passes_while_shared_data_fails_is_counted_when_it_works_again() {
        let store = MemoryStore::default();
        let (mut one, mut other) = (limiter(TWO_IN_FLIGHT, 1), limiter(TWO_IN_FLIGHT, 2));
        let _ended = ask(&mut one, &store, 0);
        store.refuse_sets(u32::MAX);
        assert_eq!(reason(&ask(&mut one, &store, 0)), Some(Reason::Contended));
        store.refuse_sets(0);
        let _also = ask(&mut one, &store, 0);
        let _ = one.tick(&store, at(1));
        assert_eq!(reason(&ask(&mut other, &store, 1)), Some(Reason::Concurrency));
    }

    #[test]
    fn what_it_declares_is_a_number_of_requests_at_once() {
        let store = MemoryStore::default();
        let mut worker = limiter(TWO_IN_FLIGHT, 1);
        let verdict = ask(&mut worker, &store, 0);
        let told = crate::fields::ratelimit(&verdict.quotas(worker.config())).unwrap();
        assert_eq!(told.0, r#""in-flight";q=2;qu="concurrent-requests""#);
        assert_eq!(told.1, r#""in-flight";r=1"#);
    }

    #[test]
    fn a_policy_has_one_limit() {
        let wrong = r#"{"policies":[{"name":"p","concurrency":{"max":0,"lease":"1s"},
            "token_bucket":{"max_tokens":1,"fill_interval":"1s"}}]}"#;
        let told = Config::from_json(wrong.as_bytes()).unwrap_err().to_string();
        for place in ["/policies/0: ", "/policies/0/concurrency/max: ", "concurrency/lease: "] {
            assert!(told.contains(place), "{told}");
        }
    }
}
