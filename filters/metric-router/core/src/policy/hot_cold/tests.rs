use super::*;
use crate::Outcome;
use crate::testing::{Stage, candidate, endpoint, loaded};
use core::time::Duration;
use proptest::prelude::*;

fn pool(stage: &Stage) -> Pool {
    let mut pool = Pool::default();
    pool.update(&stage.scene(0));
    pool
}

/// Endpoints that report so many requests in flight, and serve at such a rate.
fn stage(endpoints: &'static [(f64, f64)]) -> Stage {
    Stage::of(endpoints.len(), |row| Candidate {
        rate: endpoints[row].1,
        ..loaded(row, endpoints[row].0)
    })
    .with(r#","hot_cold":{"pool_size":100,"max_reuse":16}"#)
}

#[test]
fn the_fastest_of_the_cold_is_taken_and_not_the_fastest_of_all() {
    let stage = stage(&[(9.0, 9.0), (2.0, 1.0), (3.0, 2.0), (2.0, 0.5), (3.0, 1.0)]);
    let mut pool = known(&stage, 5.0);
    let choice = pool.choose(&stage.scene(1));
    assert_eq!((choice.list[0].place, choice.why), (2, Why::Cold));
}

/// All reports in the pool, and the hot ones those above `threshold`.
fn known(stage: &Stage, threshold: f64) -> Pool {
    let entry = |it: &Candidate| Entry { endpoint: it.endpoint, load: it.load.unwrap(), uses: 0 };
    let entries = stage.candidates.iter().map(entry).collect();
    let picture = Picture { threshold, usual: f64::MAX, ..Picture::default() };
    Pool { entries, picture, ..Pool::default() }
}

#[test]
fn where_all_are_hot_the_least_loaded_is_taken() {
    let stage = stage(&[(9.0, 9.0), (7.0, 0.1), (8.0, 1.0), (9.0, 1.0)]);
    let mut pool = known(&stage, 5.0);
    let choice = pool.choose(&stage.scene(1));
    assert_eq!((choice.list[0].place, choice.why), (1, Why::LeastHot));
}

#[test]
fn each_use_adds_a_request_and_after_a_few_the_report_is_used_up() {
    let stage = Stage::of(8, |row| loaded(row, 1.0));
    let mut pool = pool(&stage);
    // Nobody is hot or slow for it.
    pool.picture = known(&stage, f64::MAX).picture;
    let picks: Vec<_> = (0..9).map(|draw| pool.choose(&stage.scene(draw))).collect();
    assert!(picks.iter().take(7).all(|choice| choice.policy == Policy::HotCold), "{picks:?}");
    assert_eq!(picks[8].why, Why::NoReports, "four reports, two uses each");
    let mut counts = [0; 8];
    picks.iter().take(7).for_each(|choice| counts[choice.list[0].place] += 1);
    assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
    // The same reports again are not new ones.
    pool.update(&stage.scene(0));
    assert_eq!(pool.choose(&stage.scene(20)).why, Why::NoReports);
}

#[test]
fn a_report_that_comes_with_a_response_is_used_at_once_and_replaces_the_older_one() {
    let mut stage = Stage::of(4, |row| loaded(row, 5.0));
    let mut pool = pool(&stage);
    stage.pass(Duration::from_millis(10));
    let newer = |row: usize, in_flight| {
        let load = Load { in_flight, ..stage.candidates[row].load.unwrap() };
        Load { reported_at: load.reported_at.plus(Duration::from_millis(10)), ..load }
    };
    for (row, in_flight) in [(2, 9.0), (3, 0.0), (2, 8.0)] {
        pool.feed(&stage.scene(0), endpoint(row), newer(row, in_flight));
    }
    let known: Vec<_> = pool.entries.iter().map(|it| it.endpoint).collect();
    assert_eq!(known.len(), 2, "half of the endpoints");
    assert!(known.contains(&endpoint(2)) && known.contains(&endpoint(3)));
    let choice = pool.choose(&stage.scene(0));
    assert_eq!((choice.list[0].place, choice.why), (3, Why::Cold));
    // What the snapshot knows is older, and does not come back.
    pool.update(&stage.scene(0));
    assert_eq!(pool.entries.iter().map(|it| it.endpoint).collect::<Vec<_>>(), known);
}

#[test]
fn of_reports_of_one_moment_not_the_same_ones_are_taken_every_time() {
    let stage = Stage::of(40, |row| loaded(row, 1.0));
    let endpoints = stage.endpoints();
    let mut counts = [0; 40];
    for draw in 0..400 {
        let mut pool = Pool::default();
        pool.update(&stage.scene(draw));
        assert_eq!(pool.entries.len(), 16);
        for entry in pool.entries {
            counts[endpoints.iter().position(|it| *it == entry.endpoint).unwrap()] += 1;
        }
    }
    assert!(counts.iter().all(|count| (100..300).contains(count)), "{counts:?}");
}

#[test]
fn one_pick_in_a_hundred_looks_beyond_a_pool_that_is_good() {
    let stage = Stage::of(40, |row| loaded(row, 40.0)).with(r#","hot_cold":{"max_reuse":16}"#);
    let sampled = |draw: &u32| {
        let choice = pool(&stage).choose(&stage.scene(draw.wrapping_mul(0x61c8_8647)));
        choice.why == Why::Sampled
    };
    let sampled = (0..10_000).filter(sampled).count();
    assert!((60..140).contains(&sampled), "{sampled}");
}

#[test]
fn those_not_heard_of_get_a_quarter_of_an_equal_share() {
    let stage = Stage::of(40, |row| match row {
        0..10 => loaded(row, 40.0),
        row => candidate(row),
    })
    .with(r#","hot_cold":{"max_reuse":16}"#);
    let mut pool = pool(&stage);
    let mut counts = vec![0; 40];
    for draw in 0..4000u32 {
        pool.entries.iter_mut().for_each(|entry| entry.uses = 0);
        let scene = stage.scene(draw.wrapping_mul(0x61c8_8647));
        counts[pool.choose(&scene).list[0].place] += 1;
    }
    let unheard: usize = counts[10..].iter().sum();
    // 30 of 40, and a quarter of it; and what is drawn of all.
    assert!((750..=800).contains(&unheard), "{unheard}");
    assert!(counts[10..].iter().all(|count| *count < 100), "{counts:?}");
}

#[test]
fn one_that_fails_is_not_asked_for_a_report() {
    let mut stage = Stage::of(4, |row| match row {
        0 | 1 => loaded(row, 40.0),
        2 => Candidate { penalty: 4.0, rate: 0.25, ..candidate(row) },
        row => candidate(row),
    })
    .with(r#","hot_cold":{"max_reuse":16}"#);
    let mut pool = pool(&stage);
    assert_eq!(pool.picture.unheard, 0.25);
    stage.fail(3, Outcome::Failure);
    let scene = stage.scene(1);
    pool.due = 1.0;
    assert!(pool.choose(&scene).list[0].place < 2, "the other one has just failed");
}

#[test]
fn where_the_best_of_the_pool_is_hot_or_slow_a_better_one_from_outside_is_taken() {
    let stage = Stage::of(8, |row| loaded(row, if row < 4 { 40.0 } else { 2.0 }))
        .with(r#","hot_cold":{"rif_quantile":0.5,"max_reuse":16}"#);
    let mut pool = known(&stage, 5.0);
    pool.entries.truncate(2);
    pool.picture = Picture::of(&stage.scene(0));
    assert_eq!((pool.picture.threshold, pool.picture.usual), (2.0, 3.0));
    for draw in 0..32 {
        pool.entries.iter_mut().for_each(|entry| entry.uses = 0);
        let choice = pool.choose(&stage.scene(draw));
        // Two are drawn of two that are as hot and four that are not.
        let place = choice.list[0].place;
        assert_eq!(choice.why == Why::Sampled, place >= 4, "{choice:?}");
        assert_eq!(choice.why == Why::LeastHot, place < 4, "{choice:?}");
    }
    // By latency, where nobody is hot.
    pool.picture.threshold = 100.0;
    assert_eq!(pool.picture.usual, 3.0);
    let beyond = (0..32).filter(|draw| {
        pool.entries.iter_mut().for_each(|entry| entry.uses = 0);
        pool.choose(&stage.scene(*draw)).list[0].place >= 4
    });
    assert!(beyond.count() > 16);
}

#[test]
fn a_latency_that_all_report_is_what_counts_and_weight_and_failures_with_it() {
    // In flight, latency, weight and penalty; the rate says something else.
    let all = [(1.0, 30.0, 1.0, 1.0), (4.0, 40.0, 2.0, 1.0), (2.0, 18.0, 1.0, 1.4)];
    let stage = |reports: usize| {
        Stage::of(3, move |row| {
            let (in_flight, latency, weight, penalty) = all[row];
            let latency = (row < reports).then_some(latency);
            let load = loaded(row, in_flight).load.map(|load| Load { latency, ..load });
            let rate = weight / penalty;
            Candidate { load, weight, penalty, rate, ..candidate(row) }
        })
        .with(r#","hot_cold":{"pool_size":100,"max_reuse":16}"#)
    };
    let scores = |stage: &Stage| {
        let mut pool = known(stage, 5.0);
        pool.picture = Picture { unheard: 0.0, ..Picture::of(&stage.scene(1)) };
        pool.picture.threshold = 5.0;
        pool.choose(&stage.scene(1)).list.iter().map(|it| (it.place, it.score)).collect()
    };
    let by_latency: Vec<_> = scores(&stage(3));
    assert_eq!(by_latency, [(1, 20.0), (2, 18.0 * 1.4), (0, 30.0)]);
    // One that does not tell is no match for the others: what is known of all counts.
    let by_load: Vec<_> = scores(&stage(2));
    assert_eq!(by_load.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn an_old_report_says_nothing() {
    let mut stage = Stage::of(8, |row| loaded(row, 1.0));
    let mut pool = pool(&stage);
    stage.pass(Duration::from_millis(1001));
    assert_eq!(pool.choose(&stage.scene(0)).why, Why::NoReports);
}

#[test]
fn an_endpoint_that_fails_is_not_taken_however_idle_it_says_it_is() {
    let stage = Stage::of(8, |row| match row {
        3 => Candidate { penalty: 4.0, rate: 0.25, ..loaded(3, 0.0) },
        row => loaded(row, 5.0),
    });
    let mut pool = pool(&stage);
    for draw in 0..6 {
        assert_ne!(pool.choose(&stage.scene(draw)).list[0].place, 3);
    }
}

#[test]
fn an_endpoint_that_has_just_failed_is_not_taken_before_the_snapshot_knows_of_it() {
    let mut stage = Stage::of(8, |row| loaded(row, if row == 3 { 0.0 } else { 5.0 }))
        .with(r#","hot_cold":{"pool_size":100,"max_reuse":16}"#);
    let mut pool = known(&stage, 5.0);
    assert_eq!(pool.choose(&stage.scene(0)).list[0].place, 3);
    stage.fail(3, Outcome::Failure);
    for draw in 0..6 {
        assert_ne!(pool.choose(&stage.scene(draw)).list[0].place, 3);
    }
}

#[test]
fn without_reports_the_better_of_two_is_taken() {
    let mut stage = Stage::of(2, candidate);
    stage.fly(0, 1);
    let choice = pool(&stage).choose(&stage.scene(0));
    assert_eq!((choice.policy, choice.why), (Policy::HotCold, Why::NoReports));
    assert_eq!(choice.list[0].place, 1);
}

/// One request after the other, every ten milliseconds; each answer reports how loaded its endpoint
/// is. The snapshot knows of it with the next tick.
struct OneByOne {
    stage: Stage,
    pool: Pool,
    loads: Vec<f64>,
    sent: u32,
}

impl OneByOne {
    /// The first two have been heard of, and are all of the pool; of the others this is known.
    fn new(loads: Vec<f64>, of_others: impl Fn(usize) -> Candidate) -> Self {
        let stage = Stage::of(loads.len(), |row| match row {
            0 | 1 => loaded(row, loads[row]),
            row => of_others(row),
        });
        let scene = stage.scene(0);
        let entry =
            |it: &Candidate| Entry { endpoint: it.endpoint, load: it.load.unwrap(), uses: 0 };
        let entries = stage.candidates[..2].iter().map(entry).collect();
        let (fed_at, picture) = (scene.now, Picture::of(&scene));
        let pool = Pool { entries, fed_at, picture, ..Pool::default() };
        Self { stage, pool, loads, sent: 0 }
    }

    fn send(&mut self, seed: u32) -> usize {
        self.sent += 1;
        self.stage.pass(Duration::from_millis(10));
        let draw = lot(seed, self.sent as usize);
        let place = self.pool.choose(&self.stage.scene(draw)).list[0].place;
        let load = Load {
            reported_at: self.stage.scene(0).now,
            ..loaded(place, self.loads[place]).load.unwrap()
        };
        self.pool.feed(&self.stage.scene(0), endpoint(place), load);
        self.stage.candidates[place].load = Some(load);
        if self.sent.is_multiple_of(10) {
            self.pool.update(&self.stage.scene(draw));
        }
        place
    }
}

proptest! {
    /// Whatever is drawn: at least half of the endpoints that are not heard of are idle, and in
    /// eight picks one of them is asked.
    #[test]
    fn no_endpoints_keep_each_other_in_the_pool(
        hot in 2usize..12, idle in 0usize..20, seed in any::<u32>(),
    ) {
        let endpoints = 2 * hot + idle;
        let loads = (0..endpoints).map(|row| if row < hot { 40.0 } else { 2.0 }).collect();
        let mut requests = OneByOne::new(loads, candidate);
        let most = 8 * (hot - 1);
        let found = (0..most).find(|_| requests.send(seed) >= hot);
        prop_assert!(found.is_some(), "{hot} of {endpoints}: none in {most} picks");
        let strays = (0..400).filter(|_| requests.send(seed) < hot).count();
        // Each of them is heard of again, and two may be drawn together.
        prop_assert!(strays <= hot + 24, "{hot} of {endpoints}: {strays} of 400");
    }

    /// All have just said that they are as loaded as the two in the pool, and most no longer are.
    #[test]
    fn what_was_once_reported_keeps_nobody_away_for_longer_than_it_is_believed(
        hot in 2usize..8, idle in 0usize..9, seed in any::<u32>(),
    ) {
        let endpoints = 2 * hot + idle;
        let loads = (0..endpoints).map(|row| if row < hot { 40.0 } else { 2.0 }).collect();
        let mut requests = OneByOne::new(loads, |row| loaded(row, 40.0));
        // Five seconds, a tick to know that they are over and one to forget, and eight picks for each
        // that is hot, too.
        let most = 500 + 2 * 10 + 8 * (hot - 1);
        let found = (0..most).find(|_| requests.send(seed) >= hot);
        prop_assert!(found.is_some(), "{hot} of {endpoints}: none in {most} picks");
    }

    #[test]
    fn no_report_breaks_a_pick(
        reports in proptest::collection::vec(
            (proptest::option::of(0.0f64..1e9), proptest::option::of(0.0f64..1e9)), 0..40),
        draws in proptest::collection::vec(any::<u32>(), 1..50),
    ) {
        let stage = Stage::of(reports.len(), |row| match reports[row] {
            (Some(in_flight), latency) => {
                let load = loaded(row, in_flight).load.map(|load| Load { latency, ..load });
                Candidate { load, ..candidate(row) }
            }
            (None, _) => candidate(row),
        });
        let mut pool = pool(&stage);
        for draw in draws {
            let list = pool.choose(&stage.scene(draw)).list;
            prop_assert_eq!(list.is_empty(), reports.is_empty());
            prop_assert!(list.iter().all(|ranked| ranked.place < reports.len()));
        }
    }
}
