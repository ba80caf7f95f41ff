//! Envoy's `circuit_breakers`: how much of a cluster may be under way at once.
//!
//! `max_connections` and `max_pending_requests` are left out: connections cost nothing here, and a
//! cluster that is spoken to by HTTP/2 has no use for them.

use schemars::JsonSchema;
use serde::Deserialize;

/// Thresholds of a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreakers {
    /// Attempts under way at once; a request beyond it is answered 503 and not retried. Default 1024.
    #[serde(default = "a_thousand")]
    pub max_requests: u32,
    /// Retries under way at once, those that wait for their turn among them. Default 3.
    #[serde(default = "three")]
    pub max_retries: u32,
    /// Instead of `max_retries`: retries in proportion to what is under way. Default none.
    pub retry_budget: Option<RetryBudget>,
}

/// Envoy's `retry_budget`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBudget {
    /// Retries for each hundred requests under way. Default 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: f64,
    /// So many may be under way whatever that comes to. Default 3.
    #[serde(default = "three")]
    pub min_retry_concurrency: u32,
}

/// What a cluster has under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    pub(crate) requests: usize,
    pub(crate) retries: usize,
}

impl CircuitBreakers {
    /// Whether one more attempt may start.
    pub(crate) fn has_room(&self, busy: Busy) -> bool {
        busy.requests < self.max_requests as usize
    }

    /// Whether a retry may be planned.
    pub(crate) fn may_retry(&self, busy: Busy) -> bool {
        let most = self.retry_budget.as_ref().map_or(self.max_retries as usize, |budget| {
            let part = budget.budget_percent / 100.0 * busy.requests as f64;
            (part as usize).max(budget.min_retry_concurrency as usize)
        });
        busy.retries < most
    }
}

fn a_thousand() -> u32 {
    1024
}

fn three() -> u32 {
    3
}

fn twenty() -> f64 {
    20.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_budget_grows_with_what_is_under_way_and_the_default_does_not() {
        let breakers = |json| serde_json::from_value::<CircuitBreakers>(json).unwrap();
        let (plain, budget) = (breakers(json!({})), breakers(json!({"retry_budget": {}})));
        let busy = |requests, retries| Busy { requests, retries };
        assert!(plain.may_retry(busy(1000, 2)) && !plain.may_retry(busy(1000, 3)));
        assert!(budget.may_retry(busy(1, 2)) && !budget.may_retry(busy(15, 3)));
        assert!(budget.may_retry(busy(100, 19)) && !budget.may_retry(busy(100, 20)));
        assert!(plain.has_room(busy(1023, 0)) && !plain.has_room(busy(1024, 0)));
    }
}
