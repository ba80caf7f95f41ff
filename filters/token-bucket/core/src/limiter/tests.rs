use super::*;
use crate::testing::{Request, config};
use core::time::Duration;
use shared_state::{Expected, MemoryStore, SetError, StoreError, Versioned, read};

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
    assert_eq!(verdict.tally.outcomes, [(0, Outcome::Allowed), (1, Outcome::Allowed)]);
    assert_eq!(verdict.summary(limiter.config()), None);
}

#[test]
fn a_dear_request_that_was_refused_stands_in_no_cheap_ones_way() {
    let store = MemoryStore::default();
    let mut worker = limiter(
        r#"{"policies":[{"name":"p","cost":{"header":"x-cost"},"gcra":{"rate":1,"burst":10}}]}"#,
    );
    let costs = |cost| Request::default().with("x-cost", cost);
    assert!(passes(&mut worker, &store, &costs("8")));
    let wait = |limiter: &mut Limiter, cost, now| {
        limiter.decide(&store, &costs(cost), now).refusal.and_then(|refusal| refusal.wait)
    };
    assert_eq!(wait(&mut worker, "5", at(0)), Some(Duration::from_secs(3)));
    assert!(passes(&mut worker, &store, &costs("2")));
    assert_eq!(wait(&mut worker, "5", at(0)), Some(Duration::from_secs(5)));
    assert_eq!(wait(&mut worker, "1", at(500)), Some(Duration::from_millis(500)));
    assert_eq!(wait(&mut worker, "3", at(500)), Some(Duration::from_millis(2_500)), "remembered");
    assert_eq!(wait(&mut worker, "1", at(1_000)), None);
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
        assert_eq!(verdict.tally.outcomes, [(1, Outcome::Limited)]);
    }
    let verdict = other.decide(&store, &request, at(1_000));
    assert_eq!(left(&verdict), [1, 0], "wide has had its 3, spent 2, got 1 back, spent 1");
}

#[test]
fn a_request_that_is_undone_gives_all_back_and_one_that_was_served_nothing() {
    let store = MemoryStore::default();
    let mut worker = limiter(&two(""));
    let verdict = worker.decide(&store, &Request::default(), at(0));
    assert!(verdict.admission.is_changed_by(&Settlement::Undone, |_| false));
    let tally = worker.end(&store, verdict.admission, Settlement::Undone, at(5));
    assert_eq!(tally, Tally::default());
    let verdict = worker.decide(&store, &Request::default(), at(5));
    assert_eq!(left(&verdict), [2, 1]);
    assert!(!verdict.admission.is_changed_by(&Settlement::Served(&[]), |_| true));
    let _ = worker.end(&store, verdict.admission, Settlement::Served(&[]), at(10));
    assert_eq!(left(&worker.decide(&store, &Request::default(), at(10))), [1, 0]);
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
    assert_eq!(verdict.tally.faults, []);
    let mut fresh = limiter(
        r#"{"policies":[{"name":"wide","token_bucket":{"max_tokens":3,"fill_interval":"1s"}}]}"#,
    );
    let verdict = fresh.decide(&store, &Request::default(), at(0));
    assert_eq!(left(&verdict), [1], "two spent, not three");
}

/// A worker loses `narrow` to another that passes between its spending from the two. Gives what it
/// was told, and what the next is told when one token has come.
fn lost_between(fill_ms: u64) -> (Verdict, Verdict) {
    let json = two("").replace("1s", &format!("0.{fill_ms:03}s"));
    let store = MemoryStore::default();
    let mut worker = limiter(&json);
    assert!(passes(&mut worker, &store, &Request::default()));
    let other = json.clone();
    // Not before the write to `wide` but before the next, to `narrow`, another worker passes.
    store.before_next_set(|store| {
        store.before_next_set(move |store| {
            assert!(passes(&mut limiter(&other), store, &Request::default()));
        });
    });
    let lost = worker.decide(&store, &Request::default(), at(0));
    assert_eq!(lost.refusal.map(|refusal| refusal.policy), Some(1));
    (lost, limiter(&json).decide(&store, &Request::default(), at(fill_ms)))
}

#[test]
fn a_token_that_others_have_spent_on_top_of_is_given_back() {
    let (lost, next) = lost_between(500);
    assert_eq!(lost.tally.faults, []);
    assert_eq!(left(&next), [1, 0], "wide: two passed, one came, one passed");
}

#[test]
fn a_token_that_may_have_been_refilled_before_others_spend_theirs_is_lost_and_counted() {
    let (lost, next) = lost_between(20);
    assert_eq!(lost.tally.faults[0].reason, "token_not_returned");
    assert_eq!(left(&next), [0, 0], "wide: two passed, one lost, one came, one passed");
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
    assert_eq!(verdict.tally.conflicts, [(0, 1)]);
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
    let keys = ["weir/2/bucket/token_bucket/narrow/0", "weir/2/bucket/token_bucket/wide/0"];
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
    assert_eq!((verdict.refusal, verdict.tally.outcomes), (None, vec![(0, Outcome::Skipped)]));

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
        assert_eq!(verdict.tally.outcomes, [(0, Outcome::Allowed)]);
        assert!(verdict.levels.is_empty(), "clients are not told of a limit that does not bind");
    }
    let verdict = worker.decide(&store, &client("a"), at(250));
    assert_eq!(
        (verdict.refusal, &verdict.tally.outcomes),
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
    let passed: Vec<_> = (0..4).map(|_| passes(&mut worker, &store, &Request::default())).collect();
    assert_eq!(passed, [true, true, false, false]);
    let trial = worker.decide(&store, &Request::default(), at(0));
    assert_eq!(trial.tally.outcomes, [(1, Outcome::Limited)], "what is refused is not tried");
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
    assert_eq!(verdict.tally.outcomes, [(1, Outcome::ShadowLimited)]);
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
    store.set("weir/2/bucket/token_bucket/wide/0", b"garbage", Expected::Any).unwrap();
    let verdict = worker.decide(&store, &Request::default(), at(0));
    assert_eq!(verdict.refusal, None);
    assert_eq!(verdict.tally.faults[0].reason, "corrupt_record");
    assert_eq!(verdict.summary(worker.config()).unwrap(), "degraded reason=corrupt_record");
    assert_eq!(worker.decide(&store, &Request::default(), at(0)).tally.faults, []);
}

#[test]
fn a_failing_store_lets_pass_or_refuses_as_configured() {
    let store = MemoryStore::default();
    store.fail_with(10);
    let verdict = limiter(&two("")).decide(&store, &Request::default(), at(0));
    assert_eq!(verdict.refusal, None);
    assert!(verdict.tally.faults.iter().all(|fault| fault.reason == "store_failed"));
    let mut strict = limiter(&by_client("", r#","failure_mode":"deny""#));
    let refusal = strict.decide(&store, &client("a"), at(0)).refusal.unwrap();
    assert_eq!(refusal.reason, Reason::StoreFailed);
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
        assert_eq!(verdict.tally.faults[0].reason, "contended");
        let again = worker.decide(&store, &Request::default(), at(0));
        assert_eq!(again.tally.faults[0].reason, "contended", "it is not remembered as a refusal");
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
    let slow =
        r#"{"policies":[{"name":"p","token_bucket":{"max_tokens":1,"fill_interval":"3600s"}}]}"#;
    let fast =
        r#"{"policies":[{"name":"p","token_bucket":{"max_tokens":1,"fill_interval":"1s"}}]}"#;
    assert!(passes(&mut limiter(slow), &store, &Request::default()));
    let mut reloaded = limiter(fast);
    let refusal = reloaded.decide(&store, &Request::default(), at(0)).refusal.unwrap();
    assert_eq!(refusal.wait, Some(Duration::from_secs(1)), "an hour is more than it can owe");
    assert!(reloaded.decide(&store, &Request::default(), at(1_000)).refusal.is_none());
}

#[test]
fn a_changed_rate_keeps_what_is_earned() {
    // With leases, a bucket that gets faster keeps back what may be out: less than their time.
    let json = |interval: &str| {
        format!(
            r#"{{"store":{{"lease_time":"0s"}},"policies":[{{"name":"p",
                "token_bucket":{{"max_tokens":10,"fill_interval":"{interval}"}}}}]}}"#
        )
    };
    let store = MemoryStore::default();
    let mut slow = limiter(&json("10s"));
    for _ in 0..6 {
        assert!(passes(&mut slow, &store, &Request::default()));
    }
    // Ten seconds have earned one of the six; the new rate earns no more for them, and no less.
    let fast = limiter(&json("1s")).decide(&store, &Request::default(), at(10_000));
    assert_eq!(left(&fast), [4]);
    let slow_again = limiter(&json("20s")).decide(&store, &Request::default(), at(11_000));
    assert_eq!(left(&slow_again), [4], "one more has come in a second, and is spent");
}
