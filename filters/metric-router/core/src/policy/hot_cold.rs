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
//! Reports come from where requests go, so those in the pool could keep each other there, however
//! idle the rest is. Therefore what is hot, and what is usual, is judged by all reports that are
//! known and not too old, the pool's and the others'. If the best of the pool is hot, or slower than
//! the endpoint in the middle, two from outside are compared with it. And those that have not been
//! heard of for longer get a quarter of what would be theirs if all got the same: few enough to do
//! no harm, and enough that nobody waits for them for long.
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
use sorting::sort_by;

/// Penalty from which an endpoint is not taken from the pool.
const MOST_PENALTY: f64 = 2.0;

/// Ages of `max_report_age` up to which a report counts for what is hot and what is usual.
const PICTURE_AGES: u32 = 5;

/// Share of the picks that leave the pool alone. Among many endpoints a report from outside it is
/// old when it is looked at, and the pool may be worse than it need be without being bad.
const SAMPLED: f64 = 0.01;

/// What an endpoint that has not been heard of gets, of what it would get if all got the same.
const UNHEARD: f64 = 0.25;

/// How many from outside the pool are compared with the best of it, if that is not good.
const OUTSIDERS: usize = 2;

/// Makes a draw of its own of the one that a request has.
const SAMPLING: usize = 0x0008_0000;

/// As [`SAMPLING`], for the places that are drawn first.
const DRAWING: usize = 0x0009_0000;

/// Places that are drawn before all are looked at in turn.
const DRAWS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Pool {
    /// The latest first, one an endpoint.
    entries: Vec<Entry>,
    /// Reports up to here have had their turn.
    passed: UnixNanos,
    /// When a report last came with a response.
    fed_at: UnixNanos,
    picture: Picture,
    /// The part of a pick that is due to those not heard of; at one it is theirs.
    due: f64,
}

/// What all reports say that are known and not too old, whether or not the pool holds them.
#[derive(Debug, Default)]
struct Picture {
    /// Above so many requests in flight an endpoint is hot.
    threshold: f64,
    /// Latency of the endpoint in the middle.
    usual: f64,
    /// Share of the candidates that serve well, and have not been heard of.
    unheard: f64,
    /// All endpoints that report tell their latency.
    is_reported: bool,
}

impl Picture {
    fn of(scene: &Scene<'_>) -> Self {
        let reports = || scene.candidates.iter().filter_map(|candidate| candidate.load);
        let is_reported = reports().count() > 0 && reports().all(|load| load.latency.is_some());
        let mut picture = Self { is_reported, ..Self::default() };
        let (mut loads, mut latencies, mut unheard) = (Vec::new(), Vec::new(), 0);
        for candidate in scene.candidates {
            match heard(scene, candidate) {
                Some(load) => {
                    loads.push(load.in_flight);
                    latencies.push(picture.latency(candidate, &load, load.in_flight));
                }
                None => unheard += usize::from(candidate.penalty < MOST_PENALTY),
            }
        }
        picture.threshold = quantile(loads, scene.config.hot_cold.rif_quantile);
        picture.usual = quantile(latencies, 0.5);
        picture.unheard = unheard as f64 / scene.candidates.len().max(1) as f64;
        picture
    }

    fn latency(&self, candidate: &Candidate, load: &Load, in_flight: f64) -> f64 {
        match self.is_reported {
            true => load.latency.unwrap_or(0.0) * candidate.penalty / candidate.weight,
            false => (in_flight + 1.0) / candidate.rate,
        }
    }

    /// Whether it is hot, and what it is ordered by among those that are, or among those that are not.
    /// Each of `uses` has sent one request there.
    fn judge(&self, candidate: &Candidate, load: &Load, uses: usize) -> (bool, f64) {
        let in_flight = load.in_flight + uses as f64;
        let is_hot = in_flight > self.threshold;
        let latency = || self.latency(candidate, load, in_flight);
        (is_hot, if is_hot { in_flight / candidate.weight } else { latency() })
    }
}

/// What it has reported, unless that was long ago.
fn heard(scene: &Scene<'_>, candidate: &Candidate) -> Option<Load> {
    let most = scene.config.hot_cold.max_report_age * PICTURE_AGES;
    candidate.load.filter(|load| scene.now.since(load.reported_at) <= most)
}

/// What it reports is idle, and what the snapshot knows is a tick old.
fn fails(scene: &Scene<'_>, candidate: &Candidate) -> bool {
    candidate.penalty >= MOST_PENALTY || scene.has_just_failed(candidate)
}

fn is_admitted(candidate: &Candidate, lot: u32) -> bool {
    falls_within(lot.rotate_left(16), candidate.admission)
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
        // One that polls all endpoints hears of them in one moment, more than the pool holds: those
        // that come first must not be the same ones every time.
        let (before, from) = scene.candidates.split_at(begin(scene));
        for candidate in from.iter().chain(before) {
            let Some(load) = candidate.load else { continue };
            if !is_fed {
                self.take(scene, candidate.endpoint, load);
            }
        }
        self.picture = Picture::of(scene);
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
            if !is_admitted(candidate, lot) || fails(scene, candidate) {
                continue;
            }
            let (is_hot, score) = self.picture.judge(candidate, &entry.load, entry.uses);
            let contender = Contender { number, place, is_hot, score, lot };
            let at = found.partition_point(|other| other.order(&contender).is_lt());
            found.insert(at, contender);
        }
        if found.len() < rules.min_pool {
            return sampled(scene, self.picture.threshold, Why::NoReports);
        }
        if falls_within(lot(scene.draw, SAMPLING), SAMPLED) {
            return sampled(scene, self.picture.threshold, Why::Sampled);
        }
        let (outsider, seen) = match self.unheard(scene) {
            Some(unheard) => (Some(unheard), 1),
            None => self.better(scene, &found),
        };
        let considered = found.len() + seen;
        let why = match found.first() {
            _ if outsider.is_some() => Why::Sampled,
            Some(first) if first.is_hot => Why::LeastHot,
            _ => Why::Cold,
        };
        if outsider.is_none()
            && let Some(entry) = found.first().and_then(|it| self.entries.get_mut(it.number))
        {
            entry.uses += 1;
        }
        let mut list: Vec<Ranked> = Vec::with_capacity(found.len() + 1);
        list.extend(outsider);
        let others = found.iter().filter(|it| outsider.is_none_or(|other| other.place != it.place));
        list.extend(others.map(|it| Ranked { place: it.place, score: it.score }));
        list.truncate(scene.most);
        Choice { policy: Policy::HotCold, why, considered, list }
    }

    /// One that has not been heard of, if it is the turn of one.
    fn unheard(&mut self, scene: &Scene<'_>) -> Option<Ranked> {
        self.due += self.picture.unheard * UNHEARD;
        if self.due < 1.0 {
            return None;
        }
        self.due -= 1.0;
        let is_unheard = |candidate: &Candidate| {
            let is_in_pool = || self.entries.iter().any(|it| it.endpoint == candidate.endpoint);
            heard(scene, candidate).is_none() && !is_in_pool()
        };
        let (place, _) = outside(scene).find(|(_, candidate)| is_unheard(candidate))?;
        Some(Ranked { place, score: self.picture.usual })
    }

    /// One from outside the pool that is better than the best of it, if that is hot or slow; and how
    /// many were looked at.
    fn better(&self, scene: &Scene<'_>, found: &[Contender]) -> (Option<Ranked>, usize) {
        let usual = (false, self.picture.usual);
        let Some(best) = found.first().filter(|best| best.judged() > usual) else {
            return (None, 0);
        };
        let is_outside = |place: usize| found.iter().all(|it| it.place != place);
        let outsiders = outside(scene).filter(|(place, _)| is_outside(*place)).take(OUTSIDERS);
        let mut seen = 0;
        let judged = outsiders.map(|(place, candidate)| {
            seen += 1;
            // Who is not heard of is taken for one in the middle.
            let told = heard(scene, candidate);
            let (is_hot, score) =
                told.map_or(usual, |load| self.picture.judge(candidate, &load, 0));
            Contender { number: usize::MAX, place, is_hot, score, lot: lot(scene.draw, place) }
        });
        let better = judged.min_by(Contender::order).filter(|it| it.judged() < best.judged());
        (better.map(|it| Ranked { place: it.place, score: it.score }), seen)
    }
}

/// Those that do not fail: some that are drawn, and then all, once around from anywhere. By the round
/// alone whoever comes after many that are not asked for would be found too often.
fn outside<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = (usize, &'a Candidate)> {
    let candidates = scene.candidates.len().max(1);
    let begin = begin(scene);
    let drawn = (1..=DRAWS).map(move |salt| lot(scene.draw, DRAWING + salt) as usize % candidates);
    let round = (0..candidates).map(move |step| (begin + step) % candidates);
    let all = drawn.chain(round).filter_map(|at| Some((at, scene.candidates.get(at)?)));
    all.filter(|(at, candidate)| {
        is_admitted(candidate, lot(scene.draw, *at)) && !fails(scene, candidate)
    })
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
    fn judged(&self) -> (bool, f64) {
        (self.is_hot, self.score)
    }

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

/// The value that the share `rank` of them does not exceed; of none, one that nothing exceeds.
fn quantile(mut values: Vec<f64>, rank: f64) -> f64 {
    sort_by(&mut values, f64::total_cmp);
    let at = (values.len() as f64 * rank).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests;
