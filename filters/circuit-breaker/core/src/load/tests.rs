use super::*;
use core::cell::Cell;
use proptest::prelude::*;
use shared_state::MemoryStore;

fn subject() -> Subject {
    Subject { name: "checkout".into(), endpoint: None, key: None }
}

fn at(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(1_000_000 + millis)
}

fn bulkhead(max_concurrent: u32) -> LoadRules {
    let lease = Duration::from_secs(10);
    LoadRules { bulkhead: Some(Bulkhead { max_concurrent, lease }), ..LoadRules::default() }
}

fn workers(rules: LoadRules, count: u64) -> Vec<Loads> {
    (0..count).map(|owner| Loads::new("cb", "route", rules, owner + 1)).collect()
}

fn success() -> Option<Ended> {
    let elapsed = Some(Duration::from_millis(10));
    Some(Ended { verdict: Verdict::Success, overloaded: false, elapsed, attempts: 1 })
}

#[test]
fn a_bulkhead_holds_over_all_workers_and_nothing_that_ends_is_lost() {
    let store = MemoryStore::default();
    let mut workers = workers(bulkhead(3), 2);
    let mut tickets = Vec::new();
    for turn in 0..6 {
        match workers[turn % 2].begin(&store, &subject(), at(0), 0) {
            Ok(ticket) => tickets.push((turn % 2, ticket.unwrap())),
            Err(cause) => assert_eq!(cause, Cause::Bulkhead),
        }
    }
    assert_eq!(tickets.len(), 3);
    let (worker, ticket) = tickets.remove(0);
    // Never sent: it is given back all the same.
    workers[worker].end(&store, &subject(), ticket, None, (at(1), 0));
    assert!(workers[1].begin(&store, &subject(), at(1), 0).is_ok());
    assert!(workers[0].begin(&store, &subject(), at(1), 0).is_err());
}

#[test]
fn what_a_worker_that_died_had_under_way_comes_back_and_what_lives_is_renewed() {
    let store = MemoryStore::default();
    let mut workers = workers(bulkhead(2), 2);
    workers[0].begin(&store, &subject(), at(0), 0).unwrap();
    workers[1].begin(&store, &subject(), at(0), 0).unwrap();
    for second in 1..=11 {
        workers[1].tick(&store, at(second * 1000));
    }
    let now = at(11_000);
    assert!(workers[1].begin(&store, &subject(), now, 0).is_ok(), "the first is dead");
    assert!(workers[1].begin(&store, &subject(), now, 0).is_err(), "the second is not");
}

#[test]
fn a_large_bulkhead_costs_shared_data_seldom_and_holds_all_the_same() {
    let store = MemoryStore::default();
    let mut workers = workers(bulkhead(1000), 4);
    let mut granted = 0;
    for turn in 0..4000 {
        granted += u32::from(workers[turn % 4].begin(&store, &subject(), at(0), 0).is_ok());
    }
    assert!((900..=1000).contains(&granted), "{granted}");
    assert!(store.sets_tried() < 3200, "{}", store.sets_tried());
    for worker in &mut workers {
        worker.tick(&store, at(100));
    }
    for turn in 0..400 {
        granted += u32::from(workers[turn % 4].begin(&store, &subject(), at(101), 0).is_ok());
    }
    assert_eq!(granted, 1000);
}

#[test]
fn a_store_that_fails_limits_nobody() {
    let store = MemoryStore::default();
    store.fail_with(10);
    let mut worker = workers(bulkhead(1), 1).remove(0);
    assert!((0..5).all(|_| worker.begin(&store, &subject(), at(0), 0).is_ok()));
}

fn adaptive(algorithm: Algorithm) -> Adaptive {
    Adaptive {
        algorithm,
        min: 5,
        max: 200,
        tolerance: 1.5,
        smoothing: 0.2,
        queue: 4,
        long_window: 600,
    }
}

/// A server that works on `capacity` at once and lets the rest wait; more come than may.
struct Crowded {
    limit: Limit,
    rule: Adaptive,
    capacity: u32,
    turn: u64,
}

impl Crowded {
    fn new(algorithm: Algorithm, capacity: u32) -> Self {
        let rule = adaptive(algorithm);
        Self { limit: Limit::new(Some(&rule)), rule, capacity, turn: 0 }
    }

    /// So many requests end, each of which takes so long when it does not wait. One that takes more
    /// than `patience` fails. Gives the limit then.
    fn ends(&mut self, requests: u64, millis: f64, patience: f64) -> u32 {
        for _ in 0..requests {
            self.turn += 1;
            let in_flight = self.limit.whole();
            let rounds = f64::from(in_flight.max(self.capacity)) / f64::from(self.capacity);
            let latency = Duration::from_secs_f64(millis / 1e3 * rounds);
            let overloaded = millis * rounds > patience;
            let draw = self.turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.limit.hold_back(in_flight);
            self.limit.observe(&self.rule, Some(latency), overloaded, in_flight, draw);
        }
        self.limit.whole()
    }
}

#[test]
fn every_algorithm_finds_a_limit_between_idleness_and_collapse() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Vegas, Algorithm::Aimd] {
        let limit = Crowded::new(algorithm, 40).ends(20_000, 10.0, 30.0);
        assert!((30..=125).contains(&limit), "{algorithm:?}: {limit}");
    }
}

#[test]
fn a_crowd_that_stays_does_not_teach_that_its_queue_is_usual() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Vegas] {
        let mut crowded = Crowded::new(algorithm, 40);
        // Nothing fails, however long it takes.
        let soon = crowded.ends(1000, 10.0, f64::MAX);
        let late = crowded.ends(30_000, 10.0, f64::MAX);
        assert!((40..=90).contains(&soon), "{algorithm:?}: {soon}");
        assert!((40..=90).contains(&late), "{algorithm:?}: {late}");
    }
}

#[test]
fn a_server_that_became_slower_for_good_is_used_again_though_the_crowd_stays() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Vegas] {
        let mut crowded = Crowded::new(algorithm, 40);
        crowded.ends(5000, 10.0, f64::MAX);
        let limit = crowded.ends(800_000, 40.0, f64::MAX);
        assert!(limit >= 40, "{algorithm:?}: {limit}");
    }
}

#[test]
fn an_idle_subject_does_not_raise_its_limit() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Vegas, Algorithm::Aimd] {
        let rule = adaptive(algorithm);
        let mut limit = Limit::new(Some(&rule));
        for _ in 0..1000 {
            limit.observe(&rule, Some(Duration::from_millis(10)), false, 1, 7);
        }
        assert_eq!(limit.whole(), 5, "{algorithm:?}");
    }
}

#[test]
fn a_limit_is_never_below_its_least_so_traffic_never_stops() {
    let rule = adaptive(Algorithm::Gradient2);
    let mut limit = Limit::new(Some(&rule));
    for _ in 0..1000 {
        limit.observe(&rule, None, true, 50, 7);
    }
    assert_eq!(limit.whole(), 5);
}

#[test]
fn admission_control_rejects_by_envoys_formula() {
    let rule = AdmissionControl {
        sampling_window: Duration::from_secs(30),
        sr_threshold: 95.0,
        aggression: 1.0,
        max_rejection_probability: 80.0,
    };
    assert_eq!(rule.rejection_probability(0, 0), 0.0);
    assert_eq!(rule.rejection_probability(100, 95), 0.0, "at the threshold");
    let half = rule.rejection_probability(100, 50);
    assert!((half - (100.0 - 50.0 / 0.95) / 101.0).abs() < 1e-9, "{half}");
    assert_eq!(rule.rejection_probability(1000, 0), 0.8, "the cap");
    let mut worker =
        workers(LoadRules { admission: Some(rule), ..LoadRules::default() }, 1).remove(0);
    let store = MemoryStore::default();
    for _ in 0..50 {
        let ticket = worker.begin(&store, &subject(), at(0), u64::MAX).unwrap().unwrap();
        let failed = Ended { verdict: Verdict::Failure, ..success().unwrap() };
        worker.end(&store, &subject(), ticket, Some(failed), (at(0), 0));
    }
    assert_eq!(worker.begin(&store, &subject(), at(0), 0).unwrap_err(), Cause::Admission);
    assert!(worker.begin(&store, &subject(), at(31_000), 0).is_ok(), "the window has moved on");
}

#[test]
fn retries_are_paid_for_by_requests() {
    let budget = RetryBudget { budget_percent: 20.0, min_retries_per_second: 3 };
    let rules = LoadRules { retry_budget: Some(budget), ..LoadRules::default() };
    let mut worker = workers(rules, 1).remove(0);
    let store = MemoryStore::default();
    let mut retried = 0;
    for _ in 0..1000 {
        let ticket = worker.begin(&store, &subject(), at(0), 0).unwrap().unwrap();
        // Everything fails, and is retried once if it may.
        let attempts = if worker.is_spent(&subject()) { 1 } else { 2 };
        retried += attempts - 1;
        let ended = Ended { attempts, ..success().unwrap() };
        worker.end(&store, &subject(), ticket, Some(ended), (at(0), 0));
    }
    assert!((195..=205).contains(&retried), "{retried}");
    worker.begin(&store, &subject(), at(1000), 0).unwrap();
    assert!(!worker.is_spent(&subject()), "three a second are free");
}

#[test]
fn what_is_idle_is_forgotten_and_what_is_under_way_is_not() {
    let store = MemoryStore::default();
    let mut worker = workers(bulkhead(100), 1).remove(0);
    let ticket = worker.begin(&store, &subject(), at(0), 0).unwrap().unwrap();
    worker.tick(&store, at(120_000));
    assert_eq!(worker.in_flight(&subject()), 1);
    worker.end(&store, &subject(), ticket, success(), (at(120_000), 0));
    worker.tick(&store, at(121_000));
    worker.tick(&store, at(200_000));
    assert!(worker.loads.len() == 0);
}

proptest! {
    #[test]
    fn no_history_exceeds_a_bulkhead_or_counts_below_nothing(
        max in 1u32..100,
        acts in proptest::collection::vec((0usize..3, 0u8..8, 0u64..4000), 1..300),
    ) {
        let store = MemoryStore::default();
        let mut workers = workers(bulkhead(max), 3);
        let mut under_way: Vec<Vec<Ticket>> = (0..3).map(|_| Vec::new()).collect();
        let now = Cell::new(0);
        for (worker, act, wait) in acts {
            match act {
                0 => now.set(now.get() + wait),
                1..=5 => {
                    if let Ok(ticket) = workers[worker].begin(&store, &subject(), at(now.get()), 0) {
                        under_way[worker].extend(ticket);
                    }
                }
                _ => {
                    if let Some(ticket) = under_way[worker].pop() {
                        workers[worker].end(&store, &subject(), ticket, success(), (at(now.get()), 0));
                    }
                }
            }
            for (worker, tickets) in workers.iter_mut().zip(&under_way) {
                worker.tick(&store, at(now.get()));
                prop_assert_eq!(worker.in_flight(&subject()) as usize, tickets.len());
            }
            let all: usize = under_way.iter().map(Vec::len).sum();
            prop_assert!(all <= max as usize, "{all} of {max}");
        }
    }
}
