//! The metrics of one plugin, defined once, at first use.

use plugin_kit::Degraded;
use plugin_kit::metrics::Counter;
use token_bucket_core::{Config, Outcome, Tally};

/// What is counted of one policy.
#[derive(Debug)]
struct PolicyMetrics {
    requests: [Counter; Outcome::ALL.len()],
    conflicts: Counter,
    overflows: Counter,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    policies: Vec<PolicyMetrics>,
    degraded: Degraded,
}

impl Metrics {
    pub(crate) fn new(config: &Config) -> Self {
        let plugin = ("plugin", config.name.as_str());
        let policy = |name: &str| PolicyMetrics {
            requests: Outcome::ALL.map(|outcome| {
                let labels = [plugin, ("policy", name), ("outcome", outcome.as_str())];
                Counter::new("weir_requests_total", &labels)
            }),
            conflicts: Counter::new("weir_bucket_conflicts_total", &[plugin, ("policy", name)]),
            overflows: Counter::new("weir_bucket_overflows_total", &[plugin, ("policy", name)]),
        };
        Self {
            policies: config.policies.iter().map(|found| policy(&found.name)).collect(),
            degraded: Degraded::new(&config.name),
        }
    }

    pub(crate) fn count(&self, tally: &Tally) {
        for (policy, outcome) in &tally.outcomes {
            if let Some(found) = self.policies.get(*policy)
                && let Some(counter) = found.requests.get(*outcome as usize)
            {
                counter.add(1);
            }
        }
        for (policy, conflicts) in &tally.conflicts {
            if let Some(found) = self.policies.get(*policy) {
                found.conflicts.add(u64::from(*conflicts));
            }
        }
        for policy in &tally.overflows {
            if let Some(found) = self.policies.get(*policy) {
                found.overflows.add(1);
            }
        }
        for fault in &tally.faults {
            self.degraded.note(fault.reason, &fault.detail);
        }
    }
}
