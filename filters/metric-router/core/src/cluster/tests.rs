use super::*;
use crate::Config;
use crate::flight::{Outcome, Response};
use crate::worker::Worker;
use shared_state::{
    BreakerRecord, BreakerState, DEFAULT_ENDPOINT_SCOPE, MemoryStore, Transition, encode, read,
    update,
};

fn endpoint(port: u16) -> Endpoint {
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn millis(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(1_000_000 + millis)
}

fn cluster(json: &str) -> Cluster {
    let json = format!(r#"{{"clusters":[{{"name":"backend"{json}}}]}}"#);
    let config = Config::from_json(json.as_bytes()).unwrap().value.clusters.remove(0);
    Cluster::new("backend", config, 3, millis(0))
}

/// Draws that never fall within an exploration share below one, with different ties.
fn draws() -> impl Iterator<Item = u64> {
    (0..).map(|n: u64| 0xffff_ffff_0000_0000 | (n.wrapping_mul(0x9e37_79b9) & 0xffff_ffff))
}

fn served(port: u16) -> Response {
    Response { served: Some(endpoint(port)), attempts: 1, edited: false, outcome: Outcome::Success }
}

fn refresh(cluster: &mut Cluster, store: &MemoryStore, now: UnixNanos) {
    cluster.refresh(store, &Worker::default(), now, 0);
}

fn steered(pick: &Pick) -> &Steered {
    match pick {
        Pick::Steer(steered) => steered,
        Pick::Leave(reason) => panic!("unsteered: {reason:?}"),
    }
}

fn members(store: &MemoryStore) -> Vec<u16> {
    let members = read(store, &Members::key("backend")).unwrap().unwrap_or_default();
    members.endpoints().map(|endpoint| endpoint.address().port()).collect()
}

/// A request that goes unsteered and is served by `port`.
fn show(cluster: &mut Cluster, store: &MemoryStore, port: u16, now: UnixNanos) {
    let mut flight = Flight { started_at: now, ..Flight::default() };
    cluster.respond(store, &mut flight, served(port), now);
    cluster.finish(&mut flight);
}

const STATIC: &str = r#","endpoints":["127.0.0.1:1","127.0.0.1:2","127.0.0.1:3"]"#;

#[test]
fn a_static_list_is_picked_from_before_the_first_tick() {
    let (pick, _) = cluster(STATIC).pick(&(), millis(0), 7, true);
    let steered = steered(&pick);
    assert_eq!((steered.candidates, steered.list.split(',').count()), (3, 3));
    assert!(steered.list.starts_with(&steered.first.to_string()));
    let first = steered.first;
    assert_eq!(pick.to_string(), format!("picked {first} policy=least_cost candidates=3"));
}

#[test]
fn a_learned_cluster_has_no_endpoints_at_first() {
    let (pick, _) = cluster("").pick(&(), millis(0), u64::MAX, true);
    assert_eq!(pick, Pick::Leave(Reason::NoEndpoints));
    assert_eq!(pick.to_string(), "unsteered reason=no_endpoints");
}

#[test]
fn requests_in_flight_spread_over_the_endpoints() {
    let mut cluster = cluster(STATIC);
    let mut counts = [0; 3];
    for draw in draws().take(30) {
        let (pick, _) = cluster.pick(&(), millis(0), draw, true);
        counts[usize::from(steered(&pick).first.address().port()) - 1] += 1;
    }
    assert_eq!(counts, [10; 3]);
}

#[test]
fn a_finished_request_is_taken_back_exactly_once() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    let (pick, mut flight) = cluster.pick(&(), millis(0), u64::MAX, true);
    let first = steered(&pick).first;
    assert_eq!(cluster.in_flight(first), 1);
    cluster.respond(&store, &mut flight, served(first.address().port()), millis(5));
    assert_eq!(cluster.in_flight(first), 1, "the body is still on its way");
    cluster.finish(&mut flight);
    cluster.finish(&mut flight);
    assert_eq!(cluster.in_flight(first), 0);
}

#[test]
fn a_client_that_aborts_leaves_nothing_in_flight() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    let (pick, mut flight) = cluster.pick(&(), millis(0), u64::MAX, true);
    let none = Response { served: None, attempts: 0, edited: false, outcome: Outcome::Neutral };
    cluster.respond(&store, &mut flight, none, millis(5));
    cluster.finish(&mut flight);
    assert_eq!(cluster.in_flight(steered(&pick).first), 0);
}

#[test]
fn a_retry_moves_the_request_to_the_endpoint_that_served() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    let (pick, mut flight) = cluster.pick(&(), millis(0), u64::MAX, true);
    let first = steered(&pick).first;
    let other = endpoint(first.address().port() % 3 + 1);
    let response = Response { attempts: 2, ..served(other.address().port()) };
    cluster.respond(&store, &mut flight, response, millis(5));
    assert_eq!((cluster.in_flight(first), cluster.in_flight(other)), (0, 1));
    let row = cluster.table.find(first).unwrap();
    assert_eq!(row.misses, 0, "a retry is no sign that the first has left");
    let rules = &cluster.config.least_cost;
    assert_eq!(row.error_ratio(millis(5), rules), 1.0, "but it is one that it failed");
    let row = cluster.table.find(other).unwrap();
    assert_eq!(
        row.service_time.value(&Default::default()),
        None,
        "the time was not spent on the second alone"
    );
}

#[test]
fn a_shadow_pick_counts_where_the_request_really_went() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    let (pick, mut flight) = cluster.pick(&(), millis(0), u64::MAX, false);
    let first = steered(&pick).first;
    assert_eq!(cluster.in_flight(first), 0);
    let other = first.address().port() % 3 + 1;
    cluster.respond(&store, &mut flight, served(other), millis(5));
    assert_eq!(cluster.in_flight(endpoint(other)), 1);
    assert_eq!(cluster.table.find(first).unwrap().misses, 0);
}

#[test]
fn endpoints_that_serve_are_learned_and_picked() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    cluster.set_size(3, millis(0));
    for port in [3, 1, 2] {
        show(&mut cluster, &store, port, millis(0));
    }
    assert_eq!(members(&store), [1, 2, 3]);
    refresh(&mut cluster, &store, millis(100));
    let (pick, _) = cluster.pick(&(), millis(100), u64::MAX, true);
    assert_eq!(steered(&pick).candidates, 3);
}

#[test]
fn an_incomplete_list_leaves_the_missing_share_to_the_proxy() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    show(&mut cluster, &store, 1, millis(0));
    refresh(&mut cluster, &store, millis(100));
    cluster.set_size(4, millis(100));
    let (below, above) = (0xbfff_ffffu64 << 32, 0xc000_0000u64 << 32);
    for _ in 0..5 {
        let pick = cluster.pick(&(), millis(100), u64::MAX, true).0;
        assert_eq!(pick, Pick::Leave(Reason::Exploring), "one round is the proxy's as a whole");
    }
    assert_eq!(cluster.pick(&(), millis(100), below, true).0, Pick::Leave(Reason::Exploring));
    steered(&cluster.pick(&(), millis(100), above, true).0);
}

#[test]
fn a_known_endpoint_costs_shared_data_once_in_five_seconds() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    show(&mut cluster, &store, 1, millis(0));
    refresh(&mut cluster, &store, millis(100));
    store.fail_with(10);
    for now in 100..5000 {
        show(&mut cluster, &store, 1, millis(now));
    }
    assert!(cluster.take_notes().is_empty());
    show(&mut cluster, &store, 1, millis(5000));
    assert_eq!(cluster.take_notes().len(), 1);
}

/// A request that is steered and served by someone else at its first attempt.
fn astray(cluster: &mut Cluster, store: &MemoryStore, first: u16, now: UnixNanos) {
    let first = endpoint(first);
    let mut flight =
        Flight { started_at: now, list: vec![first], charged: Some(first), ..Flight::default() };
    cluster.respond(store, &mut flight, served(100), now);
    cluster.finish(&mut flight);
}

#[test]
fn an_endpoint_that_others_serve_for_twice_is_dropped() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    cluster.set_size(2, millis(0));
    show(&mut cluster, &store, 1, millis(0));
    astray(&mut cluster, &store, 1, millis(10));
    assert_eq!(members(&store), [1, 100]);
    astray(&mut cluster, &store, 1, millis(20));
    assert_eq!(members(&store), [100]);
}

#[test]
fn with_more_known_than_there_are_one_miss_is_enough() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    for port in [1, 100] {
        show(&mut cluster, &store, port, millis(0));
    }
    refresh(&mut cluster, &store, millis(100));
    cluster.set_size(1, millis(100));
    astray(&mut cluster, &store, 1, millis(110));
    assert_eq!(members(&store), [100]);
}

#[test]
fn a_list_that_another_filter_changed_proves_nothing() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    show(&mut cluster, &store, 1, millis(0));
    for _ in 0..5 {
        let mut flight = Flight { list: vec![endpoint(1)], ..Flight::default() };
        let response = Response { edited: true, ..served(100) };
        cluster.respond(&store, &mut flight, response, millis(10));
    }
    assert_eq!(members(&store), [1, 100]);
}

#[test]
fn an_endpoint_that_its_breaker_struck_off_the_list_is_still_a_member() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    show(&mut cluster, &store, 1, millis(0));
    let key = BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &["backend", "127.0.0.1:1"]);
    let open = BreakerRecord {
        state: BreakerState::Open,
        changed_at: millis(0),
        open_until: millis(30_000),
        ..BreakerRecord::default()
    };
    update(&store, &key, |_| Transition::Store(open.clone(), ())).unwrap();
    for _ in 0..5 {
        astray(&mut cluster, &store, 1, millis(10));
    }
    assert_eq!(members(&store), [1, 100]);
}

#[test]
fn a_breaker_that_closed_before_the_clock_stepped_back_does_not_make_a_member_of_who_left() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    show(&mut cluster, &store, 1, millis(0));
    let key = BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &["backend", "127.0.0.1:1"]);
    let closed = BreakerRecord { changed_at: millis(900_000), ..BreakerRecord::default() };
    update(&store, &key, |_| Transition::Store(closed.clone(), ())).unwrap();
    for _ in 0..2 {
        astray(&mut cluster, &store, 1, millis(10));
    }
    assert_eq!(members(&store), [100]);
}

#[test]
fn a_static_endpoint_that_is_no_member_is_left_out_for_a_while() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    for _ in 0..2 {
        astray(&mut cluster, &store, 1, millis(10));
    }
    refresh(&mut cluster, &store, millis(100));
    assert_eq!(steered(&cluster.pick(&(), millis(100), u64::MAX, true).0).candidates, 2);
    refresh(&mut cluster, &store, millis(31_000));
    assert_eq!(steered(&cluster.pick(&(), millis(31_000), u64::MAX, true).0).candidates, 3);
}

#[test]
fn a_proxy_that_ignores_the_list_is_left_alone() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    // Round robin, whatever we pick.
    let mut now = 0;
    for (turn, draw) in draws().take(60).enumerate() {
        now += 10;
        let (pick, mut flight) = cluster.pick(&(), millis(now), draw, true);
        if pick == Pick::Leave(Reason::SteeringIneffective) {
            break;
        }
        cluster.respond(&store, &mut flight, served(turn as u16 % 3 + 1), millis(now));
        cluster.finish(&mut flight);
        refresh(&mut cluster, &store, millis(now));
    }
    assert!(cluster.is_steering_ineffective(millis(now)), "after {now} ms");
    assert!(!cluster.is_steering_ineffective(millis(now + 30_000)), "it is tried again");
}

#[test]
fn an_obedient_proxy_is_never_suspected() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    for (tick, draw) in (0u64..).zip(draws()).take(500) {
        let (pick, mut flight) = cluster.pick(&(), millis(tick), draw, true);
        let port = steered(&pick).first.address().port();
        cluster.respond(&store, &mut flight, served(port), millis(tick));
        cluster.finish(&mut flight);
    }
    assert!(!cluster.is_steering_ineffective(millis(500)));
}

#[test]
fn a_slow_endpoint_gets_less_and_a_failing_one_least() {
    let store = MemoryStore::default();
    let mut cluster = cluster(STATIC);
    let mut counts = [0u32; 3];
    let mut waiting: Vec<(u64, Flight, u16)> = Vec::new();
    for (now, draw) in (0u64..3000).zip(draws()) {
        for (_, mut flight, port) in waiting.extract_if(.., |(done, ..)| *done <= now) {
            let outcome = if port == 3 { Outcome::Failure } else { Outcome::Success };
            let response = Response { outcome, ..served(port) };
            cluster.respond(&store, &mut flight, response, millis(now));
            cluster.finish(&mut flight);
        }
        if now % 100 == 0 {
            refresh(&mut cluster, &store, millis(now));
        }
        let (pick, flight) = cluster.pick(&(), millis(now), draw, true);
        let port = steered(&pick).first.address().port();
        counts[usize::from(port) - 1] += 1;
        // The first answers in 5 ms, the second in 20, the third fails at once.
        let takes = [5, 20, 0][usize::from(port) - 1];
        waiting.push((now + takes, flight, port));
    }
    assert!(counts[0] > 2 * counts[1] && counts[1] > 3 * counts[2], "{counts:?}");
}

#[test]
fn weighted_round_robin_takes_turns() {
    let mut cluster = cluster(&format!(r#"{STATIC},"policy":"weighted_round_robin""#));
    let picks: Vec<_> = draws()
        .take(6)
        .map(|draw| steered(&cluster.pick(&(), millis(0), draw, true).0).first.address().port())
        .collect();
    assert_eq!(picks, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn counts_are_given_once() {
    let mut cluster = cluster(STATIC);
    cluster.pick(&(), millis(0), u64::MAX, true);
    let mut told = Vec::new();
    cluster.take_picks(|endpoint, count| told.push((endpoint.to_owned(), count)));
    cluster.take_picks(|endpoint, count| told.push((endpoint.to_owned(), count)));
    assert_eq!((told.len(), told[0].1), (1, 1));
    let mut weights = 0;
    cluster.take_weights(|_, weight| weights += weight);
    cluster.take_weights(|_, weight| weights += weight);
    assert_eq!(weights, 3000);
}

#[test]
fn garbage_under_the_key_of_the_list_counts_as_no_list() {
    let store = MemoryStore::default();
    let junk = shared_state::Expected::Any;
    store.set(Members::key("backend").as_str(), b"junk", junk).unwrap();
    let other = encode(&BreakerRecord::default());
    let health = shared_state::EndpointHealth::key("backend", endpoint(1));
    store.set(health.as_str(), &other, junk).unwrap();
    let mut cluster = cluster("");
    refresh(&mut cluster, &store, millis(0));
    assert_eq!(cluster.take_notes(), [Note::CorruptMembers]);
    show(&mut cluster, &store, 1, millis(1));
    refresh(&mut cluster, &store, millis(100));
    assert_eq!(cluster.take_notes(), [Note::CorruptMembers, Note::CorruptHealth]);
    assert_eq!(members(&store), [1], "the list was mended");
    steered(&cluster.pick(&(), millis(100), u64::MAX, true).0);
}

#[test]
fn the_list_is_verified_with_care_while_an_endpoint_is_unfit() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    for port in 1..=3 {
        show(&mut cluster, &store, port, millis(0));
    }
    cluster.set_size(3, millis(0));
    refresh(&mut cluster, &store, millis(0));
    // A draw of 0.1 %, upper half.
    let draw = ((u64::from(u32::MAX) / 1000) << 32) | 7;
    let verifies = |cluster: &mut Cluster| {
        cluster.pick(&(), millis(1), draw, true).0 == Pick::Leave(Reason::Exploring)
    };
    assert!(verifies(&mut cluster));
    let open = BreakerRecord {
        state: BreakerState::Open,
        open_until: millis(9000),
        ..BreakerRecord::default()
    };
    let key = BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &["backend", "127.0.0.1:2"]);
    store.set(key.as_str(), &encode(&open), shared_state::Expected::Any).unwrap();
    refresh(&mut cluster, &store, millis(0));
    assert!(!verifies(&mut cluster));
}

#[test]
fn the_list_is_verified_with_care_while_an_endpoint_fails_though_nobody_says_that_it_is_unfit() {
    let store = MemoryStore::default();
    let mut cluster = cluster("");
    for port in 1..=3 {
        show(&mut cluster, &store, port, millis(0));
    }
    cluster.set_size(3, millis(0));
    // A draw of 0.1 %, upper half.
    let draw = ((u64::from(u32::MAX) / 1000) << 32) | 7;
    let mut verifies_after = |outcome, at| {
        let mut flight = Flight { started_at: millis(at), ..Flight::default() };
        cluster.respond(&store, &mut flight, Response { outcome, ..served(2) }, millis(at));
        cluster.finish(&mut flight);
        refresh(&mut cluster, &store, millis(at));
        cluster.pick(&(), millis(at), draw, true).0 == Pick::Leave(Reason::Exploring)
    };
    assert!(verifies_after(Outcome::Failure, 1), "one is nothing");
    assert!(!verifies_after(Outcome::Failure, 2));
    assert!(verifies_after(Outcome::Success, 3), "it works");
}
