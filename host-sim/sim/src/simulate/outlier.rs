//! Envoy's outlier detection, as far as it acts on its own with few endpoints: consecutive failures
//! eject at once, a sweep brings back.

use super::spec::arm::OutlierDetection;
use std::time::Duration;

/// Below this share of endpoints that are not ejected, ejections are ignored.
const PANIC_THRESHOLD: f64 = 0.5;

/// What one proxy thinks of its endpoints.
#[derive(Debug)]
pub(crate) struct Outliers {
    spec: OutlierDetection,
    hosts: Vec<HostState>,
    sweep: Duration,
    eligible: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct HostState {
    failures: u32,
    ejected: Option<Duration>,
    /// How often, lately: each sweep in which it was not makes it one less.
    ejections: u32,
}

impl Outliers {
    /// Nobody is ejected.
    pub(crate) fn new(spec: &OutlierDetection, endpoints: usize) -> Self {
        Self {
            spec: spec.clone(),
            hosts: vec![HostState::default(); endpoints],
            sweep: spec.interval.0,
            eligible: (0..endpoints).collect(),
        }
    }

    /// Whom a policy may choose: who is not ejected, or all when too many are.
    pub(crate) fn eligible(&self) -> &[usize] {
        &self.eligible
    }

    /// When the next sweep is due.
    pub(crate) fn deadline(&self) -> Duration {
        self.sweep
    }

    /// An attempt has ended.
    pub(crate) fn ended(&mut self, now: Duration, endpoint: usize, failed: bool) {
        let host = &mut self.hosts[endpoint];
        if !failed {
            host.failures = 0;
            return;
        }
        host.failures += 1;
        if host.failures < self.spec.consecutive_5xx || host.ejected.is_some() {
            return;
        }
        host.failures = 0;
        let ejected = self.hosts.iter().filter(|host| host.ejected.is_some()).count();
        if 100.0 * ejected as f64 / self.hosts.len() as f64 >= self.spec.max_ejection_percent {
            return;
        }
        let host = &mut self.hosts[endpoint];
        host.ejected = Some(now);
        host.ejections += 1;
        self.choose();
    }

    /// Brings back whose time is over.
    pub(crate) fn sweep(&mut self, now: Duration) {
        self.sweep = now + self.spec.interval.0;
        for host in &mut self.hosts {
            let Some(since) = host.ejected else {
                host.ejections = host.ejections.saturating_sub(1);
                continue;
            };
            let lasts = self.spec.base_ejection_time.0.saturating_mul(host.ejections);
            if now - since >= lasts.min(self.spec.max_ejection_time.0) {
                host.ejected = None;
            }
        }
        self.choose();
    }

    fn choose(&mut self) {
        let fit = (0..self.hosts.len()).filter(|at| self.hosts[*at].ejected.is_none());
        self.eligible = fit.collect();
        if (self.eligible.len() as f64) < PANIC_THRESHOLD * self.hosts.len() as f64 {
            self.eligible = (0..self.hosts.len()).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outliers(more: serde_json::Value, endpoints: usize) -> Outliers {
        Outliers::new(&serde_json::from_value(more).unwrap(), endpoints)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_in_between_does_not() {
        let mut outliers = outliers(json!({}), 20);
        (0..4).for_each(|_| outliers.ended(s(0), 3, true));
        outliers.ended(s(0), 3, false);
        (0..4).for_each(|_| outliers.ended(s(0), 3, true));
        assert_eq!(outliers.eligible().len(), 20);
        outliers.ended(s(0), 3, true);
        assert!(!outliers.eligible().contains(&3));
    }

    #[test]
    fn the_second_ejection_lasts_twice_as_long() {
        let mut outliers = outliers(json!({"consecutive_5xx": 1, "base_ejection_time": "10s"}), 20);
        outliers.ended(s(1), 3, true);
        outliers.sweep(s(10));
        assert!(!outliers.eligible().contains(&3));
        outliers.sweep(s(20));
        assert!(outliers.eligible().contains(&3));
        outliers.ended(s(21), 3, true);
        [30, 40].into_iter().for_each(|at| outliers.sweep(s(at)));
        assert!(!outliers.eligible().contains(&3));
        outliers.sweep(s(50));
        assert!(outliers.eligible().contains(&3));
    }

    #[test]
    fn no_more_than_the_percentage_are_ejected_and_in_panic_none() {
        let mut few = outliers(json!({"consecutive_5xx": 1}), 20);
        (0..5).for_each(|at| few.ended(s(0), at, true));
        assert_eq!(few.eligible().len(), 18);
        let all = json!({"consecutive_5xx": 1, "max_ejection_percent": 100});
        let mut many = outliers(all, 4);
        (0..2).for_each(|at| many.ended(s(0), at, true));
        assert_eq!(many.eligible(), [2, 3]);
        many.ended(s(0), 2, true);
        assert_eq!(many.eligible(), [0, 1, 2, 3]);
    }
}
