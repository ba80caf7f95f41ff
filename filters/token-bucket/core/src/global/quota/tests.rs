use super::*;
use proptest::prelude::*;

const KEY: u64 = 7;
const PATIENCE: Duration = Duration::from_millis(20);

fn batch(max: u32) -> Batch {
    Batch { max, time: Duration::from_millis(100) }
}

fn at(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(100_000 + millis)
}

fn plan(quotas: &mut Quotas, max: u32, millis: u64) -> Plan {
    quotas.plan(KEY, &batch(max), 1, at(millis), PATIENCE)
}

fn resets_in(reset: Duration) -> Option<FleetLimit> {
    Some(FleetLimit { reset: Some(reset), ..FleetLimit::default() })
}

fn answer(limit: Option<FleetLimit>, window_ends: Option<Duration>) -> Answer {
    Answer { allowed: true, limit, window_ends, ..Answer::default() }
}

/// Answers a question at once.
fn grant(quotas: &mut Quotas, hits: u32, millis: u64, left: Option<u32>) {
    let limit = FleetLimit { remaining: left, ..FleetLimit::default() };
    let (ahead, now) = (hits - 1, at(millis));
    quotas.granted(KEY, &batch(50), ahead, now, now, &answer(Some(limit), None));
}

#[test]
fn a_descriptor_that_is_rarely_asked_for_is_asked_for_once_each_time() {
    let mut quotas = Quotas::default();
    for nth in 0..10 {
        assert_eq!(plan(&mut quotas, 50, nth * 300), Plan::Ask(1));
        grant(&mut quotas, 1, nth * 300, None);
    }
}

#[test]
fn batches_grow_with_demand_up_to_their_bound_and_need_ever_fewer_calls() {
    let mut quotas = Quotas::default();
    let mut asked = Vec::new();
    for nth in 0..1000 {
        if let Plan::Ask(hits) = plan(&mut quotas, 50, nth) {
            asked.push(hits);
            grant(&mut quotas, hits, nth, None);
        }
    }
    assert_eq!(asked.iter().copied().max(), Some(50));
    assert!(asked.len() < 30, "1000 requests, {} calls: {asked:?}", asked.len());
    assert!(asked.iter().sum::<u32>() >= 1000);
}

#[test]
fn a_batch_is_at_most_a_quarter_of_what_is_left_and_none_near_the_limit() {
    let mut quotas = Quotas::default();
    for millis in 0..40 {
        plan(&mut quotas, 50, millis);
        quotas.ended(KEY, 1);
    }
    grant(&mut quotas, 1, 40, Some(40));
    assert_eq!(plan(&mut quotas, 50, 41), Plan::Ask(10));
    quotas.ended(KEY, 9);
    grant(&mut quotas, 1, 41, Some(3));
    assert_eq!(plan(&mut quotas, 50, 42), Plan::Ask(1));
}

#[test]
fn one_batch_is_out_at_a_time_and_a_lost_one_is_given_up() {
    let mut quotas = Quotas::default();
    plan(&mut quotas, 50, 0);
    grant(&mut quotas, 1, 0, None);
    assert_eq!(plan(&mut quotas, 50, 1), Plan::Ask(2));
    assert_eq!(plan(&mut quotas, 50, 2), Plan::Ask(1), "a batch is out");
    assert_eq!(plan(&mut quotas, 50, 22), Plan::Ask(4), "it was lost");
}

#[test]
fn what_was_granted_is_spent_within_its_time_and_its_window() {
    let spend_at = |window_ends: Option<u64>, millis: u64| {
        let mut quotas = Quotas::default();
        plan(&mut quotas, 50, 0);
        let ends = window_ends.map(Duration::from_millis);
        quotas.granted(KEY, &batch(50), 5, at(0), at(3), &answer(None, ends));
        plan(&mut quotas, 50, millis)
    };
    assert_eq!(spend_at(None, 99), Plan::Spend(None));
    assert!(matches!(spend_at(None, 100), Plan::Ask(_)));
    assert_eq!(spend_at(Some(30), 29), Plan::Spend(None));
    assert!(matches!(spend_at(Some(30), 30), Plan::Ask(_)));
}

#[test]
fn a_batch_that_is_refused_is_asked_again_for_the_cost_alone_and_then_remembered() {
    let mut quotas = Quotas::default();
    plan(&mut quotas, 50, 0);
    let reset = resets_in(Duration::from_secs(5));
    assert!(quotas.refused(KEY, 1, 9, at(0), reset));
    assert_eq!(quotas.refusal(KEY, 1, at(1)), None, "one hit may still be there");
    assert!(!quotas.refused(KEY, 1, 0, at(1), reset));
    assert_eq!(quotas.refusal(KEY, 1, at(2)), Some(Duration::from_millis(4_999)));
    assert_eq!(quotas.refusal(KEY, 1, at(5_001)), None);
    assert_eq!(quotas.refusal(KEY + 1, 1, at(2)), None);
}

#[test]
fn a_refusal_holds_for_what_costs_as_much_and_no_longer_than_its_bound() {
    let mut quotas = Quotas::default();
    quotas.refused(KEY, 5, 0, at(0), resets_in(Duration::from_secs(86_400)));
    assert_eq!(quotas.refusal(KEY, 4, at(1)), None);
    let told = quotas.refusal(KEY, 5, at(9_000)).map(|wait| wait.as_secs());
    assert_eq!(told, Some(86_391), "but the client is told all of it");
    assert_eq!(quotas.refusal(KEY, 5, at(10_000)), None);
    assert_eq!(quotas.refusal(KEY, 5, at(0).minus(Duration::from_secs(1))), None, "clock back");
}

#[test]
fn a_place_in_use_is_not_taken_and_an_idle_one_is() {
    let mut quotas = Quotas::default();
    let other = KEY + PLACES as u64;
    plan(&mut quotas, 50, 0);
    quotas.granted(KEY, &batch(50), 5, at(0), at(0), &answer(None, None));
    for _ in 0..9 {
        let asked = quotas.plan(other, &batch(50), 1, at(1), PATIENCE);
        assert_eq!(asked, Plan::Ask(1), "and is not batched");
    }
    assert_eq!(plan(&mut quotas, 50, 2), Plan::Spend(None));
    quotas.plan(other, &batch(50), 1, at(300), PATIENCE);
    assert_eq!(quotas.plan(other, &batch(50), 1, at(301), PATIENCE), Plan::Ask(2));
    assert_eq!(quotas.places.len(), PLACES);
}

#[test]
fn a_clock_that_steps_back_ends_what_was_granted() {
    let mut quotas = Quotas::default();
    plan(&mut quotas, 50, 5_000);
    quotas.granted(KEY, &batch(50), 5, at(5_000), at(5_000), &answer(None, None));
    assert!(matches!(plan(&mut quotas, 50, 0), Plan::Ask(_)));
}

/// A service with a fixed window, as the real ones have.
struct Window {
    limit: u32,
    millis: u64,
    counted: std::collections::BTreeMap<u64, u32>,
}

impl Window {
    fn ask(&mut self, hits: u32, millis: u64) -> (bool, FleetLimit, Duration) {
        let counted = self.counted.entry(millis / self.millis).or_default();
        let granted = *counted + hits <= self.limit;
        if granted {
            *counted += hits;
        }
        let ends = Duration::from_millis(self.millis - millis % self.millis);
        let remaining = Some(self.limit - *counted);
        let limit = FleetLimit { remaining, reset: Some(ends), ..FleetLimit::default() };
        (granted, limit, ends)
    }
}

proptest! {
    /// Several workers of a fleet, questions answered after a delay and some of them lost: what
    /// passes in a window of the service is at most its limit.
    #[test]
    fn a_fleet_passes_at_most_the_limit_in_each_window(
        steps in proptest::collection::vec((0usize..4, 0u64..12, 1u32..4, 0u64..30, any::<u8>()), 1..800),
        limit in 1u32..120,
        max in 1u32..60,
    ) {
        let mut workers: Vec<_> = (0..4).map(|_| Quotas::default()).collect();
        let mut service = Window { limit, millis: 250, counted: Default::default() };
        let mut passed = std::collections::BTreeMap::<u64, u32>::new();
        let mut pending: Vec<(u64, usize, u32, u32, u64)> = Vec::new();
        let mut millis = 0;
        let origin = |millis| UnixNanos::from_millis(1_000_000 + millis);
        for (who, step, cost, delay, fate) in steps {
            millis += step;
            pending.sort_unstable();
            let due = pending.partition_point(|(when, ..)| *when <= millis);
            for (when, who, cost, ahead, asked) in pending.drain(..due) {
                // Counted when the answer is sent.
                let (granted, limit, ends) = service.ask(cost + ahead, when);
                let (now, asked_at) = (origin(when), origin(asked));
                if granted {
                    let ends = Some(ends);
                    let told = answer(Some(limit), ends);
                    workers[who].granted(KEY, &batch(max), ahead, asked_at, now, &told);
                    *passed.entry(when / 250).or_default() += cost;
                } else if workers[who].refused(KEY, cost, ahead, now, resets_in(ends)) {
                    let (granted, ..) = service.ask(cost, when);
                    if granted {
                        *passed.entry(when / 250).or_default() += cost;
                    }
                }
            }
            let quotas = &mut workers[who];
            if quotas.refusal(KEY, cost, origin(millis)).is_some() {
                continue;
            }
            match quotas.plan(KEY, &batch(max), cost, origin(millis), Duration::from_millis(40)) {
                Plan::Spend(_) => *passed.entry(millis / 250).or_default() += cost,
                Plan::Ask(hits) if fate < 230 => {
                    pending.push((millis + delay, who, cost, hits - cost, millis));
                }
                Plan::Ask(hits) => quotas.ended(KEY, hits - cost),
            }
        }
        for (window, count) in passed {
            prop_assert!(count <= limit, "{count} in window {window}");
        }
    }
}
