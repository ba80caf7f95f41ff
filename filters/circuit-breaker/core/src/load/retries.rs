//! How many retries a scope may have.
//!
//! When a service fails, retries multiply the load that made it fail. A limit of how many are under
//! way, as Envoy's `max_retries`, is right for one rate of requests; a budget is right for all. A
//! filter does not see retries begin, but how many attempts a request took when it ends. So each
//! request earns a part of a retry, each retry costs one, and while nothing is left, requests are
//! sent with `x-envoy-max-retries: 0`. The balance is bounded, so that a good hour does not pay for a
//! storm, and at least a few a second are paid for, so that few requests may be retried as well.

use shared_state::UnixNanos;

/// Requests whose part can be saved up.
const SAVED: f64 = 100.0;

/// Retries in proportion to requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries for each hundred requests.
    pub budget_percent: f64,
    /// Retries a second that are free.
    pub min_retries_per_second: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    left: f64,
    paid_at: UnixNanos,
}

impl Balance {
    pub(super) fn new(budget: Option<&RetryBudget>, now: UnixNanos) -> Self {
        let left = budget.map_or(0.0, |budget| f64::from(budget.min_retries_per_second).max(1.0));
        Self { left, paid_at: now }
    }

    pub(super) fn earn(&mut self, budget: &RetryBudget, now: UnixNanos) {
        let part = budget.budget_percent / 100.0;
        let free = f64::from(budget.min_retries_per_second);
        let paid = free * now.since(self.paid_at).as_secs_f64();
        // A clock that stepped back pays nothing, and pays on from there.
        self.paid_at = now;
        self.left += part;
        if self.left < free {
            self.left = (self.left + paid).min(free);
        }
        self.left = self.left.min((part * SAVED).max(free).max(1.0));
    }

    pub(super) fn spend(&mut self, retries: u32) {
        // As many as a request can have, for it was not known before that it would.
        self.left = (self.left - f64::from(retries)).max(-SAVED);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left < 1.0
    }
}
