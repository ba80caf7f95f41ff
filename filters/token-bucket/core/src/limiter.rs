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
        self.verdict.faults.push(Fault { reason: "store_failure", detail });
        fall_back(self.config.failure_mode, at, Reason::StoreFailure, policy.bucket.token_time())
    }

    fn contended(&mut self, at: usize, policy: &Policy) -> Result<(), Refusal> {
        let detail = format!("policy '{}' lost every attempt to other workers", policy.name);
        self.verdict.faults.push(Fault { reason: "contention", detail });
        fall_back(self.config.on_contention, at, Reason::Contention, policy.bucket.token_time())
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
mod tests {
    use super::*;
    use crate::testing::{Request, config};
    use shared_state::{Expected, MemoryStore, SetError, Versioned};

    const SEED: HashSeed = HashSeed([3, 4]);

    fn limiter(json: &str) -> Limiter {
        Limiter::new(config(json), SEED)
    }

    /// Two policies over all requests: 3 tokens and 2 tokens, one a second each.
    fn two(extra: &str) -> String {
        format!(
            r#"{{"policies":[
                {{"name":"wide","token_bucket":{{"max_tokens":3,"fill_interval":"1s"}}}},
                {{"name":"narrow","token_bucket":{{"max_tokens":2,"fill_interval":"1s"}}}}]{extra}}}"#
        )
    }

    /// One policy by the header `x-client`: 2 tokens, one a second.
    fn by_client(policy: &str, extra: &str) -> String {
        format!(
            r#"{{"policies":[{{"name":"per-client","key":"header:x-client",
                "token_bucket":{{"max_tokens":2,"fill_interval":"1s"}}{policy}}}]{extra}}}"#
        )
    }

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(1_000_000 + millis)
    }

    fn client(name: &str) -> Request {
        Request::default().with("x-client", name)
    }

    fn passes(limiter: &mut Limiter, store: &impl SharedStore, request: &Request) -> bool {
        limiter.decide(store, request, at(0)).refusal.is_none()
    }

    fn left(verdict: &Verdict) -> Vec<u32> {
        verdict.levels.iter().map(|(_, level)| level.remaining).collect()
    }

    #[test]
    fn the_first_request_meets_full_buckets_and_nothing_was_written_before_it() {
        let store = MemoryStore::default();
        let mut limiter = limiter(&two(""));
        assert!(store.keys().is_empty());
        let verdict = limiter.decide(&store, &Request::default(), at(0));
        assert_eq!((verdict.refusal, left(&verdict)), (None, vec![2, 1]));
        assert_eq!(verdict.outcomes, [(0, Outcome::Allowed), (1, Outcome::Allowed)]);
        assert_eq!(verdict.summary(limiter.config()), None);
    }

    #[test]
    fn a_refusal_spends_nothing_of_any_policy() {
        let store = MemoryStore::default();
        let (mut worker, mut other) = (limiter(&two("")), limiter(&two("")));
        let request = Request::default();
        assert!(passes(&mut worker, &store, &request) && passes(&mut worker, &store, &request));
        for _ in 0..5 {
            let verdict = other.decide(&store, &request, at(0));
            let wait = Some(Duration::from_secs(1));
            let refusal = Refusal { policy: 1, reason: Reason::NoToken, wait };
            assert_eq!(verdict.refusal, Some(refusal));
            assert_eq!(verdict.outcomes, [(1, Outcome::Limited)]);
        }
        let verdict = other.decide(&store, &request, at(1_000));
        assert_eq!(left(&verdict), [1, 0], "wide has had its 3, spent 2, got 1 back, spent 1");
    }

    #[test]
    fn what_a_later_policy_refuses_in_a_race_is_given_back() {
        let store = MemoryStore::default();
        let mut worker = limiter(&two(""));
        assert!(passes(&mut worker, &store, &Request::default()));
        // Between the look and the spending, another worker takes the last token of `narrow`
        // alone, as a plugin of the same name with fewer policies would.
        store.before_next_set(|store| {
            let mut other = limiter(
                r#"{"policies":[{"name":"narrow",
                    "token_bucket":{"max_tokens":2,"fill_interval":"1s"}}]}"#,
            );
            assert!(passes(&mut other, store, &Request::default()));
        });
        let verdict = worker.decide(&store, &Request::default(), at(0));
        assert_eq!(verdict.refusal.map(|refusal| refusal.policy), Some(1));
        assert_eq!(verdict.faults, []);
        let mut fresh = limiter(
            r#"{"policies":[{"name":"wide","token_bucket":{"max_tokens":3,"fill_interval":"1s"}}]}"#,
        );
        let verdict = fresh.decide(&store, &Request::default(), at(0));
        assert_eq!(left(&verdict), [1], "two spent, not three");
    }

    #[test]
    fn a_token_that_others_have_spent_on_top_of_is_lost_and_counted_and_never_doubled() {
        let store = MemoryStore::default();
        let mut worker = limiter(&two(""));
        assert!(passes(&mut worker, &store, &Request::default()));
        // Not before the write to `wide` but before the next, to `narrow`, another worker passes.
        store.before_next_set(|store| {
            store.before_next_set(|store| {
                assert!(passes(&mut limiter(&two("")), store, &Request::default()));
            });
        });
        let verdict = worker.decide(&store, &Request::default(), at(0));
        assert_eq!(verdict.refusal.map(|refusal| refusal.policy), Some(1));
        assert_eq!(verdict.faults[0].reason, "token_not_returned");
        let verdict = limiter(&two("")).decide(&store, &Request::default(), at(1_000));
        assert_eq!(left(&verdict), [0, 0], "wide: two passed, one lost, one came, one passed");
    }

    #[test]
    fn a_lost_race_is_decided_again_and_counted() {
        let store = MemoryStore::default();
        let json = by_client("", "");
        let mut worker = limiter(&json);
        assert!(passes(&mut worker, &store, &client("a")));
        let other = by_client("", "");
        store.before_next_set(move |store| {
            assert!(passes(&mut limiter(&other), store, &client("a")));
        });
        let verdict = worker.decide(&store, &client("a"), at(0));
        assert_eq!(verdict.refusal.map(|refusal| refusal.reason), Some(Reason::NoToken));
        assert_eq!(verdict.conflicts, [(0, 1)]);
    }

    #[test]
    fn workers_with_seeds_of_their_own_agree_on_the_first_that_was_stored() {
        let store = MemoryStore::default();
        let mut one = Limiter::new(config(&by_client("", "")), HashSeed([1, 1]));
        let mut two = Limiter::new(config(&by_client("", "")), HashSeed([2, 2]));
        assert!(passes(&mut one, &store, &client("a")) && passes(&mut two, &store, &client("a")));
        assert!(!passes(&mut one, &store, &client("a")) && !passes(&mut two, &store, &client("a")));
        assert_eq!(read(&store, &HashSeed::key()), Ok(Some(HashSeed([1, 1]))));
    }

    #[test]
    fn a_policy_without_a_key_needs_no_seed() {
        let store = MemoryStore::default();
        passes(&mut limiter(&two("")), &store, &Request::default());
        let keys = ["weir/1/bucket/token_bucket/narrow/0", "weir/1/bucket/token_bucket/wide/0"];
        assert_eq!(store.keys(), keys);
    }

    /// Counts the calls of a store.
    #[derive(Default)]
    struct Counting(MemoryStore, core::cell::Cell<u32>);

    impl SharedStore for Counting {
        fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
            self.1.set(self.1.get() + 1);
            self.0.get(key)
        }

        fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError> {
            self.1.set(self.1.get() + 1);
            self.0.set(key, value, expected)
        }
    }

    #[test]
    fn a_key_known_to_be_refused_costs_no_call_until_its_moment() {
        let store = Counting::default();
        let mut worker = limiter(&by_client("", ""));
        for _ in 0..3 {
            passes(&mut worker, &store, &client("a"));
        }
        let calls = store.1.get();
        for millis in [0, 500, 999] {
            let verdict = worker.decide(&store, &client("a"), at(millis));
            let wait = Some(Duration::from_millis(1_000 - millis));
            assert_eq!(verdict.refusal.and_then(|refusal| refusal.wait), wait);
        }
        assert_eq!(store.1.get(), calls);
        assert_eq!(worker.decide(&store, &client("a"), at(1_000)).refusal, None);
        assert_eq!(store.1.get(), calls + 2, "one read and one write for a request that passes");
    }

    #[test]
    fn of_several_known_refusals_the_longest_is_told() {
        let store = MemoryStore::default();
        let mut worker = limiter(
            r#"{"policies":[
                {"name":"a","match":{"methods":["GET"]},
                 "token_bucket":{"max_tokens":1,"fill_interval":"1s"}},
                {"name":"b","match":{"path":{"prefix":"/"}},
                 "token_bucket":{"max_tokens":1,"fill_interval":"5s"}}]}"#,
        );
        let only_b = Request::default().with(":method", "POST");
        let only_a = Request::default().with(":path", "*");
        for request in [&only_a, &only_b, &only_a, &only_b] {
            passes(&mut worker, &store, request);
        }
        let refusal = worker.decide(&store, &Request::default(), at(0)).refusal.unwrap();
        assert_eq!((refusal.policy, refusal.wait), (1, Some(Duration::from_secs(5))));
    }

    #[test]
    fn requests_without_a_key_share_a_bucket_are_skipped_or_are_refused() {
        let shared = MemoryStore::default();
        let mut worker = limiter(&by_client("", ""));
        let passed: Vec<_> =
            (0..3).map(|_| passes(&mut worker, &shared, &Request::default())).collect();
        assert_eq!(passed, [true, true, false]);
        assert!(passes(&mut worker, &shared, &client("a")));

        let store = MemoryStore::default();
        let mut worker = limiter(&by_client(r#","on_missing_key":"skip""#, ""));
        let verdict = worker.decide(&store, &Request::default(), at(0));
        assert_eq!((verdict.refusal, verdict.outcomes), (None, vec![(0, Outcome::Skipped)]));

        let mut worker = limiter(&by_client(r#","on_missing_key":"deny""#, ""));
        let refusal = worker.decide(&store, &Request::default(), at(0)).refusal.unwrap();
        assert_eq!((refusal.reason, refusal.wait), (Reason::MissingKey, None));
    }

    #[test]
    fn a_policy_counts_only_what_it_matches() {
        let store = MemoryStore::default();
        let mut worker = limiter(
            r#"{"policies":[{"name":"writes","match":{"path":{"prefix":"/api/"},"methods":["POST"]},
                "token_bucket":{"max_tokens":1,"fill_interval":"1s"}}]}"#,
        );
        let request = |method, path| Request::default().with(":method", method).with(":path", path);
        for (method, path) in [("GET", "/api/a"), ("POST", "/other"), ("POST", "/api")] {
            let verdict = worker.decide(&store, &request(method, path), at(0));
            assert_eq!(verdict, Verdict::default());
        }
        assert!(passes(&mut worker, &store, &request("POST", "/api/a?x=1")));
        assert!(!passes(&mut worker, &store, &request("POST", "/api/b")));
    }

    #[test]
    fn a_shadow_policy_counts_and_marks_and_lets_pass() {
        let store = MemoryStore::default();
        let mut worker = limiter(&by_client(r#","mode":"shadow""#, ""));
        for _ in 0..2 {
            let verdict = worker.decide(&store, &client("a"), at(0));
            assert_eq!(verdict.outcomes, [(0, Outcome::Allowed)]);
            assert!(
                verdict.levels.is_empty(),
                "clients are not told of a limit that does not bind"
            );
        }
        let verdict = worker.decide(&store, &client("a"), at(250));
        assert_eq!(
            (verdict.refusal, &verdict.outcomes),
            (None, &vec![(0, Outcome::ShadowLimited)])
        );
        let line = verdict.summary(worker.config()).unwrap();
        assert_eq!(line, "shadow_limited policy=per-client reason=no_token wait=0.750s");
    }

    #[test]
    fn a_shadow_policy_neither_costs_nor_saves_a_token_of_one_that_counts() {
        let store = MemoryStore::default();
        let mut worker = limiter(
            r#"{"policies":[
                {"name":"trial","mode":"shadow","token_bucket":{"max_tokens":1,"fill_interval":"1s"}},
                {"name":"real","token_bucket":{"max_tokens":2,"fill_interval":"1s"}}]}"#,
        );
        let passed: Vec<_> =
            (0..4).map(|_| passes(&mut worker, &store, &Request::default())).collect();
        assert_eq!(passed, [true, true, false, false]);
        let trial = worker.decide(&store, &Request::default(), at(0));
        assert_eq!(trial.outcomes, [(1, Outcome::Limited)], "what is refused is not tried");
    }

    #[test]
    fn a_plugin_in_shadow_mode_decides_all_and_acts_on_nothing() {
        let store = MemoryStore::default();
        let mut worker = limiter(&two(r#","mode":"shadow""#));
        for _ in 0..5 {
            let verdict = worker.decide(&store, &Request::default(), at(0));
            assert!(verdict.refusal.is_none() && verdict.levels.is_empty());
        }
        let verdict = worker.decide(&store, &Request::default(), at(0));
        assert_eq!(verdict.outcomes, [(1, Outcome::ShadowLimited)]);
        assert!(verdict.shadow_refusal.is_some());
    }

    #[test]
    fn a_plugin_that_is_off_does_nothing() {
        let store = MemoryStore::default();
        let mut worker = limiter(&two(r#","mode":"off""#));
        assert_eq!(worker.decide(&store, &Request::default(), at(0)), Verdict::default());
        assert!(store.keys().is_empty());
    }

    #[test]
    fn garbage_in_shared_data_is_counted_replaced_and_stops_nobody() {
        let store = MemoryStore::default();
        let mut worker = limiter(&two(""));
        store.set("weir/1/bucket/token_bucket/wide/0", b"garbage", Expected::Any).unwrap();
        let verdict = worker.decide(&store, &Request::default(), at(0));
        assert_eq!(verdict.refusal, None);
        assert_eq!(verdict.faults[0].reason, "corrupt_record");
        assert_eq!(verdict.summary(worker.config()).unwrap(), "degraded reason=corrupt_record");
        assert_eq!(worker.decide(&store, &Request::default(), at(0)).faults, []);
    }

    #[test]
    fn a_failing_store_lets_pass_or_refuses_as_configured() {
        let store = MemoryStore::default();
        store.fail_with(10);
        let verdict = limiter(&two("")).decide(&store, &Request::default(), at(0));
        assert_eq!(verdict.refusal, None);
        assert!(verdict.faults.iter().all(|fault| fault.reason == "store_failure"));
        let mut strict = limiter(&by_client("", r#","failure_mode":"deny""#));
        let refusal = strict.decide(&store, &client("a"), at(0)).refusal.unwrap();
        assert_eq!(refusal.reason, Reason::StoreFailure);
        let mut strict = limiter(&two(r#","failure_mode":"deny""#));
        assert!(strict.decide(&store, &Request::default(), at(0)).refusal.is_some());
    }

    #[test]
    fn contention_without_end_refuses_or_lets_pass_as_configured() {
        for (mode, refused) in [("deny", true), ("allow", false)] {
            let store = MemoryStore::default();
            store.refuse_sets(u32::MAX);
            let mut worker = limiter(&two(&format!(r#","on_contention":"{mode}""#)));
            let verdict = worker.decide(&store, &Request::default(), at(0));
            assert_eq!(verdict.refusal.is_some(), refused);
            assert_eq!(verdict.faults[0].reason, "contention");
            let again = worker.decide(&store, &Request::default(), at(0));
            assert_eq!(again.faults[0].reason, "contention", "it is not remembered as a refusal");
        }
    }

    #[test]
    fn a_clock_that_steps_back_does_not_lock_a_client_out() {
        let store = MemoryStore::default();
        let mut worker = limiter(&by_client("", ""));
        for _ in 0..3 {
            passes(&mut worker, &store, &client("a"));
        }
        let before = |millis: u64| UnixNanos::from_millis(500_000 + millis);
        assert!(worker.decide(&store, &client("a"), before(0)).refusal.is_some());
        assert!(worker.decide(&store, &client("a"), before(1_000)).refusal.is_none());
    }

    #[test]
    fn a_changed_rate_keeps_what_was_spent() {
        let store = MemoryStore::default();
        let slow = r#"{"policies":[{"name":"p","token_bucket":{"max_tokens":1,"fill_interval":"3600s"}}]}"#;
        let fast =
            r#"{"policies":[{"name":"p","token_bucket":{"max_tokens":1,"fill_interval":"1s"}}]}"#;
        assert!(passes(&mut limiter(slow), &store, &Request::default()));
        let mut reloaded = limiter(fast);
        let refusal = reloaded.decide(&store, &Request::default(), at(0)).refusal.unwrap();
        assert_eq!(refusal.wait, Some(Duration::from_secs(1)), "an hour is more than it can owe");
        assert!(reloaded.decide(&store, &Request::default(), at(1_000)).refusal.is_none());
    }
}
