//! How much may be under way, and how much of it again.

use super::*;

#[test]
fn a_bulkhead_rejects_what_is_too_much_and_lets_in_what_follows() {
    let json = r#"{"scopes":[{"by":["route"],"bulkhead":{"max_concurrent":2}}]}"#;
    let mut proxy = Proxy::new(json);
    let first = proxy.begin(&[]).1.unwrap();
    let second = proxy.begin(&[]).1.unwrap();
    let (decision, exchange) = proxy.begin(&[]);
    assert!(matches!(decision, Decision::Reject { cause: Cause::Bulkhead, .. }), "{decision:?}");
    assert!(exchange.is_none());
    proxy.end(first, ended(1, 200, 1));
    let third = proxy.begin(&[]).1.unwrap();
    assert!(is_rejected(&proxy.begin(&[]).0));
    // Both in one: a stream that vanished, and one whose client left.
    let now = proxy.now();
    proxy.filter.abandon(&proxy.store, second, now, &mut || 0);
    let left = Ending { flags: 0x4000, ..Ending::default() };
    proxy.end(third, Ended { ending: left, torn: true, ..Ended::default() });
    assert!(proxy.begin(&[]).1.is_some() && proxy.begin(&[]).1.is_some());
    assert!(is_rejected(&proxy.begin(&[]).0));
}

#[test]
fn a_probe_that_a_bulkhead_stops_gives_its_permit_back() {
    let json = r#"{"scopes":[{"by":["route"],"bulkhead":{"max_concurrent":1},"half_open":{"permitted_calls":1}}]}"#;
    let mut proxy = Proxy::new(json);
    let long = proxy.begin(&[]).1.unwrap();
    let key = BreakerRecord::key("route", &["checkout"]);
    let now = proxy.now();
    let open = BreakerRecord {
        state: BreakerState::Open,
        open_until: now,
        changed_at: now.minus(Duration::from_secs(5)),
        ..BreakerRecord::default()
    };
    update(&proxy.store, &key, |_| Transition::Store(open.clone(), ())).unwrap();
    proxy.now_ms += 200;
    assert!(matches!(proxy.begin(&[]).0, Decision::Reject { cause: Cause::Bulkhead, .. }));
    let record = read(&proxy.store, &key).unwrap().unwrap();
    assert_eq!((record.state, record.half_open.left), (BreakerState::HalfOpen, 1));
    proxy.end(long, ended(1, 200, 1));
    assert!(!is_rejected(&proxy.begin(&[]).0));
}

fn retries_once(decision: &Decision) -> bool {
    matches!(decision, Decision::Pass { no_retries: true, .. })
}

#[test]
fn a_probe_is_not_retried_unless_that_is_wanted() {
    for (suppress, expected) in [("true", true), ("false", false)] {
        let json = format!(r#"{{"scopes":[{{"by":["route"],"suppress_retries":{suppress}}}]}}"#);
        let mut proxy = Proxy::new(&json);
        for _ in 0..5 {
            assert!(!retries_once(&proxy.request(&[], ended(1, 503, 1))));
        }
        proxy.now_ms += 5000;
        assert_eq!(retries_once(&proxy.begin(&[]).0), expected);
    }
}

#[test]
fn when_the_budget_is_spent_requests_are_sent_once() {
    let json = r#"{"scopes":[{"by":["route"],"trip":{"consecutive_failures":0},"window":{"minimum_number_of_calls":1000},
        "retry_budget":{"min_retries_per_second":2}}]}"#;
    let mut proxy = Proxy::new(json);
    let once = (0..5).map(|_| retries_once(&proxy.request(&[], ended(1, 503, 2))));
    assert_eq!(once.collect::<Vec<_>>(), [false, false, true, true, true]);
}
