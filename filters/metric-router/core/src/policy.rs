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

use crate::row::Table;
use crate::{Candidate, ClusterConfig, Load, Policy, Why};
use shared_state::{Endpoint, UnixNanos};

/// What a policy sees at a pick.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) config: &'a ClusterConfig,
    pub(crate) candidates: &'a [Candidate],
    pub(crate) table: &'a Table,
    /// How many endpoints to list.
    pub(crate) most: usize,
    /// A number drawn for this request.
    pub(crate) draw: u32,
    pub(crate) now: UnixNanos,
    /// Requests in flight to all candidates, of all workers.
    pub(crate) load: f64,
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

    /// Requests in flight to the average candidate.
    pub(crate) fn mean_load(&self) -> f64 {
        self.load / self.candidates.len().max(1) as f64
    }

    /// The candidate of this endpoint, if it is one.
    pub(crate) fn candidate(&self, endpoint: Endpoint) -> Option<(usize, &Candidate)> {
        let row = self.table.place(endpoint)?;
        let place = self.table.rows().get(row)?.candidate?;
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
    regime: auto::Regime,
    pool: hot_cold::Pool,
    turns: weighted_round_robin::Turns,
    table: consistent_hash::HashTable,
}

impl Policies {
    /// Takes up a new snapshot. `known` are all endpoints of the cluster, fit or not.
    pub(crate) fn update(&mut self, scene: &Scene<'_>, known: &[Endpoint], draw: u64) {
        if scene.config.policy == Policy::Auto {
            self.regime.update(scene.candidates, &scene.config.auto);
        }
        match self.policy(scene) {
            Policy::HotCold => self.pool.update(scene),
            Policy::WeightedRoundRobin => self.turns.update(scene, draw),
            Policy::ConsistentHash => self.table.update(known),
            Policy::Auto | Policy::LeastCost | Policy::PeakEwma | Policy::Random => {}
        }
    }

    /// True if [`Policies::feed`] should be told what a response reports.
    pub(crate) fn wants_reports(&self, policy: Policy) -> bool {
        match policy {
            Policy::Auto => self.regime.policy() == Policy::HotCold,
            policy => policy == Policy::HotCold,
        }
    }

    /// A report that came with a response.
    pub(crate) fn feed(&mut self, scene: &Scene<'_>, endpoint: Endpoint, load: Load) {
        self.pool.feed(scene, endpoint, load);
    }

    fn policy(&self, scene: &Scene<'_>) -> Policy {
        match scene.config.policy {
            Policy::Auto => self.regime.policy(),
            policy => policy,
        }
    }

    /// The endpoints for one request.
    pub(crate) fn choose(&mut self, scene: &Scene<'_>) -> Choice {
        match self.policy(scene) {
            Policy::Auto | Policy::LeastCost => least_cost::choose(scene),
            Policy::HotCold => self.pool.choose(scene),
            Policy::WeightedRoundRobin => self.turns.choose(scene),
            Policy::PeakEwma => peak_ewma::choose(scene),
            Policy::ConsistentHash => self.table.choose(scene),
            Policy::Random => random::choose(scene),
        }
    }
}
