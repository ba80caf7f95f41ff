use crate::testing::{Request, config};
use crate::{FleetOutcome, Limiter, Outcome, Reason, Verdict};
use core::time::Duration;
use shared_state::{HashSeed, MemoryStore, UnixNanos};

const OK: &[u8] = &[0x08, 1];
const OVER_LIMIT: &[u8] = &[0x08, 2];

fn limiter(policy: &str, global: &str) -> Limiter {
    let json = format!(
        r#"{{"policies":[
            {{"name":"all","token_bucket":{{"max_tokens":100,"fill_interval":"3600s"}}}},
            {{"name":"client","key":"header:x-client"{policy},
              "token_bucket":{{"max_tokens":3,"fill_interval":"3600s"}},
              "global":{{"cluster":"ratelimit","domain":"edge","descriptors":[
                {{"entries":[{{"key":"client","from":"header:x-client"}}]}}]{global}}}}}]}}"#
    );
    Limiter::new(config(&json), HashSeed([1, 2]))
}

fn now() -> UnixNanos {
    UnixNanos::from_secs(1_000)
}

fn decide(limiter: &mut Limiter, store: &MemoryStore) -> Verdict {
    limiter.decide(store, &Request::default().with("x-client", "alice"), now())
}

fn answer(limiter: &mut Limiter, store: &MemoryStore, message: Option<&[u8]>) -> Verdict {
    let mut verdict = decide(limiter, store);
    assert_eq!((verdict.questions.len(), verdict.refusal), (1, None));
    limiter.answered(store, &mut verdict, message, now());
    assert!(verdict.questions.is_empty());
    verdict
}

fn reason(verdict: &Verdict) -> Option<(usize, Reason)> {
    verdict.refusal.map(|refusal| (refusal.policy, refusal.reason))
}

#[test]
fn what_the_local_bucket_refuses_asks_nobody() {
    let (mut limiter, store) = (limiter("", ""), MemoryStore::default());
    for _ in 0..3 {
        assert_eq!(reason(&answer(&mut limiter, &store, Some(OK))), None);
    }
    let verdict = decide(&mut limiter, &store);
    assert_eq!(reason(&verdict), Some((1, Reason::NoToken)));
    assert!(verdict.questions.is_empty() && verdict.tally.fleet.is_empty());
}

#[test]
fn what_the_service_refuses_costs_no_token_here() {
    let (mut limiter, store) = (limiter("", ""), MemoryStore::default());
    for _ in 0..10 {
        let verdict = answer(&mut limiter, &store, Some(OVER_LIMIT));
        assert_eq!(reason(&verdict), Some((1, Reason::OverLimit)));
        assert_eq!(verdict.tally.outcomes, [(1, Outcome::Limited)]);
        assert_eq!(verdict.tally.fleet, [(1, FleetOutcome::Refused)]);
        assert_eq!(verdict.tally.faults, []);
    }
    let verdict = answer(&mut limiter, &store, Some(OK));
    let left: Vec<_> = verdict.levels.iter().map(|(_, level)| level.remaining).collect();
    assert_eq!(left, [99, 2]);
    assert_eq!(verdict.tally.outcomes, [(0, Outcome::Allowed), (1, Outcome::Allowed)]);
}

#[test]
fn a_service_that_fails_lets_pass_or_refuses_as_configured() {
    let (mut allowing, store) = (limiter("", ""), MemoryStore::default());
    let verdict = answer(&mut allowing, &store, None);
    assert_eq!(reason(&verdict), None);
    assert_eq!(verdict.tally.fleet, [(1, FleetOutcome::FailureAllowed)]);
    assert_eq!(verdict.tally.faults[0].reason, "service_failed");
    let (mut denying, store) = (limiter("", r#","failure_mode":"deny""#), MemoryStore::default());
    for _ in 0..20 {
        let mut verdict = decide(&mut denying, &store);
        denying.answered(&store, &mut verdict, Some(b"garbage"), now());
        assert_eq!(reason(&verdict), Some((1, Reason::ServiceFailed)), "and costs no token here");
        assert_eq!(verdict.tally.fleet, [(1, FleetOutcome::FailureDenied)]);
    }
}

#[test]
fn a_refusal_that_still_holds_costs_no_shared_data_and_no_question() {
    let (mut limiter, store) = (limiter("", ""), MemoryStore::default());
    // One status: OVER_LIMIT, ten a second, five seconds until the reset.
    let status = [0x08, 2, 0x12, 4, 0x08, 10, 0x10, 1, 0x22, 2, 0x08, 5];
    let message = [&[0x08, 2, 0x12, status.len() as u8][..], &status].concat();
    let refused = answer(&mut limiter, &store, Some(&message)).refusal.unwrap();
    assert_eq!(refused.wait, Some(Duration::from_secs(5)));
    // Whoever touches it now has a fault to tell.
    store.fail_with(10);
    let verdict = decide(&mut limiter, &store);
    assert_eq!(verdict.refusal, Some(refused));
    assert_eq!(verdict.tally.fleet, [(1, FleetOutcome::Remembered)]);
    assert_eq!(verdict.tally.faults, []);
    let told: Vec<_> = verdict.fleet.limits.iter().map(|(_, limit)| limit.remaining).collect();
    assert_eq!(told, [Some(0)]);
}

#[test]
fn a_shadow_policy_asks_counts_and_lets_pass() {
    let (mut limiter, store) = (limiter(r#","mode":"shadow""#, ""), MemoryStore::default());
    let verdict = answer(&mut limiter, &store, Some(OVER_LIMIT));
    assert_eq!(reason(&verdict), None);
    assert_eq!(verdict.shadow_refusal.map(|refusal| refusal.reason), Some(Reason::OverLimit));
    assert_eq!(verdict.tally.outcomes, [(0, Outcome::Allowed), (1, Outcome::ShadowLimited)]);
    assert!(verdict.fleet.limits.is_empty());
}

#[test]
fn a_batch_that_is_refused_leaves_a_question_for_the_request_alone() {
    let (mut limiter, store) = (limiter("", r#","batch":{"max":50}"#), MemoryStore::default());
    answer(&mut limiter, &store, Some(OK));
    let mut verdict = decide(&mut limiter, &store);
    limiter.answered(&store, &mut verdict, Some(OVER_LIMIT), now());
    assert_eq!((verdict.questions.len(), verdict.refusal), (1, None));
    limiter.answered(&store, &mut verdict, Some(OK), now());
    assert_eq!((verdict.questions.len(), reason(&verdict)), (0, None));
    let outcomes = [(1, FleetOutcome::AskedAgain), (1, FleetOutcome::Granted)];
    assert_eq!(verdict.tally.fleet, outcomes);
}
