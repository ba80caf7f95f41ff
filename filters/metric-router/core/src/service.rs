//! Which cluster a request goes to: the region of a service that is served from several.
//!
//! A route with `cluster_header` takes its cluster from a header that this filter writes. Each
//! candidate is measured by its own answers: latency, and how many failed. It is left out when most
//! of its endpoints are unfit, when most of its answers fail, or after a few failures in a row; a
//! request every few seconds then finds out whether it is back. Of those that are left, the fastest
//! is taken and kept until another is clearly faster, or each gets its share by weight. A small
//! share of the requests goes to the others all the same, or nobody would know that they have become
//! faster.
//!
//! When all are left out, the one that has failed least is taken: a guess is better than a refusal.

use crate::ewma::{Ewma, believable, decay};
use crate::membership::falls_within;
use crate::rank::lot;
use core::time::Duration;
use shared_state::UnixNanos;

/// Time constant of latencies and of errors.
const DECAY: Duration = Duration::from_secs(4);

/// Failures in a row after which a cluster is left out.
const STREAK: u32 = 3;

/// How long a cluster is left out before a request finds out whether it is back.
const ABSENCE: Duration = Duration::from_secs(5);

/// Answers without which a latency is not believed.
const LEAST_SAMPLES: u32 = 3;

/// Of the requests to the cluster that most of them go to, every so many-th is measured at least:
/// where nobody looks at their answers, and where that costs nothing because somebody does anyway.
const MEASURED: u32 = 4;
const MEASURED_BESIDE: u32 = 16;

/// Picks after which a cluster that has not answered so often is no longer waited for.
const MOST_TRIES: u32 = 20;

/// A cluster with error ratio `e` counts as `1 + ERROR_PENALTY * e` times as slow.
const ERROR_PENALTY: f64 = 10.0;

/// A service that several clusters offer.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// Label of the metrics.
    pub name: String,
    /// Routes that it is for; none for all.
    pub routes: Vec<String>,
    /// The routes' `cluster_header`.
    pub header: String,
    /// The clusters, at least one, and what part of the requests each is meant for.
    pub clusters: Vec<(String, f64)>,
    /// How one is chosen.
    pub choice: ClusterChoice,
    /// How much faster another cluster must be, as a share. Default 0.2.
    pub tolerance: f64,
    /// Share of the requests, 0 to 1, by which the others are measured. Default 0.01.
    pub probes: f64,
    /// Share of fit endpoints, 0 to 1, below which a cluster is left out. Default 0.5.
    pub least_fit: f64,
    /// Share of failed answers, 0 to 1, above which a cluster is left out. Default 0.5.
    pub most_errors: f64,
}

/// How one of the clusters is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterChoice {
    /// The one that answers fastest, over its weight.
    #[default]
    Fastest,
    /// Each in its share, by weight.
    Weighted,
}

impl ClusterChoice {
    /// The name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::Weighted => "weighted",
        }
    }
}

/// What an answer says of the cluster that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It works.
    Well,
    /// It does not, or has nobody who could.
    Badly,
    /// Nothing: the client left.
    Not,
}

/// Envoy's response flag of a client that left.
const FLAG_CLIENT_LEFT: u64 = 0x4000;

impl Answered {
    /// From the status, if there was one, and Envoy's response flags. A cluster without a healthy
    /// endpoint, or with all of its limits reached, is as bad as one that fails.
    pub const fn of(status: Option<u16>, flags: u64) -> Self {
        match status {
            Some(..500) => Self::Well,
            _ if flags & FLAG_CLIENT_LEFT != 0 => Self::Not,
            Some(_) => Self::Badly,
            None if flags == 0 => Self::Not,
            None => Self::Badly,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Region {
    latency: Ewma,
    /// Answers that have gone into the latency, and all of them.
    samples: u32,
    answers: u32,
    /// Picks to get these.
    tries: u32,
    /// Requests since the last one that was measured.
    unmeasured: u32,
    errors: Ewma,
    streak: u32,
    last_failure: UnixNanos,
    /// When it was last tried although it is left out, or was first left out.
    tried_at: Option<UnixNanos>,
    picks: u64,
}

/// One service as one worker sees it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: ServiceConfig,
    regions: Vec<Region>,
    current: Option<usize>,
}

impl Service {
    pub(crate) fn new(config: ServiceConfig) -> Self {
        let regions = vec![Region::default(); config.clusters.len()];
        Self { config, regions, current: None }
    }

    /// True if it is for this route.
    pub(crate) fn is_for(&self, route: Option<&str>) -> bool {
        let routes = &self.config.routes;
        routes.is_empty() || route.is_some_and(|route| routes.iter().any(|name| name == route))
    }

    /// The place of the cluster that a request goes to. `fit` gives the share of a cluster's
    /// endpoints that are fit, where that is known.
    pub(crate) fn choose(
        &mut self,
        fit: impl Fn(&str) -> Option<f64>,
        now: UnixNanos,
        draw: u32,
    ) -> usize {
        let places = || self.config.clusters.iter().zip(&self.regions);
        let unfit = |name: &str| fit(name).is_some_and(|share| share < self.config.least_fit);
        let unfit: Vec<bool> = places().map(|((name, _), _)| unfit(name)).collect();
        let fails = places().map(|(_, region)| region.fails(now, self.config.most_errors));
        let sound: Vec<bool> = fails.zip(&unfit).map(|(fails, unfit)| !fails && !unfit).collect();
        let is_sound = |at: usize| sound.get(at).copied().unwrap_or(false);
        let may_return = |at: usize| sound.contains(&true) && unfit.get(at) == Some(&false);
        let chosen = match self.returning(&may_return, now) {
            Some(at) => at,
            None => match self.config.choice {
                ClusterChoice::Fastest => self.fastest(&is_sound, now, draw),
                ClusterChoice::Weighted => self.weighted(&is_sound, now, draw),
            },
        };
        if let Some(region) = self.regions.get_mut(chosen) {
            region.picks = region.picks.saturating_add(1);
        }
        chosen
    }

    /// True if it is to be measured how long the answer takes to the request that the cluster at
    /// `place` was just chosen for: of the cluster that most of them go to of those that are looked at,
    /// or of every fourth where nobody knows which that are; of the others, which get few, of each.
    /// Where weights decide it does not matter.
    pub(crate) fn is_to_measure(&mut self, place: usize, is_looked_at: Option<bool>) -> bool {
        let Some(region) = self.regions.get_mut(place) else { return false };
        if self.config.choice == ClusterChoice::Weighted {
            return false;
        }
        let most = if is_looked_at.is_some() { MEASURED_BESIDE } else { MEASURED };
        let is_due = self.current != Some(place)
            || is_looked_at == Some(true)
            || region.unmeasured + 1 >= most;
        region.unmeasured = if is_due { 0 } else { region.unmeasured + 1 };
        is_due
    }

    /// Takes up an answer of the cluster at `place`, and how long it took if that was measured.
    pub(crate) fn answered(
        &mut self,
        place: usize,
        answered: Answered,
        took: Option<Duration>,
        now: UnixNanos,
    ) {
        let Some(region) = self.regions.get_mut(place) else { return };
        region.answers = region.answers.saturating_add(u32::from(answered != Answered::Not));
        match answered {
            Answered::Not => {}
            Answered::Well => {
                if region.streak >= STREAK {
                    // It is back, and what it was before says nothing.
                    *region = Region { picks: region.picks, ..Region::default() };
                }
                region.streak = 0;
                region.tried_at = None;
                region.errors.record(0.0, now, DECAY);
                if let Some(took) = took {
                    region.latency.record(took.as_secs_f64(), now, DECAY);
                    region.samples = region.samples.saturating_add(1);
                }
            }
            Answered::Badly => {
                region.streak = region.streak.saturating_add(1);
                region.last_failure = now;
                region.errors.record(1.0, now, DECAY);
            }
        }
    }

    /// Picks by cluster since the last call.
    pub(crate) fn take_picks(&mut self, mut each: impl FnMut(&str, u64)) {
        for ((name, _), region) in self.config.clusters.iter().zip(&mut self.regions) {
            if region.picks > 0 {
                each(name, core::mem::take(&mut region.picks));
            }
        }
    }

    /// A cluster that has been left out for long enough, to be tried by one request.
    fn returning(&mut self, may: &dyn Fn(usize) -> bool, now: UnixNanos) -> Option<usize> {
        for (at, region) in self.regions.iter_mut().enumerate() {
            if region.streak < STREAK || !may(at) {
                continue;
            }
            let since = believable(*region.tried_at.get_or_insert(now), now);
            if now.since(since) >= ABSENCE {
                region.tried_at = Some(now);
                return Some(at);
            }
        }
        None
    }

    fn fastest(&mut self, is_sound: &dyn Fn(usize) -> bool, now: UnixNanos, draw: u32) -> usize {
        let sound: Vec<usize> = (0..self.regions.len()).filter(|at| is_sound(*at)).collect();
        if sound.is_empty() {
            return self.least_bad(now);
        }
        let new = |at: &&usize| self.regions.get(**at).is_some_and(Region::is_new);
        let least_tried = sound.iter().filter(new).min_by_key(|at| self.tries(**at)).copied();
        let all_are_new = sound.iter().all(|at| new(&at));
        if let Some(at) = least_tried
            && (all_are_new || falls_within(lot(draw, 1), 0.5))
        {
            if let Some(region) = self.regions.get_mut(at) {
                region.tries = region.tries.saturating_add(1);
            }
            return at;
        }
        let score = |at: usize| self.score(at, now);
        let best = sound.iter().copied().min_by(|a, b| score(*a).total_cmp(&score(*b)));
        let best = best.unwrap_or(0);
        let keeps = |current: &usize| {
            is_sound(*current) && score(*current) <= score(best) * (1.0 + self.config.tolerance)
        };
        let current = self.current.filter(keeps).unwrap_or(best);
        self.current = Some(current);
        let others: Vec<usize> = sound.into_iter().filter(|at| *at != current).collect();
        if !others.is_empty() && falls_within(draw, self.config.probes) {
            let at = lot(draw, 2) as usize % others.len();
            return others.get(at).copied().unwrap_or(current);
        }
        current
    }

    fn tries(&self, at: usize) -> u32 {
        self.regions.get(at).map_or(0, |region| region.tries)
    }

    fn weighted(&self, is_sound: &dyn Fn(usize) -> bool, now: UnixNanos, draw: u32) -> usize {
        let weights = self.config.clusters.iter().map(|(_, weight)| *weight).enumerate();
        let sound: Vec<(usize, f64)> = weights.filter(|(at, _)| is_sound(*at)).collect();
        let total: f64 = sound.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        for (at, weight) in &sound {
            sum += weight;
            if falls_within(draw, sum / total) {
                return *at;
            }
        }
        sound.last().map_or_else(|| self.least_bad(now), |(at, _)| *at)
    }

    /// Seconds, as errors and weight have it. One that is not known is not compared.
    fn score(&self, at: usize, now: UnixNanos) -> f64 {
        let weight = self.config.clusters.get(at).map_or(1.0, |(_, weight)| *weight);
        let known = self.regions.get(at).and_then(|region| {
            let errors = region.errors.faded(now, DECAY);
            Some(region.latency.value()? * (1.0 + ERROR_PENALTY * errors))
        });
        known.unwrap_or(f64::INFINITY) / weight
    }

    fn least_bad(&self, now: UnixNanos) -> usize {
        let badness = |region: &Region| {
            f64::from(region.streak) * decay(now.since(region.last_failure), DECAY)
        };
        let regions = self.regions.iter().enumerate();
        let least = regions.min_by(|(_, a), (_, b)| badness(a).total_cmp(&badness(b)));
        least.map_or(0, |(at, _)| at)
    }
}

impl Region {
    /// True while it is to be measured before it is compared.
    fn is_new(&self) -> bool {
        self.samples < LEAST_SAMPLES && self.tries < MOST_TRIES
    }

    fn fails(&self, now: UnixNanos, most_errors: f64) -> bool {
        let is_mean = self.answers > STREAK && self.errors.faded(now, DECAY) > most_errors;
        self.streak >= STREAK || is_mean
    }
}

#[cfg(test)]
mod tests;
