use crate::{Config, Flight, Note, Outcome, Pick, Policy, Reason, Response, Router, Why};
use shared_state::{
    BreakerRecord, DEFAULT_ENDPOINT_SCOPE, Endpoint, EndpointHealth, Expected, HealthState,
    LoadReport, Members, MemoryStore, SharedStore, Transition, UnixNanos, encode, metric_id,
};

fn endpoint(port: u16) -> Endpoint {
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(secs)
}

fn router(json: &str) -> Router {
    let json = format!(
        r#"{{"clusters":[{{"name":"backend",
            "endpoints":["127.0.0.1:1","127.0.0.1:2","127.0.0.1:3"]{json}}},{{"name":"*"}}]}}"#
    );
    Router::new(Config::from_json(json.as_bytes()).unwrap().value, at(0))
}

fn health(store: &MemoryStore, port: u16, record: &EndpointHealth) {
    let key = EndpointHealth::key("backend", endpoint(port));
    store.set(key.as_str(), &encode(record), Expected::Any).unwrap();
}

fn state(state: HealthState, secs: u64) -> EndpointHealth {
    EndpointHealth { state, written_at: at(secs), ..EndpointHealth::default() }
}

fn pick(router: &mut Router, secs: u64) -> (Pick, Flight) {
    let id = router.find("backend").unwrap();
    router.cluster(id).unwrap().pick(&(), at(secs), u64::MAX, true)
}

fn first(router: &mut Router, secs: u64) -> u16 {
    match pick(router, secs).0 {
        Pick::Steer(steered) => steered.first.address().port(),
        Pick::Leave(reason) => panic!("unsteered: {reason:?}"),
    }
}

#[test]
fn an_endpoint_that_is_down_is_not_listed() {
    let store = MemoryStore::default();
    let mut router = router("");
    health(&store, 2, &state(HealthState::Down, 100));
    router.tick(&store, at(100), 0);
    match pick(&mut router, 100).0 {
        Pick::Steer(steered) => {
            assert_eq!(steered.candidates, 2);
            assert!(!steered.list.contains("127.0.0.1:2"), "{}", steered.list);
        }
        Pick::Leave(reason) => panic!("unsteered: {reason:?}"),
    }
}

#[test]
fn too_many_down_is_a_panic_and_the_cluster_decides() {
    let store = MemoryStore::default();
    let mut router = router("");
    health(&store, 1, &state(HealthState::Down, 100));
    health(&store, 2, &state(HealthState::Unready, 100));
    router.tick(&store, at(100), 0);
    assert_eq!(pick(&mut router, 100).0, Pick::Leave(Reason::Panic));
}

#[test]
fn an_old_health_record_and_one_from_the_future_say_nothing() {
    let store = MemoryStore::default();
    let mut router = router("");
    health(&store, 1, &state(HealthState::Down, 69));
    health(&store, 2, &state(HealthState::Down, 500));
    router.tick(&store, at(100), 0);
    assert!(matches!(pick(&mut router, 100).0, Pick::Steer(steered) if steered.candidates == 3));
}

#[test]
fn shared_latency_rules_over_what_was_measured_here() {
    let store = MemoryStore::default();
    let mut router = router("");
    let id = router.find("backend").unwrap();
    for port in 1..=3 {
        let cluster = router.cluster(id).unwrap();
        let (_, mut flight) = cluster.pick(&(), at(99), u64::MAX, false);
        let response = Response {
            served: Some(endpoint(port)),
            attempts: 1,
            edited: false,
            outcome: Outcome::Success,
        };
        cluster.respond(&store, &mut flight, response, at(100));
        cluster.finish(&mut flight);
        let latency_us = if port == 3 { 1000 } else { 8000 };
        health(&store, port, &EndpointHealth { latency_us, ..state(HealthState::Healthy, 100) });
    }
    router.tick(&store, at(100), 0);
    assert_eq!(first(&mut router, 100), 3);
}

/// What an endpoint is believed to do, of which the record says that everything fails, `secs` after
/// it last answered.
fn rate_of_a_failed_endpoint(secs: u64) -> f64 {
    let store = MemoryStore::default();
    let mut router = router("");
    let id = router.find("backend").unwrap();
    let cluster = router.cluster(id).unwrap();
    let (_, mut flight) = cluster.pick(&(), at(100), u64::MAX, false);
    let (served, outcome) = (Some(endpoint(2)), Outcome::Failure);
    let response = Response { served, attempts: 1, edited: false, outcome };
    cluster.respond(&store, &mut flight, response, at(100));
    cluster.finish(&mut flight);
    let record = EndpointHealth { error_ratio: 1.0, ..state(HealthState::Healthy, 100 + secs) };
    health(&store, 2, &record);
    router.tick(&store, at(100 + secs), 0);
    let candidates = &router.cluster(id).unwrap().snapshot.candidates;
    candidates.iter().find(|c| c.endpoint == endpoint(2)).unwrap().rate
}

#[test]
fn the_error_ratio_of_a_record_fades_within_seconds_while_nothing_is_sent() {
    assert!(rate_of_a_failed_endpoint(1) < 0.25);
    assert_eq!(rate_of_a_failed_endpoint(5), 1.0);
}

#[test]
fn an_endpoint_that_is_out_upsets_its_cluster_until_ten_seconds_after() {
    let store = MemoryStore::default();
    let mut router = router("");
    let id = router.find("backend").unwrap();
    use HealthState::{Down, Healthy};
    let mut rate_of_the_faster_one = |first, secs| {
        let all = [(1, first, 10_000), (2, Healthy, 8_000), (3, Healthy, 12_000)];
        for (port, state, latency_us) in all {
            health(&store, port, &EndpointHealth { latency_us, ..self::state(state, secs) });
            // What is known of who does not answer fades.
            ends(&mut router, &store, port, Outcome::Success, secs);
        }
        router.tick(&store, at(secs), 0);
        let candidates = &router.cluster(id).unwrap().snapshot.candidates;
        candidates.iter().find(|c| c.endpoint == endpoint(2)).unwrap().rate
    };
    assert!(rate_of_the_faster_one(Healthy, 100) > 1.1);
    rate_of_the_faster_one(Down, 101);
    assert_eq!(rate_of_the_faster_one(Down, 102), 1.0, "it may be chance");
    assert_eq!(rate_of_the_faster_one(Healthy, 111), 1.0);
    assert!(rate_of_the_faster_one(Healthy, 112) > 1.1);
}

#[test]
fn what_other_workers_have_in_flight_counts() {
    let store = MemoryStore::default();
    let (mut one, mut two) = (router(""), router(""));
    let flights: Vec<_> = (0..30).map(|_| pick(&mut one, 100).1).collect();
    let busy = flights[0].charged.unwrap();
    let id = one.find("backend").unwrap();
    for mut flight in flights {
        if flight.charged != Some(busy) {
            one.cluster(id).unwrap().finish(&mut flight);
        }
    }
    one.tick(&store, at(100), 0);
    two.tick(&store, at(101), 0);
    two.tick(&store, at(102), 0);
    for _ in 0..20 {
        assert_ne!(pick(&mut two, 102).1.charged, Some(busy));
    }
}

#[test]
fn a_worker_that_is_gone_weighs_on_nobody() {
    let store = MemoryStore::default();
    let (mut one, mut two) = (router(""), router(""));
    for _ in 0..30 {
        pick(&mut one, 100);
    }
    one.tick(&store, at(100), 0);
    two.tick(&store, at(101), 0);
    let id = two.find("backend").unwrap();
    let load = |router: &mut Router| -> f64 {
        let candidates = &router.cluster(id).unwrap().snapshot.candidates;
        candidates.iter().map(|candidate| candidate.elsewhere).sum()
    };
    assert!(load(&mut two) > 29.0);
    for secs in 104..120 {
        two.tick(&store, at(secs), 0);
    }
    assert!(load(&mut two) < 0.1);
}

/// One request to `port` that ends like this.
fn ends(router: &mut Router, store: &MemoryStore, port: u16, outcome: Outcome, secs: u64) {
    let id = router.find("backend").unwrap();
    let cluster = router.cluster(id).unwrap();
    let (_, mut flight) = cluster.pick(&(), at(secs), u64::MAX, false);
    let response = Response { served: Some(endpoint(port)), attempts: 1, edited: false, outcome };
    cluster.respond(store, &mut flight, response, at(secs));
    cluster.finish(&mut flight);
}

#[test]
fn a_run_of_failures_that_another_worker_saw_counts_until_somebody_is_served() {
    let store = MemoryStore::default();
    let mut one = router("");
    for _ in 0..4 {
        ends(&mut one, &store, 2, Outcome::Failure, 100);
    }
    one.tick(&store, at(100), 0);
    // The first may be dead by now.
    let mut two = router("");
    two.tick(&store, at(101), 0);
    let penalty = |router: &mut Router| {
        let id = router.find("backend").unwrap();
        let candidates = &router.cluster(id).unwrap().snapshot.candidates;
        candidates.iter().map(|candidate| candidate.penalty).collect::<Vec<_>>()
    };
    let penalties = penalty(&mut two);
    assert!(penalties[1] > 2.0 && penalties[0] == 1.0 && penalties[2] == 1.0, "{penalties:?}");
    ends(&mut two, &store, 2, Outcome::Success, 101);
    two.tick(&store, at(102), 0);
    assert_eq!(penalty(&mut two), [1.0; 3]);
}

#[test]
fn who_has_measured_nothing_believes_what_other_workers_have() {
    let store = MemoryStore::default();
    let mut one = router("");
    let id = one.find("backend").unwrap();
    for (port, millis) in [(1, 10), (2, 80), (3, 10)] {
        let cluster = one.cluster(id).unwrap();
        let (_, mut flight) = cluster.pick(&(), at(100), u64::MAX, false);
        let served = Some(endpoint(port));
        let response = Response { served, attempts: 1, edited: false, outcome: Outcome::Success };
        let then = UnixNanos::from_millis(100_000 + millis);
        cluster.respond(&store, &mut flight, response, then);
        cluster.finish(&mut flight);
    }
    one.tick(&store, UnixNanos::from_millis(100_100), 0);
    let mut two = router("");
    two.tick(&store, at(101), 0);
    let candidates = &two.cluster(id).unwrap().snapshot.candidates;
    let rates: Vec<f64> = candidates.iter().map(|candidate| candidate.rate).collect();
    assert!(rates[1] < 0.3 && rates[0] == 1.0 && rates[2] == 1.0, "{rates:?}");
}

#[test]
fn load_reports_become_weights_after_the_blackout() {
    let store = MemoryStore::default();
    let mut router = router(r#","policy":"weighted_round_robin""#);
    for secs in 100..=110 {
        for (port, rps) in [(1, 100.0), (2, 100.0), (3, 200.0)] {
            let report = LoadReport {
                received_at: at(secs),
                application_utilization: 0.5,
                rps,
                ..LoadReport::default()
            };
            let record = state(HealthState::Healthy, secs);
            health(&store, port, &EndpointHealth { report: Some(report), ..record });
        }
        router.tick(&store, at(secs), 0);
    }
    let mut counts = [0; 3];
    for _ in 0..400 {
        counts[usize::from(first(&mut router, 110)) - 1] += 1;
    }
    assert_eq!(counts, [100, 100, 200]);
}

#[test]
fn nothing_is_published_while_nothing_changes() {
    let store = MemoryStore::default();
    let mut router = router("");
    router.tick(&store, at(100), 0);
    assert_eq!(store.sets_tried(), 0, "a worker without requests has nothing to say");
    pick(&mut router, 100);
    router.tick(&store, at(101), 0);
    let keys = store.keys();
    assert!(keys.contains(&"weir/2/router/worker/backend/0".to_owned()), "{keys:?}");
    let sets = store.sets_tried();
    router.tick(&store, UnixNanos::from_millis(101_100), 0);
    assert_eq!(store.sets_tried(), sets);
}

#[test]
fn a_report_that_could_not_be_written_is_due_again() {
    let store = MemoryStore::default();
    let mut router = router("");
    pick(&mut router, 100);
    router.tick(&store, at(100), 0);
    let of = |router: &mut Router| {
        let id = router.find("backend").unwrap();
        router.cluster(id).unwrap().published.clone()
    };
    let told = of(&mut router);
    assert!(told.is_some());
    pick(&mut router, 100);
    store.fail_with(12);
    router.tick(&store, UnixNanos::from_millis(100_100), 0);
    assert_eq!(of(&mut router), None);
}

#[test]
fn a_worker_whose_slot_was_taken_reports_again_in_its_new_one() {
    let store = MemoryStore::default();
    let (mut sleeper, mut other) = (router(""), router(""));
    pick(&mut sleeper, 100);
    sleeper.tick(&store, at(100), 0);
    pick(&mut other, 110);
    other.tick(&store, at(110), 0);
    sleeper.tick(&store, at(111), 0);
    let keys = store.keys();
    assert!(keys.contains(&"weir/2/router/worker/backend/1".to_owned()), "{keys:?}");
}

#[test]
fn a_clock_that_steps_back_stops_no_tick() {
    let store = MemoryStore::default();
    let mut router = router("");
    router.tick(&store, at(1000), 0);
    health(&store, 1, &state(HealthState::Down, 10));
    router.tick(&store, at(10), 0);
    assert!(matches!(pick(&mut router, 10).0, Pick::Steer(steered) if steered.candidates == 2));
}

#[test]
fn a_host_without_shared_data_leaves_the_workers_own_measurements() {
    let store = MemoryStore::default();
    store.fail_with(12);
    let mut router = router("");
    pick(&mut router, 100);
    router.tick(&store, at(100), 0);
    assert!(router.take_notes().iter().all(|note| matches!(note, Note::Store(_))));
    assert!(matches!(pick(&mut router, 100).0, Pick::Steer(steered) if steered.candidates == 3));
}

#[test]
fn a_surplus_endpoint_that_nobody_has_seen_for_a_minute_is_dropped() {
    let store = MemoryStore::default();
    let mut router = router("");
    let id = router.follow("learned", at(0)).unwrap();
    let see = |router: &mut Router, port, secs| {
        let cluster = router.cluster(id).unwrap();
        let response = Response {
            served: Some(endpoint(port)),
            attempts: 1,
            edited: false,
            outcome: Outcome::Success,
        };
        let mut flight = Flight::default();
        cluster.respond(&store, &mut flight, response, at(secs));
        cluster.finish(&mut flight);
        cluster.set_size(1, at(secs));
        router.tick(&store, at(secs), 0);
        router.cluster(id).unwrap().members()
    };
    see(&mut router, 1, 100);
    assert_eq!(see(&mut router, 2, 110), 2);
    assert_eq!(see(&mut router, 2, 159), 2);
    assert_eq!(see(&mut router, 2, 160), 1);
}

#[test]
fn clusters_are_bounded_and_only_configured_ones_are_followed() {
    let mut router = router("");
    for at_most in 0..1000 {
        router.follow(&format!("cluster-{at_most}"), at(0));
    }
    assert_eq!(router.clusters().count(), crate::MAX_CLUSTERS);
    let json = br#"{"clusters":[{"name":"a"}]}"#;
    let mut strict = Router::new(Config::from_json(json).unwrap().value, at(0));
    assert!(strict.follow("b", at(0)).is_none() && strict.follow("a", at(0)).is_some());
}

/// The share of the picks that may consider the endpoint at `port`.
fn admission(router: &mut Router, cluster: &str, port: u16) -> f64 {
    let id = router.find(cluster).unwrap();
    let candidates = &router.cluster(id).unwrap().snapshot.candidates;
    candidates.iter().find(|it| it.endpoint == endpoint(port)).unwrap().admission
}

#[test]
fn an_endpoint_that_joins_is_ramped_up_and_those_of_the_beginning_are_not() {
    let store = MemoryStore::default();
    let mut router = router("");
    let id = router.follow("learned", at(0)).unwrap();
    let serve = |router: &mut Router, ports: core::ops::RangeInclusive<u16>, secs| {
        for port in ports {
            let (served, outcome) = (Some(endpoint(port)), Outcome::Success);
            let response = Response { served, attempts: 1, edited: false, outcome };
            let mut flight = Flight::default();
            let cluster = router.cluster(id).unwrap();
            cluster.respond(&store, &mut flight, response, at(secs));
            cluster.finish(&mut flight);
        }
        router.tick(&store, at(secs), 0);
    };
    serve(&mut router, 1..=3, 100);
    serve(&mut router, 1..=3, 101);
    assert!((1..=3).all(|port| admission(&mut router, "learned", port) == 1.0));
    serve(&mut router, 1..=4, 102);
    serve(&mut router, 1..=4, 104);
    assert_eq!(admission(&mut router, "learned", 3), 1.0);
    assert_eq!(admission(&mut router, "learned", 4), 0.2);
    serve(&mut router, 1..=4, 112);
    assert_eq!(admission(&mut router, "learned", 4), 1.0);
}

#[test]
fn an_endpoint_whose_breaker_has_closed_is_ramped_up() {
    let store = MemoryStore::default();
    let mut router = router("");
    let record = BreakerRecord { epoch: 3, changed_at: at(100), ..BreakerRecord::default() };
    let key = BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &["backend", "127.0.0.1:2"]);
    store.set(key.as_str(), &encode(&record), Expected::Any).unwrap();
    router.tick(&store, at(105), 0);
    assert_eq!(admission(&mut router, "backend", 2), 0.5);
    assert_eq!(admission(&mut router, "backend", 1), 1.0);
    router.tick(&store, at(110), 0);
    assert_eq!(admission(&mut router, "backend", 2), 1.0);
}

fn three_hundred() -> Router {
    let ports: Vec<String> = (1..=300).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let json =
        format!(r#"{{"clusters":[{{"name":"backend","endpoints":[{}]}}]}}"#, ports.join(","));
    Router::new(Config::from_json(json.as_bytes()).unwrap().value, at(0))
}

fn candidates(router: &mut Router) -> usize {
    match pick(router, 100).0 {
        Pick::Steer(steered) => steered.candidates,
        Pick::Leave(reason) => panic!("unsteered: {reason:?}"),
    }
}

#[test]
fn of_many_endpoints_a_tick_reads_some_and_soon_all() {
    let store = MemoryStore::default();
    let mut router = three_hundred();
    router.tick(&store, at(99), 0);
    for port in (1..=300).step_by(50) {
        health(&store, port, &state(HealthState::Down, 100));
    }
    let mut seen = Vec::new();
    for tick in 0..5 {
        router.tick(&store, UnixNanos::from_millis(100_000 + tick * 100), 0);
        seen.push(candidates(&mut router));
    }
    assert_eq!(seen, [299, 298, 296, 295, 294], "64 of 300 a tick");
}

#[test]
fn who_knows_nothing_yet_reads_of_all_of_them() {
    let store = MemoryStore::default();
    for port in (1..=300).step_by(50) {
        health(&store, port, &state(HealthState::Down, 100));
    }
    let mut router = three_hundred();
    router.tick(&store, at(100), 0);
    assert_eq!(candidates(&mut router), 294);
}

#[test]
fn the_first_request_to_a_cluster_is_steered_by_what_others_know() {
    let store = MemoryStore::default();
    let json = r#"{"clusters":[{"name":"*"}]}"#;
    let mut router = Router::new(Config::from_json(json.as_bytes()).unwrap().value, at(0));
    let mut members = None;
    for port in 1..=4 {
        if let Transition::Store(next, _) = Members::seen(members.clone(), endpoint(port), at(100))
        {
            members = Some(next);
        }
    }
    let key = Members::key("backend");
    store.set(key.as_str(), &encode(&members.unwrap()), Expected::Any).unwrap();
    health(&store, 2, &state(HealthState::Down, 100));
    router.meet(&store, "backend", at(100), 0);
    let candidates =
        |router: &mut Router| match router.pick(Some("backend"), Some(4), &(), at(100), u64::MAX).0
        {
            Pick::Steer(steered) => steered.candidates,
            Pick::Leave(reason) => panic!("unsteered: {reason:?}"),
        };
    assert_eq!(candidates(&mut router), 3);
    health(&store, 3, &state(HealthState::Down, 100));
    router.meet(&store, "backend", at(100), 0);
    assert_eq!(candidates(&mut router), 3, "what comes later is the tick's");
}

#[test]
fn a_report_is_as_new_as_the_response_that_it_comes_with_whatever_time_it_tells() {
    let store = MemoryStore::default();
    let mut router = router(r#","policy":"hot_cold","hot_cold":{"pool_size":2,"max_reuse":1}"#);
    router.tick(&store, at(100), 0);
    let id = router.find("backend").unwrap();
    let now = |millis| UnixNanos::from_millis(100_000 + millis);
    let report = |router: &mut Router, port, requests: f32, millis| {
        // Who read it knows the time of its last tick.
        let named = vec![(metric_id("named_metrics.rif"), requests)];
        let report = LoadReport { received_at: at(100), named, ..LoadReport::default() };
        router.cluster(id).unwrap().report(endpoint(port), &report, now(millis));
    };
    let pick = |router: &mut Router, millis| match router
        .cluster(id)
        .unwrap()
        .pick(&(), now(millis), u64::MAX, true)
        .0
    {
        Pick::Steer(steered) => (steered.first.address().port(), steered.why),
        Pick::Leave(reason) => panic!("unsteered: {reason:?}"),
    };
    // More than the pool holds, and each but the last of its endpoint is out of date.
    for (at, port) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
        report(&mut router, port, 9.0, at as u64);
    }
    report(&mut router, 2, 1.0, 10);
    report(&mut router, 1, 3.0, 11);
    assert_eq!(pick(&mut router, 12), (2, Why::Cold));
    report(&mut router, 2, 4.0, 13);
    assert_eq!(pick(&mut router, 14), (1, Why::Cold));
}

#[test]
fn where_no_record_tells_of_reports_one_response_in_some_does_and_the_policy_that_fits_is_found() {
    let store = MemoryStore::default();
    let mut router = router("");
    let id = router.find("backend").unwrap();
    let mut asked = 0;
    // Answers which policy picked, and how many responses were asked for their report so far.
    let mut serve = |router: &mut Router, number: u64, now| {
        let draw = number.wrapping_mul(0x9e37_79b9);
        let cluster = router.cluster(id).unwrap();
        let (Pick::Steer(steered), mut flight) = cluster.pick(&(), now, draw, true) else {
            panic!("unsteered");
        };
        if cluster.wants_reports() {
            asked += 1;
            let named = vec![(metric_id("named_metrics.rif"), 4.0)];
            let report = LoadReport { rps: 10_000.0, named, ..LoadReport::default() };
            cluster.report(steered.first, &report, now);
        }
        let (served, outcome) = (Some(steered.first), Outcome::Success);
        let response = Response { served, attempts: 1, edited: false, outcome };
        cluster.respond(&store, &mut flight, response, now);
        cluster.finish(&mut flight);
        (steered.policy, asked)
    };
    for number in 0..3000 {
        let now = UnixNanos::from_millis(100_000 + number);
        if number.is_multiple_of(100) {
            router.tick(&store, now, 0);
        }
        let (policy, asked) = serve(&mut router, number, now);
        if number < 1000 {
            assert_eq!((policy, asked), (Policy::LeastCost, 1 + number / 16));
        } else if number == 2999 {
            assert_eq!(policy, Policy::HotCold);
            assert!(asked > 1000, "picks that go by reports need them all");
        }
    }
}

/// Which of so many responses, none of which reports anything, are asked for a report.
fn asked(policy: &str) -> Vec<u64> {
    let store = MemoryStore::default();
    let mut router = router(policy);
    let id = router.find("backend").unwrap();
    let mut asked = Vec::new();
    for number in 0..5000u64 {
        let cluster = router.cluster(id).unwrap();
        let (Pick::Steer(steered), mut flight) = cluster.pick(&(), at(100), number, true) else {
            panic!("unsteered");
        };
        if cluster.wants_reports() {
            asked.push(number);
        }
        let (served, outcome) = (Some(steered.first), Outcome::Success);
        let response = Response { served, attempts: 1, edited: false, outcome };
        cluster.respond(&store, &mut flight, response, at(100));
        cluster.finish(&mut flight);
    }
    asked
}

#[test]
fn endpoints_that_report_nothing_are_hardly_asked_any_more() {
    let asked = asked("");
    assert_eq!(asked[..16], (0..256).step_by(16).collect::<Vec<_>>());
    assert_eq!(asked[16..], [1024, 2048, 3072, 4096]);
}

#[test]
fn a_policy_that_lives_by_reports_asks_now_and_then_whether_there_are_some() {
    let asked = asked(r#","policy":"hot_cold""#);
    assert_eq!(asked[..256], (0..256).collect::<Vec<_>>());
    assert_eq!(asked[256..], (256..5000).step_by(16).collect::<Vec<_>>());
}
