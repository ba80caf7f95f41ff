use super::*;
use crate::service_time::Concurrency;
use crate::{Config, Journey, Note, Pick, Router};
use shared_state::{Expected, MemoryStore, WorkerSlots};

const ENDPOINTS: [&str; 3] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];

fn at(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(1_000_000 + millis)
}

fn worker(endpoints: &[&str]) -> Router {
    let list = endpoints.join("\",\"");
    let json = format!(r#"{{"clusters":[{{"name":"backend","endpoints":["{list}"]}}]}}"#);
    Router::new(Config::from_json(json.as_bytes()).unwrap().value, at(0))
}

fn cluster(router: &mut Router) -> &mut Cluster {
    let id = router.find("backend").unwrap();
    router.cluster(id).unwrap()
}

/// Sends so many requests that are not answered, as the plugin does it.
fn send(router: &mut Router, store: &MemoryStore, count: u64, millis: u64) -> Vec<Journey> {
    let one = |number: u64| {
        let draw = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (pick, journey) = router.pick(Some("backend"), None, &(), at(millis), draw);
        assert!(matches!(pick, Pick::Steer(_)));
        let journey = journey.unwrap();
        router.exchange(store, &journey, at(millis));
        journey
    };
    (0..count).map(one).collect()
}

/// Workers that have met: each has sent something, and seen the slots of all.
fn workers<const N: usize>(store: &MemoryStore, lists: [&[&str]; N]) -> [Router; N] {
    let mut workers = lists.map(worker);
    for router in &mut workers {
        send(router, store, 1, 0).iter_mut().for_each(|journey| router.finish(journey));
        router.tick(store, at(0), 0);
    }
    for router in &mut workers {
        router.tick(store, at(1_000), 0);
    }
    workers
}

fn heard(router: &mut Router) -> f64 {
    cluster(router).load_elsewhere
}

#[test]
fn what_another_worker_sends_counts_before_the_next_tick() {
    let store = MemoryStore::default();
    let [mut one, mut two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    send(&mut one, &store, 48, 1_010);
    send(&mut two, &store, 160, 1_020);
    let left = 48.0 * (-16.0f64 / 160.0).exp();
    assert!((heard(&mut two) - left).abs() < 0.01, "{} of {left}", heard(&mut two));
    let rows = cluster(&mut two).table.rows();
    assert!(
        rows.iter().all(|row| (14.0..15.0).contains(&row.others)),
        "16 each, less what is over"
    );
}

#[test]
fn what_is_over_by_now_counts_as_much_as_is_usual() {
    let store = MemoryStore::default();
    let [mut one, mut two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    send(&mut one, &store, 48, 1_010);
    for _ in 0..16 {
        send(&mut two, &store, 1, 1_020).iter_mut().for_each(|journey| two.finish(journey));
    }
    assert!(heard(&mut two) < 0.1, "with nothing in flight, sixteen picks are a long time");
}

#[test]
fn they_tell_each_other_with_one_pick_of_sixteen_or_of_a_quarter_of_the_endpoints() {
    let store = MemoryStore::default();
    let many: Vec<String> = (1..=100).map(|port| format!("127.0.0.1:{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (list, interval) in [(ENDPOINTS.as_slice(), 16), (many.as_slice(), 25)] {
        let [mut one, _two] = workers(&store, [list, list]);
        let before = store.sets_tried();
        send(&mut one, &store, 10 * interval, 1_010);
        assert_eq!(store.sets_tried() - before, 10, "{} endpoints", list.len());
    }
}

#[test]
fn a_worker_alone_tells_nobody() {
    let store = MemoryStore::default();
    let [mut one] = workers(&store, [&ENDPOINTS]);
    let before = store.sets_tried();
    send(&mut one, &store, 100, 1_010);
    assert_eq!(store.sets_tried(), before);
}

#[test]
fn a_policy_that_hardly_goes_by_requests_in_flight_does_without() {
    let store = MemoryStore::default();
    let [mut one, _two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    cluster(&mut one).config.policy = Policy::ConsistentHash;
    let before = store.sets_tried();
    send(&mut one, &store, 100, 1_010);
    assert_eq!(store.sets_tried(), before);
}

#[test]
fn who_knows_other_endpoints_is_left_to_the_ticks() {
    let store = MemoryStore::default();
    let others = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:4"];
    let [mut one, mut two] = workers(&store, [&ENDPOINTS, &others]);
    send(&mut one, &store, 48, 1_010);
    send(&mut two, &store, 160, 1_020);
    assert_eq!(heard(&mut two), 0.0);
    one.tick(&store, at(1_100), 0);
    two.tick(&store, at(1_100), 0);
    assert!(heard(&mut two) > 0.0, "what it has at those that both know");
}

#[test]
fn who_has_died_or_is_late_counts_no_more_than_what_is_usual() {
    let store = MemoryStore::default();
    let [mut one, mut two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    send(&mut one, &store, 48, 1_010);
    send(&mut two, &store, 160, 1_510);
    assert_eq!(heard(&mut two), 0.0, "half a second is more than five ticks");
    two.tick(&store, at(9_000), 0);
    let before = store.sets_tried();
    send(&mut two, &store, 16, 9_010);
    assert_eq!(
        store.sets_tried(),
        before,
        "a slot that is not renewed is nobody's, and who is left is alone"
    );
}

#[test]
fn so_many_workers_with_so_many_endpoints_are_left_to_the_ticks() {
    let store = MemoryStore::default();
    let [mut one, _two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    let key = WorkerSlots::key(crate::worker::MODULE);
    let peers = (0..MOST_ENTRIES / ENDPOINTS.len()).filter(|number| *number < 256);
    for _ in peers {
        let claim = |prior| WorkerSlots::claim(prior, None, at(1_900), Duration::from_secs(3));
        shared_state::update(&store, &key, claim).unwrap();
    }
    one.tick(&store, at(2_000), 0);
    let before = store.sets_tried();
    send(&mut one, &store, 16, 2_010);
    assert_eq!(store.sets_tried() - before, 1, "256 times three are few");
    let many: Vec<String> = (1..=50).map(|port| format!("127.0.0.1:{port}")).collect();
    let mut many = worker(&many.iter().map(String::as_str).collect::<Vec<_>>());
    send(&mut many, &store, 1, 2_020);
    many.tick(&store, at(2_020), 0);
    many.tick(&store, at(5_030), 0);
    let before = store.sets_tried();
    send(&mut many, &store, 160, 5_040);
    assert_eq!(store.sets_tried(), before);
}

#[test]
fn garbage_under_the_key_is_noted_and_written_over() {
    let store = MemoryStore::default();
    let [mut one, _two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    store.set(AllFlights::key("backend").as_str(), b"garbage", Expected::Any).unwrap();
    send(&mut one, &store, 16, 1_010);
    assert!(one.take_notes().contains(&Note::CorruptWorkers));
    send(&mut one, &store, 16, 1_020);
    assert_eq!(one.take_notes(), []);
}

#[test]
fn an_endpoint_that_another_worker_waits_for_is_known_to_be_slow_here() {
    let store = MemoryStore::default();
    let [mut one, mut two] = workers(&store, [&ENDPOINTS, &ENDPOINTS]);
    for router in [&mut one, &mut two] {
        let cluster = cluster(router);
        cluster.concurrency = Concurrency::of(4.0);
        for row in cluster.table.rows_mut() {
            for number in 0..100 {
                let (now, tau) = (at(10 * number), Duration::from_secs(8));
                row.service_time.record(
                    0.04,
                    Some(0.0),
                    now,
                    tau,
                    &mut cluster.concurrency.clone(),
                );
            }
        }
    }
    let expected = |router: &mut Router, place: usize| {
        let cluster = cluster(router);
        cluster.table.rows()[place].service_time.value(&cluster.concurrency).unwrap()
    };
    // The first tells where its sums begin.
    send(&mut one, &store, 16, 1_010);
    send(&mut two, &store, 16, 1_010);
    // Four at a time for a tenth of a second, and none of them is answered.
    cluster(&mut one).table.at(1).unwrap().work.add(0.45, 0);
    send(&mut one, &store, 16, 1_110);
    send(&mut two, &store, 16, 1_120);
    assert!(expected(&mut two, 1) > 0.1 && expected(&mut two, 0) < 0.041);
    let slower = expected(&mut two, 1);
    send(&mut two, &store, 16, 1_130);
    assert_eq!(expected(&mut two, 1), slower, "what was told once counts once");
    cluster(&mut one).table.at(0).unwrap().work.add(4_000.0, 0);
    send(&mut one, &store, 16, 1_140);
    send(&mut two, &store, 16, 1_150);
    assert!(expected(&mut two, 0) < 0.041, "an hour of work in 30 ms is none");
}
