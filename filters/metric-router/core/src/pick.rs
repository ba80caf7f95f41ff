//! The answer for one request.

use crate::Policy;
use core::fmt;
use shared_state::Endpoint;

/// Where a request should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// To these endpoints.
    Steer(Steered),
    /// Wherever the cluster's own policy sends it.
    Leave(Reason),
}

/// An ordered list of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// The endpoint for the first attempt.
    pub first: Endpoint,
    /// All of them, best first, as the steering header writes them: `ip:port,ip:port`.
    pub list: String,
    /// How many endpoints there were to choose from.
    pub candidates: usize,
    /// How the first was chosen.
    pub policy: Policy,
}

/// Why a request is not steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The plugin is switched off.
    Off,
    /// The configuration has no entry for the cluster, or the proxy knows no such cluster.
    UnknownCluster,
    /// No endpoint is known yet.
    NoEndpoints,
    /// Too few of the known endpoints are fit to be picked.
    Panic,
    /// The cluster's own policy shall show an endpoint.
    Exploring,
    /// The proxy does not go where it is told.
    SteeringIneffective,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::UnknownCluster,
        Self::NoEndpoints,
        Self::Panic,
        Self::Exploring,
        Self::SteeringIneffective,
    ];

    /// The value of the label `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::UnknownCluster => "unknown_cluster",
            Self::NoEndpoints => "no_endpoints",
            Self::Panic => "panic",
            Self::Exploring => "exploring",
            Self::SteeringIneffective => "steering_ineffective",
        }
    }
}

/// Requests that were not steered, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unsteered([u64; Reason::ALL.len()]);

impl Unsteered {
    pub(crate) fn count(&mut self, reason: Reason) {
        let counts = Reason::ALL.iter().zip(&mut self.0);
        for (_, count) in counts.filter(|(other, _)| **other == reason) {
            *count = count.saturating_add(1);
        }
    }

    /// Gives what was counted since the last call.
    pub(crate) fn take(&mut self, mut each: impl FnMut(Reason, u64)) {
        for (reason, count) in Reason::ALL.into_iter().zip(&mut self.0) {
            if *count > 0 {
                each(reason, core::mem::take(count));
            }
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steer(steered) => write!(
                f,
                "picked {} policy={} candidates={}",
                steered.first,
                steered.policy.name(),
                steered.candidates
            ),
            Self::Leave(reason) => write!(f, "unsteered reason={}", reason.name()),
        }
    }
}
