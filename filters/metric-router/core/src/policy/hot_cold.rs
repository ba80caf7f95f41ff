//! Prequal's rule over reports that come with responses: hot endpoints are avoided, and among the
//! cold ones the fastest is taken (Wydrowski et al., "Load is not what you should balance", 2024).
//!
//! How fast an endpoint is under its present load it may report itself (`latency_metric`; all must).
//! Else it is `(reported requests in flight + 1) / rate`: a latency that was measured here is that
//! of a few requests some seconds ago, under another load.
//!
//! For a proxy that sees a small part of each endpoint's traffic, its own requests in flight say
//! nothing. What the endpoint says of itself does: how many requests it has in flight from everyone.
//! An endpoint is *hot* if it reports more than most others do (`rif_quantile`), else *cold*. Of the
//! latest reports a pool is kept; a pick takes the cold one with the least latency, or the one with
//! the fewest requests if all are hot.
//!
//! Four things keep many proxies from rushing to the same endpoint. A report ages
//! (`max_report_age`), is used a few times only (`max_reuse`), each use adds one request to it, and
//! the pool holds the latest reports and at most half of the endpoints: other proxies have heard
//! from others. Nothing is probed: a report comes with every response, and where too few are fresh
//! two endpoints are drawn and compared by what is known of them.
//!
//! An endpoint that fails its requests is not in the pool, whatever it reports.

use super::{Choice, Ranked, Scene};
use crate::ewma::believable;
use crate::membership::falls_within;
use crate::rank::{cheapest, lot};
use crate::{Candidate, HotCold, Load, Policy, Why};
use core::cmp::{Ordering, Reverse};
use shared_state::{Endpoint, UnixNanos};

/// Penalty from which an endpoint is not taken from the pool.
const MOST_PENALTY: f64 = 2.0;

/// Ages of `max_report_age` up to which a report counts for what is hot.
const PICTURE_AGES: u32 = 5;

/// Share of the picks that leave the pool alone. Reports come from where requests are sent: a few
/// endpoints that are equally loaded would keep each other in the pool, however idle the rest is.
const SAMPLED: f64 = 0.01;

/// Makes a draw of its own of the one that a request has.
const SAMPLING: usize = 0x0008_0000;

#[derive(Debug, Default)]
pub(super) struct Pool {
    /// The latest first, one an endpoint.
    entries: Vec<Entry>,
    /// Reports up to here have had their turn.
    passed: UnixNanos,
    /// When a report last came with a response.
    fed_at: UnixNanos,
    /// Above so many requests in flight an endpoint is hot.
    threshold: f64,
    /// All endpoints that report tell their latency.
    is_reported: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    endpoint: Endpoint,
    load: Load,
    uses: usize,
}

impl Pool {
    /// Takes up the reports that the snapshot knows of. Where they come with responses, those are
    /// newer, and what is known of them here must not come twice.
    pub(super) fn update(&mut self, scene: &Scene<'_>) {
        let rules = &scene.config.hot_cold;
        let now = scene.now;
        let is_fed = self.fed_at <= now && now.since(self.fed_at) < rules.max_report_age;
        let mut loads: Vec<f64> = Vec::new();
        // One that polls all endpoints hears of them in one moment, more than the pool holds: those
        // that come first must not be the same ones every time.
        let (before, from) = scene.candidates.split_at(begin(scene));
        for candidate in from.iter().chain(before) {
            let Some(load) = candidate.load else { continue };
            if now.since(load.reported_at) <= rules.max_report_age * PICTURE_AGES {
                loads.push(load.in_flight);
            }
            if !is_fed {
                self.take(scene, candidate.endpoint, load);
            }
        }
        self.threshold = quantile(loads, rules.rif_quantile);
        let mut reports = scene.candidates.iter().filter_map(|candidate| candidate.load);
        self.is_reported = reports.all(|load| load.latency.is_some());
    }

    /// A report that came with a response.
    pub(super) fn feed(&mut self, scene: &Scene<'_>, endpoint: Endpoint, load: Load) {
        self.fed_at = scene.now;
        self.take(scene, endpoint, load);
    }

    fn take(&mut self, scene: &Scene<'_>, endpoint: Endpoint, load: Load) {
        let rules = &scene.config.hot_cold;
        let passed = believable(self.passed, scene.now);
        if scene.now.since(load.reported_at) > rules.max_report_age || load.reported_at <= passed {
            return;
        }
        let known = self.entries.iter().position(|entry| entry.endpoint == endpoint);
        match known.and_then(|at| self.entries.get(at)) {
            Some(entry) if entry.load.reported_at >= load.reported_at => return,
            Some(_) => known.map(|at| self.entries.remove(at)),
            None => None,
        };
        let latest = Reverse(load.reported_at);
        let at = self.entries.partition_point(|entry| Reverse(entry.load.reported_at) < latest);
        self.entries.insert(at, Entry { endpoint, load, uses: 0 });
        let half = scene.candidates.len() / 2;
        let most = rules.pool_size.min(half.max(rules.min_pool));
        if let Some(last) = self.entries.get(most) {
            self.passed = last.load.reported_at;
        }
        self.entries.truncate(most);
    }

    pub(super) fn choose(&mut self, scene: &Scene<'_>) -> Choice {
        let rules = &scene.config.hot_cold;
        let mut found: Vec<Contender> = Vec::with_capacity(self.entries.len());
        for (number, entry) in self.entries.iter().enumerate() {
            if entry.uses >= rules.max_reuse || !is_fresh(&entry.load, rules, scene.now) {
                continue;
            }
            let Some((place, candidate)) = scene.candidate(entry.endpoint) else { continue };
            let lot = lot(scene.draw, place);
            let is_admitted = falls_within(lot.rotate_left(16), candidate.admission);
            // What it reports is idle, and what the snapshot knows is a tick old.
            let fails = candidate.penalty >= MOST_PENALTY || scene.has_just_failed(candidate);
            if !is_admitted || fails {
                continue;
            }
            // Each use sends one request there.
            let in_flight = entry.load.in_flight + entry.uses as f64;
            let is_hot = in_flight > self.threshold;
            let latency = match self.is_reported {
                true => entry.load.latency.unwrap_or(0.0) * candidate.penalty / candidate.weight,
                false => (in_flight + 1.0) / candidate.rate,
            };
            let score = if is_hot { in_flight / candidate.weight } else { latency };
            found.push(Contender { number, place, is_hot, score, lot });
        }
        if found.len() < rules.min_pool {
            return sampled(scene, self.threshold, Why::NoReports);
        }
        if falls_within(lot(scene.draw, SAMPLING), SAMPLED) {
            return sampled(scene, self.threshold, Why::Sampled);
        }
        found.sort_unstable_by(Contender::order);
        let considered = found.len();
        let first = found.first();
        let why = if first.is_some_and(|it| it.is_hot) { Why::LeastHot } else { Why::Cold };
        if let Some(entry) = first.and_then(|it| self.entries.get_mut(it.number)) {
            entry.uses += 1;
        }
        let mut list: Vec<Ranked> =
            found.iter().map(|it| Ranked { place: it.place, score: it.score }).collect();
        list.truncate(scene.most);
        Choice { policy: Policy::HotCold, why, considered, list }
    }
}

/// Two at random are compared by what is known of them, fresh or not: old reports make many proxies
/// choose alike, and chance keeps them apart. It also brings reports of those not heard of.
fn sampled(scene: &Scene<'_>, threshold: f64, why: Why) -> Choice {
    let score = |candidate: &Candidate| {
        let reported = candidate.load.map_or(0.0, |load| load.in_flight);
        // One that fails is not believed to be idle.
        let least = if candidate.penalty >= MOST_PENALTY { threshold } else { 0.0 };
        let reported = reported.max(least);
        (scene.waiting(candidate) + reported + 1.0) / candidate.rate
    };
    let (list, considered) = cheapest(scene, 2, &score);
    Choice { policy: Policy::HotCold, why, considered, list }
}

#[derive(Clone, Copy)]
struct Contender {
    number: usize,
    place: usize,
    is_hot: bool,
    score: f64,
    lot: u32,
}

impl Contender {
    fn order(&self, other: &Self) -> Ordering {
        let by_score = || self.score.total_cmp(&other.score).then(self.lot.cmp(&other.lot));
        self.is_hot.cmp(&other.is_hot).then_with(by_score)
    }
}

fn is_fresh(load: &Load, rules: &HotCold, now: UnixNanos) -> bool {
    load.reported_at <= now && now.since(load.reported_at) <= rules.max_report_age
}

/// A place to begin at, another with each draw.
fn begin(scene: &Scene<'_>) -> usize {
    lot(scene.draw, 0) as usize % scene.candidates.len().max(1)
}

/// The value that the share `rank` of them does not exceed; 0 of none.
fn quantile(mut values: Vec<f64>, rank: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * rank).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
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
        let mut pool = Pool { threshold: 5.0, entries: entries(&stage), ..Pool::default() };
        let choice = pool.choose(&stage.scene(1));
        assert_eq!((choice.list[0].place, choice.why), (2, Why::Cold));
    }

    fn entries(stage: &Stage) -> Vec<Entry> {
        let entry =
            |it: &Candidate| Entry { endpoint: it.endpoint, load: it.load.unwrap(), uses: 0 };
        stage.candidates.iter().map(entry).collect()
    }

    #[test]
    fn where_all_are_hot_the_least_loaded_is_taken() {
        let stage = stage(&[(9.0, 9.0), (7.0, 0.1), (8.0, 1.0), (9.0, 1.0)]);
        let mut pool = Pool { threshold: 5.0, entries: entries(&stage), ..Pool::default() };
        let choice = pool.choose(&stage.scene(1));
        assert_eq!((choice.list[0].place, choice.why), (1, Why::LeastHot));
    }

    #[test]
    fn each_use_adds_a_request_and_after_a_few_the_report_is_used_up() {
        let stage = Stage::of(8, |row| loaded(row, 1.0));
        let mut pool = pool(&stage);
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
    fn those_that_keep_each_other_in_the_pool_are_left_for_one_pick_in_a_hundred() {
        let stage = Stage::of(40, |row| match row {
            0 | 1 => loaded(row, 40.0),
            row => candidate(row),
        })
        .with(r#","hot_cold":{"max_reuse":16}"#);
        let mut elsewhere = 0;
        for draw in 0..10_000u32 {
            let mut pool = pool(&stage);
            let choice = pool.choose(&stage.scene(draw.wrapping_mul(0x61c8_8647)));
            elsewhere += usize::from(choice.list[0].place > 1);
            assert_eq!(choice.why == Why::Sampled, choice.list[0].place > 1);
        }
        assert!((60..140).contains(&elsewhere), "{elsewhere}");
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
        let mut pool = Pool { threshold: 5.0, entries: entries(&stage), ..Pool::default() };
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

    proptest! {
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
}
