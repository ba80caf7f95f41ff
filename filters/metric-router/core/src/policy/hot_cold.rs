//! Prequal's rule over reports that come with responses: hot endpoints are avoided, and among the
//! cold ones the fastest is taken (Wydrowski et al., "Load is not what you should balance", 2024).
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
//! from others. Latencies count in steps, and ties are drawn. Nothing is probed: a report comes with
//! every response, and where too few are fresh the pick is one of least cost.
//!
//! An endpoint that fails its requests is not in the pool, whatever it reports.

use super::{Choice, Ranked, Scene, least_cost};
use crate::membership::falls_within;
use crate::rank::lot;
use crate::snapshot::stepped;
use crate::{Candidate, HotCold, Load, Policy, Why};
use core::cmp::Ordering;
use shared_state::{Endpoint, UnixNanos};

/// Penalty from which an endpoint is not in the pool.
const MOST_PENALTY: f64 = 2.0;

#[derive(Debug, Default)]
pub(super) struct Pool {
    entries: Vec<Entry>,
    /// Above so many requests in flight an endpoint is hot.
    threshold: f64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    endpoint: Endpoint,
    reported_at: UnixNanos,
    /// As reported, and one more for each use.
    in_flight: f64,
    /// In steps; without a unit.
    latency: f64,
    uses: usize,
}

impl Pool {
    pub(super) fn update(&mut self, scene: &Scene<'_>) {
        let rules = &scene.config.hot_cold;
        let before = core::mem::take(&mut self.entries);
        let mut loads: Vec<f64> = Vec::new();
        let latency = Latencies::of(scene.candidates);
        for candidate in scene.candidates {
            let Some(load) = candidate.load.filter(|load| is_fresh(load, rules, scene.now)) else {
                continue;
            };
            loads.push(load.in_flight);
            if candidate.penalty >= MOST_PENALTY {
                continue;
            }
            let used = before.iter().find(|entry| {
                entry.endpoint == candidate.endpoint && entry.reported_at == load.reported_at
            });
            self.entries.push(Entry {
                endpoint: candidate.endpoint,
                reported_at: load.reported_at,
                in_flight: used.map_or(load.in_flight, |entry| entry.in_flight),
                latency: latency.of_candidate(candidate) * candidate.penalty,
                uses: used.map_or(0, |entry| entry.uses),
            });
        }
        self.entries.sort_by_key(|entry| core::cmp::Reverse(entry.reported_at));
        let half = scene.candidates.len() / 2;
        self.entries.truncate(rules.pool_size.min(half.max(rules.min_pool)));
        self.threshold = quantile(loads, rules.rif_quantile);
    }

    pub(super) fn choose(&mut self, scene: &Scene<'_>) -> Choice {
        let rules = &scene.config.hot_cold;
        let mut found: Vec<Contender> = Vec::with_capacity(self.entries.len());
        for (number, entry) in self.entries.iter().enumerate() {
            let age = scene.now.since(entry.reported_at);
            if entry.uses >= rules.max_reuse || age > rules.max_report_age {
                continue;
            }
            let Some((place, candidate)) = scene.candidate(entry.endpoint) else { continue };
            let lot = lot(scene.draw, place);
            if !falls_within(lot.rotate_left(16), candidate.admission) {
                continue;
            }
            let is_hot = entry.in_flight > self.threshold;
            let score = if is_hot { entry.in_flight } else { entry.latency };
            found.push(Contender { number, place, is_hot, score, lot });
        }
        if found.len() < rules.min_pool {
            return Choice { why: Why::NoReports, ..least_cost::choose(scene) };
        }
        found.sort_unstable_by(Contender::order);
        let considered = found.len();
        let first = found.first();
        let why = if first.is_some_and(|it| it.is_hot) { Why::LeastHot } else { Why::Cold };
        if let Some(entry) = first.and_then(|it| self.entries.get_mut(it.number)) {
            entry.uses += 1;
            entry.in_flight += 1.0;
        }
        let mut list: Vec<Ranked> =
            found.iter().map(|it| Ranked { place: it.place, score: it.score }).collect();
        list.truncate(scene.most);
        Choice { policy: Policy::HotCold, why, considered, list }
    }
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

/// Where latencies come from: what the endpoints say, if all do, else what was measured.
struct Latencies {
    is_reported: bool,
    median: f64,
}

impl Latencies {
    fn of(candidates: &[Candidate]) -> Self {
        let reported = || candidates.iter().filter_map(|it| it.load).map(|load| load.latency);
        let is_reported = reported().all(|latency| latency.is_some());
        let known = candidates.iter().filter_map(|it| raw(it, is_reported));
        Self { is_reported, median: quantile(known.collect(), 0.5) }
    }

    fn of_candidate(&self, candidate: &Candidate) -> f64 {
        match raw(candidate, self.is_reported) {
            Some(latency) if latency > 0.0 && self.median > 0.0 => stepped(latency / self.median),
            _ => 1.0,
        }
    }
}

fn raw(candidate: &Candidate, is_reported: bool) -> Option<f64> {
    if is_reported { candidate.load?.latency } else { candidate.latency }
}

fn is_fresh(load: &Load, rules: &HotCold, now: UnixNanos) -> bool {
    load.reported_at <= now && now.since(load.reported_at) <= rules.max_report_age
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
    use crate::testing::{Stage, candidate, loaded};
    use core::time::Duration;
    use proptest::prelude::*;

    fn pool(stage: &Stage) -> Pool {
        let mut pool = Pool::default();
        pool.update(&stage.scene(0));
        pool
    }

    /// Endpoints that report so many requests in flight, and answer in so many milliseconds.
    fn stage(endpoints: &'static [(f64, f64)]) -> Stage {
        Stage::of(endpoints.len(), |row| Candidate {
            latency: Some(endpoints[row].1 / 1e3),
            ..loaded(row, endpoints[row].0)
        })
        .with(r#","hot_cold":{"pool_size":100,"max_reuse":16}"#)
    }

    #[test]
    fn the_fastest_of_the_cold_is_taken_and_not_the_fastest_of_all() {
        let stage = stage(&[(9.0, 1.0), (2.0, 20.0), (3.0, 10.0), (2.0, 40.0), (3.0, 40.0), (3.0, 80.0)]);
        let mut pool = Pool::default();
        // Half of the endpoints: the newest three reports are as good as any.
        pool.update(&stage.scene(0));
        pool.entries = entries(&stage);
        let choice = pool.choose(&stage.scene(1));
        assert_eq!((choice.list[0].place, choice.why), (2, Why::Cold));
    }

    fn entries(stage: &Stage) -> Vec<Entry> {
        let entry = |it: &Candidate| Entry {
            endpoint: it.endpoint,
            reported_at: it.load.unwrap().reported_at,
            in_flight: it.load.unwrap().in_flight,
            latency: it.latency.unwrap(),
            uses: 0,
        };
        stage.candidates.iter().map(entry).collect()
    }

    #[test]
    fn where_all_are_hot_the_least_loaded_is_taken() {
        let stage = stage(&[(9.0, 1.0), (7.0, 20.0), (8.0, 10.0), (9.0, 1.0)]);
        let mut pool = Pool { threshold: 5.0, entries: entries(&stage) };
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
    fn an_old_report_says_nothing() {
        let mut stage = Stage::of(8, |row| loaded(row, 1.0));
        let mut pool = pool(&stage);
        stage.pass(Duration::from_millis(1001));
        assert_eq!(pool.choose(&stage.scene(0)).why, Why::NoReports);
    }

    #[test]
    fn an_endpoint_that_fails_is_not_taken_however_idle_it_says_it_is() {
        let stage = Stage::of(8, |row| match row {
            3 => Candidate { penalty: 4.0, ..loaded(3, 0.0) },
            row => loaded(row, 5.0),
        });
        let mut pool = pool(&stage);
        for draw in 0..6 {
            assert!(pool.choose(&stage.scene(draw)).list.iter().all(|it| it.place != 3));
        }
    }

    #[test]
    fn without_reports_the_cheapest_is_taken() {
        let mut stage = Stage::of(2, candidate);
        stage.fly(0, 1);
        let choice = pool(&stage).choose(&stage.scene(0));
        assert_eq!((choice.policy, choice.why), (Policy::LeastCost, Why::NoReports));
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
                (Some(load), latency) => Candidate { latency, ..loaded(row, load) },
                (None, latency) => Candidate { latency, ..candidate(row) },
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
