//! The answer for one request.

use crate::policy::Ranked;
use crate::{Part, Policy};
use core::fmt;
use shared_state::Endpoint;

/// Where a request should go.
#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    /// To these endpoints.
    Steer(Steered),
    /// Wherever the cluster's own policy sends it.
    Leave(Reason),
}

/// An ordered list of endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Steered {
    /// The endpoint for the first attempt.
    pub first: Endpoint,
    /// All of them, best first, as the steering header writes them: `ip:port,ip:port`.
    pub list: String,
    /// How many endpoints there were to choose from.
    pub candidates: usize,
    /// The policy that chose: where the configuration says `auto`, the one it came to.
    pub policy: Policy,
    /// The part of the cluster that the first belongs to.
    pub part: Part,
    /// Why the first is the first.
    pub why: Why,
    /// How many of the candidates were looked at.
    pub considered: usize,
    /// How many of the cluster's endpoints may be left out; said while one is, or has failed lately.
    pub spare: Option<usize>,
    /// The breakers of endpoints are to be told that.
    pub says_spare: bool,
    /// What the list is ordered by, one an endpoint.
    pub(crate) ranked: Vec<Ranked>,
}

/// Why the first endpoint of a list is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It costs least.
    Cheapest,
    /// It is the fastest of those that are not busier than most, as they report.
    Cold,
    /// All are busier than most, as they report, and this one least.
    LeastHot,
    /// Too few reports are fresh, and this one is the better of two that were drawn.
    NoReports,
    /// Drawn from outside the latest reports: they are not good, or it has not been heard of for long.
    Sampled,
    /// It was its turn.
    Turn,
    /// It was drawn.
    Drawn,
    /// The request's key belongs to it.
    Hashed,
    /// The request's key belongs to another one, which is unfit or has too much in flight.
    Overflowed,
    /// The request has no key, and this one costs least.
    NoKey,
    /// Whether it is still a member is in doubt.
    Verified,
}

impl Why {
    /// The name in explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cheapest => "cheapest",
            Self::Cold => "cold",
            Self::LeastHot => "least_hot",
            Self::NoReports => "no_reports",
            Self::Sampled => "sampled",
            Self::Turn => "turn",
            Self::Drawn => "drawn",
            Self::Hashed => "hashed",
            Self::Overflowed => "overflowed",
            Self::NoKey => "no_key",
            Self::Verified => "verified",
        }
    }
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

impl Pick {
    /// True if nothing about it says more than the address of the endpoint that serves.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Steer(steered) if steered.part == Part::default())
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steer(steered) => write!(
                f,
                "picked {} policy={} candidates={}{}",
                steered.first,
                steered.policy.name(),
                steered.candidates,
                steered.part
            ),
            Self::Leave(reason) => write!(f, "unsteered reason={}", reason.name()),
        }
    }
}
