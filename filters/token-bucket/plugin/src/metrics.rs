//! The metrics of one plugin, defined once, at first use.
//!
//! Counting is a hostcall for each number, which under load is more than the decision itself costs.
//! So numbers are added up here and told to the host with the tick. The first [`AT_ONCE`] requests
//! of a period are told at once all the same: while there is little to count, a count that lags
//! would puzzle whoever watches it, and saves nothing. A VM that dies takes with it what it had not
//! told: at most the numbers of one period.

use core::cell::Cell;
use core::time::Duration;
use plugin_kit::Degraded;
use plugin_kit::metrics::{Counter, Gauge};
use token_bucket_core::{Config, FleetOutcome, Outcome, Reason, Tally};

/// Time between two tellings.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// Requests of a period whose numbers are told at once.
const AT_ONCE: u32 = 128;

/// A counter, and what it has not been told yet.
#[derive(Debug)]
struct Sum {
    counter: Counter,
    untold: Cell<u64>,
}

impl Sum {
    fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        Self { counter: Counter::new(name, labels), untold: Cell::new(0) }
    }

    fn add(&self, count: u64) {
        self.untold.set(self.untold.get().saturating_add(count));
    }

    fn tell(&self) {
        // Nothing costs no hostcall.
        self.counter.add(self.untold.take());
    }
}

/// What is counted of one policy.
#[derive(Debug)]
struct PolicyMetrics {
    requests: [Sum; Outcome::ALL.len()],
    refusals: [Sum; Reason::ALL.len()],
    conflicts: Sum,
    overflows: Sum,
    /// `None` for a rate that follows nothing.
    capacity: Option<Gauge>,
    /// Empty without a rate limit service.
    global: Vec<Sum>,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    policies: Vec<PolicyMetrics>,
    degraded: Degraded,
    /// Requests of this period that were told at once.
    told: Cell<u32>,
}

impl Metrics {
    pub(crate) fn new(config: &Config) -> Self {
        let plugin = ("plugin", config.name.as_str());
        let global = |has_service: bool| if has_service { &FleetOutcome::ALL[..] } else { &[] };
        let policy = |name: &str, has_service, has_capacity: bool| PolicyMetrics {
            capacity: has_capacity
                .then(|| Gauge::new("weir_capacity_percent", &[plugin, ("policy", name)])),
            requests: Outcome::ALL.map(|outcome| {
                let labels = [plugin, ("policy", name), ("outcome", outcome.as_str())];
                Sum::new("weir_requests_total", &labels)
            }),
            refusals: Reason::ALL.map(|reason| {
                let labels = [plugin, ("policy", name), ("reason", reason.as_str())];
                Sum::new("weir_refusals_total", &labels)
            }),
            conflicts: Sum::new("weir_bucket_conflicts_total", &[plugin, ("policy", name)]),
            overflows: Sum::new("weir_bucket_overflows_total", &[plugin, ("policy", name)]),
            global: global(has_service)
                .iter()
                .map(|outcome| {
                    let labels = [plugin, ("policy", name), ("outcome", outcome.as_str())];
                    Sum::new("weir_global_requests_total", &labels)
                })
                .collect(),
        };
        Self {
            policies: config
                .policies
                .iter()
                .map(|found| policy(&found.name, found.global.is_some(), found.capacity.is_some()))
                .collect(),
            degraded: Degraded::new(&config.name),
            told: Cell::new(0),
        }
    }

    pub(crate) fn count(&self, tally: &Tally) {
        for (policy, outcome) in &tally.outcomes {
            if let Some(found) = self.policies.get(*policy)
                && let Some(sum) = found.requests.get(*outcome as usize)
            {
                sum.add(1);
            }
        }
        for (policy, reason) in &tally.refusals {
            if let Some(found) = self.policies.get(*policy)
                && let Some(sum) = found.refusals.get(*reason as usize)
            {
                sum.add(1);
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
        for (policy, outcome) in &tally.fleet {
            if let Some(found) = self.policies.get(*policy)
                && let Some(sum) = found.global.get(*outcome as usize)
            {
                sum.add(1);
            }
        }
        for fault in &tally.faults {
            self.degraded.note(fault.reason, &fault.detail);
        }
        let told = self.told.get();
        if told < AT_ONCE {
            self.told.set(told.saturating_add(1));
            self.tell();
        }
    }

    /// Tells what of their rates the policies with a capacity give: all workers know the same.
    pub(crate) fn tell_capacity(&self, percent_of: impl Fn(usize) -> u8) {
        for (at, policy) in self.policies.iter().enumerate() {
            if let Some(gauge) = &policy.capacity {
                gauge.set(percent_of(at).into());
            }
        }
    }

    /// Tells the host all that has been counted, and begins another period.
    pub(crate) fn flush(&self) {
        self.told.set(0);
        self.tell();
    }

    fn tell(&self) {
        for policy in &self.policies {
            policy.requests.iter().chain(&policy.refusals).for_each(Sum::tell);
            policy.conflicts.tell();
            policy.overflows.tell();
            policy.global.iter().for_each(Sum::tell);
        }
    }
}

impl Drop for Metrics {
    /// The configuration is replaced, or the VM goes away in peace.
    fn drop(&mut self) {
        self.tell();
    }
}
