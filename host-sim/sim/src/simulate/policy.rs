//! Native policies, to compare with: one file each, which holds its parameters and its rule.
//!
//! They are written from the formulas of the projects they are called after and not tuned: a
//! baseline that was made weaker would prove nothing. Each proxy has one, for all of its workers.

mod client_side_weighted_round_robin;
mod least_request;
mod oracle;
mod peak_ewma;
mod random;
mod round_robin;
#[cfg(test)]
pub(crate) mod stage;

use super::draws::Draws;
use super::load_report::LoadReport;
use super::server::Server;
use host_sim_engine::load_balancer::Edf;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt::Debug;
use std::time::Duration;

pub(crate) use client_side_weighted_round_robin::ClientSideWeightedRoundRobin;
pub(crate) use least_request::LeastRequest;
pub(crate) use oracle::Oracle;
pub(crate) use peak_ewma::PeakEwma;
pub(crate) use random::Random;
pub(crate) use round_robin::RoundRobin;

/// A policy and its parameters. Exactly one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySpec {
    /// Envoy's ROUND_ROBIN.
    pub round_robin: Option<RoundRobin>,
    /// Envoy's RANDOM.
    pub random: Option<Random>,
    /// Envoy's LEAST_REQUEST.
    pub least_request: Option<LeastRequest>,
    /// Envoy's, and gRPC's (A58): weights from load reports.
    pub client_side_weighted_round_robin: Option<ClientSideWeightedRoundRobin>,
    /// Linkerd's and tower's: two choices by peak latency and requests in flight.
    pub peak_ewma: Option<PeakEwma>,
    /// Knows every queue and every speed as they are now: no real policy can.
    pub oracle: Option<Oracle>,
}

impl PolicySpec {
    /// What was written; a file that was checked has one.
    pub(crate) fn kinds(&self) -> Vec<&dyn PolicyKind> {
        fn of<P: PolicyKind>(policy: &Option<P>) -> Option<&dyn PolicyKind> {
            policy.as_ref().map(|policy| policy as &dyn PolicyKind)
        }
        let all = [
            of(&self.round_robin),
            of(&self.random),
            of(&self.least_request),
            of(&self.client_side_weighted_round_robin),
            of(&self.peak_ewma),
            of(&self.oracle),
        ];
        all.into_iter().flatten().collect()
    }
}

/// Parameters, from which each proxy's policy is made.
pub(crate) trait PolicyKind: Debug {
    /// A policy over so many endpoints.
    fn policy(&self, endpoints: usize) -> Box<dyn Policy>;
}

/// Chooses endpoints for one proxy.
pub(crate) trait Policy {
    /// The endpoint of an attempt; nothing if there is none to choose from.
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize>;

    /// An attempt has ended.
    fn ended(&mut self, _seen: &Seen) {}
}

/// What a policy may look at.
pub(crate) struct Scene<'a> {
    /// Time since the start.
    pub(crate) now: Duration,
    /// Whom it may choose, in order: those that are not ejected.
    pub(crate) eligible: &'a [usize],
    /// This proxy's requests in flight, by endpoint.
    pub(crate) active: &'a [u32],
    /// Configured weights, by endpoint.
    pub(crate) weights: &'a [u32],
    /// The truth, which only an oracle may see.
    pub(crate) servers: &'a [Server],
}

impl Scene<'_> {
    /// Whether the configured weights of the eligible endpoints are equal.
    fn equal_weights(&self) -> bool {
        let mut weights = self.eligible.iter().map(|at| self.weights[*at]);
        let first = weights.next();
        weights.all(|weight| Some(weight) == first)
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now: Duration,
    pub(crate) endpoint: usize,
    /// From its start to its end.
    pub(crate) took: Duration,
    /// Whether the answer carried a load report.
    pub(crate) report: Option<LoadReport>,
}

/// Envoy's earliest-deadline scheduler over the eligible endpoints, built anew when they change.
#[derive(Debug, Default)]
struct Schedule {
    built_for: Vec<usize>,
    edf: Edf,
}

impl Schedule {
    /// The next endpoint; `weight` is asked when an endpoint has had its turn.
    fn pick(
        &mut self,
        eligible: &[usize],
        draws: &mut Draws,
        weight: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        if self.built_for != eligible {
            self.built_for = eligible.to_vec();
            self.edf = Edf::new(eligible.iter().map(|at| weight(*at)), draws.bits());
        }
        let members = &self.built_for;
        let at = self.edf.pick(|at| members.get(at).map_or(1.0, |endpoint| weight(*endpoint)))?;
        members.get(at).copied()
    }

    /// Has it built anew.
    fn clear(&mut self) {
        self.built_for.clear();
    }
}
