//! One kernel, seven policies: how the endpoints of one request are chosen and ordered.
//!
//! A policy is a file with two functions of the same shape. What must be prepared is prepared at
//! the tick (`update`), and a pick (`choose`) reads it together with what this worker has in flight
//! at the moment. What they have in common is not theirs: who is a candidate at all, what an error
//! costs and how far an endpoint that came back is taken up are in the [`Candidate`]s, and the
//! cheapest of many are found by [`rank`](crate::rank). So failing fast is fast for none of them.

mod auto;
mod consistent_hash;
mod hot_cold;
mod least_cost;
mod peak_ewma;
mod random;
mod weighted_round_robin;

use crate::division::{Part, Run};
use crate::row::Table;
use crate::{Candidate, ClusterConfig, Load, Policy, Why};
use shared_state::{Endpoint, UnixNanos};

/// What a policy sees at a pick.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) config: &'a ClusterConfig,
    pub(crate) candidates: &'a [Candidate],
    /// The place that the first of these has in the snapshot.
    pub(crate) first: usize,
    /// The part of the cluster that they are.
    pub(crate) part: Part,
    pub(crate) table: &'a Table,
    /// How many endpoints to list.
    pub(crate) most: usize,
    /// A number drawn for this request.
    pub(crate) draw: u32,
    pub(crate) now: UnixNanos,
    /// Requests in flight to all candidates, of all workers.
    pub(crate) load: f64,
    /// Requests that an endpoint may have in flight before the next one counts as waiting.
    pub(crate) comfortable: f64,
    /// The request's own hash, where the policy asks for one and the request has one.
    pub(crate) key: Option<u64>,
}

impl Scene<'_> {
    /// Requests of all workers that wait for this candidate. A failure counts as one until the
    /// snapshot knows of it.
    pub(crate) fn waiting(&self, candidate: &Candidate) -> f64 {
        let own = self.table.rows().get(candidate.row).map_or(0, |row| row.waiting());
        f64::from(own) + candidate.elsewhere
    }

    /// Requests of all workers in flight to this candidate, and the failures that the snapshot does
    /// not know of.
    pub(crate) fn work(&self, candidate: &Candidate) -> (f64, f64) {
        let own = self.table.rows().get(candidate.row);
        let (own, failures) = own.map_or((0, 0), |row| (row.in_flight, row.new_failures));
        (f64::from(own) + candidate.elsewhere, f64::from(failures))
    }

    /// True if this candidate, which is on trial, may have a request now.
    pub(crate) fn may_be_tried(&self, candidate: &Candidate) -> bool {
        self.table.rows().get(candidate.row).is_some_and(|row| row.may_be_tried(self.now))
    }

    /// True if it has failed since the snapshot was made.
    pub(crate) fn has_just_failed(&self, candidate: &Candidate) -> bool {
        self.table.rows().get(candidate.row).is_some_and(|row| row.new_failures > 0)
    }

    /// Requests in flight to the average candidate.
    pub(crate) fn mean_load(&self) -> f64 {
        self.load / self.candidates.len().max(1) as f64
    }

    /// The candidate of this endpoint, if it is one.
    pub(crate) fn candidate(&self, endpoint: Endpoint) -> Option<(usize, &Candidate)> {
        self.candidate_near(endpoint, usize::MAX)
    }

    /// As [`Scene::candidate`], for one whose row was there a moment ago.
    pub(crate) fn candidate_near(
        &self,
        endpoint: Endpoint,
        row: usize,
    ) -> Option<(usize, &Candidate)> {
        let row = self.table.place_near(endpoint, row)?;
        let place = self.table.rows().get(row)?.candidate?.checked_sub(self.first)?;
        Some((place, self.candidates.get(place)?))
    }
}

/// One endpoint of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ranked {
    /// Its place among the candidates.
    pub(crate) place: usize,
    /// What it was ordered by: the smaller the better.
    pub(crate) score: f64,
}

/// A list of endpoints, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// The policy that chose; never `auto`.
    pub(crate) policy: Policy,
    /// Why the first is the first.
    pub(crate) why: Why,
    /// How many candidates were looked at.
    pub(crate) considered: usize,
    /// Best first.
    pub(crate) list: Vec<Ranked>,
}

/// What the policies keep between picks.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// Of each part: what is chosen in one says nothing of another.
    parts: Vec<(Part, Kept)>,
    table: consistent_hash::HashTable,
}

/// What the policies keep of one part.
#[derive(Debug, Default)]
struct Kept {
    regime: auto::Regime,
    pool: hot_cold::Pool,
    turns: weighted_round_robin::Turns,
    chances: random::Chances,
}

impl Kept {
    fn policy(&self, configured: Policy) -> Policy {
        match configured {
            Policy::Auto => self.regime.policy(),
            policy => policy,
        }
    }
}

impl Policies {
    /// Keeps these parts and no others.
    pub(crate) fn keep(&mut self, runs: &[Run]) {
        self.parts.retain(|(part, _)| runs.iter().any(|run| run.part == *part));
        for run in runs {
            if !self.parts.iter().any(|(part, _)| *part == run.part) {
                self.parts.push((run.part, Kept::default()));
            }
        }
    }

    /// Takes up a part of a new snapshot. `known` are all endpoints of the cluster, fit or not.
    pub(crate) fn update(&mut self, scene: &Scene<'_>, known: &[Endpoint], draw: u64) {
        if scene.config.policy == Policy::ConsistentHash {
            return self.table.update(known);
        }
        let Some(kept) = kept(&mut self.parts, scene.part) else { return };
        if scene.config.policy == Policy::Auto {
            kept.regime.update(scene.candidates, &scene.config.auto);
        }
        match kept.policy(scene.config.policy) {
            Policy::HotCold => kept.pool.update(scene),
            Policy::WeightedRoundRobin => kept.turns.update(scene, draw),
            Policy::Random => kept.chances.update(scene),
            _ => {}
        }
    }

    /// True if [`Policies::feed`] should be told what a response reports.
    pub(crate) fn wants_reports(&self, policy: Policy) -> bool {
        self.parts.iter().any(|(_, kept)| kept.policy(policy) == Policy::HotCold)
    }

    /// A report that came with a response of an endpoint of this part.
    pub(crate) fn feed(&mut self, scene: &Scene<'_>, endpoint: Endpoint, load: Load) {
        if let Some(kept) = kept(&mut self.parts, scene.part) {
            kept.pool.feed(scene, endpoint, load);
        }
    }

    /// The endpoints for one request.
    pub(crate) fn choose(&mut self, scene: &Scene<'_>) -> Choice {
        let Some(kept) = kept(&mut self.parts, scene.part) else {
            return least_cost::choose(scene);
        };
        match kept.policy(scene.config.policy) {
            Policy::Auto | Policy::LeastCost => least_cost::choose(scene),
            Policy::HotCold => kept.pool.choose(scene),
            Policy::WeightedRoundRobin => kept.turns.choose(scene),
            Policy::PeakEwma => peak_ewma::choose(scene),
            Policy::ConsistentHash => self.table.choose(scene),
            Policy::Random => kept.chances.choose(scene),
        }
    }
}

fn kept(parts: &mut [(Part, Kept)], part: Part) -> Option<&mut Kept> {
    parts.iter_mut().find(|(other, _)| *other == part).map(|(_, kept)| kept)
}
