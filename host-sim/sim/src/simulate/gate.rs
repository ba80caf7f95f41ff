//! What of Envoy's own stands in front of a native policy and refuses requests, or takes endpoints out:
//! one file each, with its parameters and its rule, and Envoy's defaults.

mod adaptive_concurrency;
mod admission_control;
mod circuit_breakers;
mod health_checks;

use super::draws::Draws;
use std::time::Duration;

pub(crate) use adaptive_concurrency::AdaptiveConcurrency;
pub(crate) use admission_control::AdmissionControl;
pub(crate) use circuit_breakers::{Busy, CircuitBreakers};
pub(crate) use health_checks::{Checked, HealthChecks};

/// A filter that answers in the place of endpoints.
pub(crate) trait Gate {
    /// Whether a request may pass.
    fn admits(&mut self, now: Duration, draws: &mut Draws) -> bool;

    /// A request that passed has ended.
    fn ended(&mut self, end: &End, draws: &mut Draws);

    /// When it wants to be woken.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// It is that time.
    fn wake(&mut self, _now: Duration, _draws: &mut Draws) {}
}

/// How a request ended that passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) now: Duration,
    pub(crate) started: Duration,
    /// What the client got; nothing if it had gone.
    pub(crate) status: Option<u16>,
}
