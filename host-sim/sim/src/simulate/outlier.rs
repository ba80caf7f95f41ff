//! Envoy's outlier detection with its detectors: failures in a row act at once, in the request's path;
//! success rates and failure percentages act on a sweep, which also brings back who has served its
//! time. Failed connections count as 503, as without `split_external_local_origin_errors`.

mod statistics;

use super::draws::Draws;
use super::spec::arm::OutlierDetection;
use statistics::Interval;
use std::time::Duration;

/// Below this share of endpoints that are not ejected, ejections are ignored.
pub(crate) const PANIC_THRESHOLD: f64 = 0.5;

/// What one proxy thinks of its endpoints.
#[derive(Debug)]
pub(crate) struct Outliers {
    spec: OutlierDetection,
    hosts: Vec<HostState>,
    sweep: Duration,
    eligible: Vec<usize>,
    draws: Draws,
}

#[derive(Clone, Copy, Debug, Default)]
struct HostState {
    failures: u32,
    gateway_failures: u32,
    interval: Interval,
    ejected: Option<Duration>,
    /// How often, lately: each sweep in which it was not makes it one less.
    ejections: u32,
}

impl Outliers {
    /// Nobody is ejected. `draws` decide where a detector is enforced for some only.
    pub(crate) fn new(spec: &OutlierDetection, endpoints: usize, draws: Draws) -> Self {
        Self {
            spec: spec.clone(),
            hosts: vec![HostState::default(); endpoints],
            sweep: spec.interval.0,
            eligible: (0..endpoints).collect(),
            draws,
        }
    }

    /// Whom a policy may choose: who is not ejected, or all when too many are.
    pub(crate) fn eligible(&self) -> &[usize] {
        &self.eligible
    }

    /// Whether one is ejected, however many others are.
    pub(crate) fn has_ejected(&self, endpoint: usize) -> bool {
        self.hosts.get(endpoint).is_some_and(|host| host.ejected.is_some())
    }

    /// When the next sweep is due.
    pub(crate) fn deadline(&self) -> Duration {
        self.sweep
    }

    /// An attempt has ended with a status.
    pub(crate) fn ended(&mut self, now: Duration, endpoint: usize, status: u16) {
        let (failed, gateway) = (status >= 500, matches!(status, 502..=504));
        let host = &mut self.hosts[endpoint];
        host.interval.count(failed);
        host.failures = if failed { host.failures + 1 } else { 0 };
        host.gateway_failures = if gateway { host.gateway_failures + 1 } else { 0 };
        if gateway && host.gateway_failures == self.spec.consecutive_gateway_failure {
            host.gateway_failures = 0;
            self.eject(now, endpoint, self.spec.enforcing_consecutive_gateway_failure);
        }
        let host = &mut self.hosts[endpoint];
        if failed && host.failures >= self.spec.consecutive_5xx {
            host.failures = 0;
            self.eject(now, endpoint, self.spec.enforcing_consecutive_5xx);
        }
        self.choose();
    }

    /// Brings back whose time is over, and ejects whose numbers of the last interval are bad.
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
        let intervals = self.hosts.iter_mut().map(|host| {
            let interval = std::mem::take(&mut host.interval);
            (host.ejected.is_none()).then_some(interval)
        });
        let intervals: Vec<Option<Interval>> = intervals.collect();
        for endpoint in statistics::poor(&self.spec, &intervals) {
            self.eject(now, endpoint, self.spec.enforcing_success_rate);
        }
        for endpoint in statistics::failing(&self.spec, &intervals) {
            self.eject(now, endpoint, self.spec.enforcing_failure_percentage);
        }
        self.choose();
    }

    /// Unless it is ejected already, or too many are, or the draw says that this detector only
    /// looks on.
    fn eject(&mut self, now: Duration, endpoint: usize, enforcing: f64) {
        if self.hosts[endpoint].ejected.is_some() || self.draws.unit() * 100.0 >= enforcing {
            return;
        }
        let ejected = self.hosts.iter().filter(|host| host.ejected.is_some()).count();
        let full =
            100.0 * ejected as f64 / self.hosts.len() as f64 >= self.spec.max_ejection_percent;
        if full && !(self.spec.always_eject_one_host && ejected == 0) {
            return;
        }
        let host = &mut self.hosts[endpoint];
        host.ejected = Some(now);
        host.ejections += 1;
    }

    fn choose(&mut self) {
        let fit = (0..self.hosts.len()).filter(|at| self.hosts[*at].ejected.is_none());
        if fit.clone().eq(self.eligible.iter().copied()) {
            return;
        }
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
        let draws = Draws::new(1, "outliers", 0);
        Outliers::new(&serde_json::from_value(more).unwrap(), endpoints, draws)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_in_between_does_not() {
        let mut outliers = outliers(json!({}), 20);
        (0..4).for_each(|_| outliers.ended(s(0), 3, 503));
        outliers.ended(s(0), 3, 200);
        (0..4).for_each(|_| outliers.ended(s(0), 3, 503));
        assert_eq!(outliers.eligible().len(), 20);
        outliers.ended(s(0), 3, 500);
        assert!(!outliers.eligible().contains(&3));
    }

    #[test]
    fn gateway_failures_are_502_to_504_and_eject_only_where_that_is_enforced() {
        let only_gateway = json!({"consecutive_5xx": 100, "consecutive_gateway_failure": 3,
                                  "enforcing_consecutive_gateway_failure": 100});
        let mut enforced = outliers(only_gateway, 20);
        [502, 503, 500, 504, 503].into_iter().for_each(|status| enforced.ended(s(0), 3, status));
        assert_eq!(enforced.eligible().len(), 20);
        enforced.ended(s(0), 3, 502);
        assert!(!enforced.eligible().contains(&3));
        let mut default = outliers(json!({"consecutive_5xx": 100}), 20);
        (0..20).for_each(|_| default.ended(s(0), 3, 503));
        assert_eq!(default.eligible().len(), 20);
    }

    #[test]
    fn the_second_ejection_lasts_twice_as_long() {
        let mut outliers = outliers(json!({"consecutive_5xx": 1, "base_ejection_time": "10s"}), 20);
        outliers.ended(s(1), 3, 503);
        outliers.sweep(s(10));
        assert!(!outliers.eligible().contains(&3));
        outliers.sweep(s(20));
        assert!(outliers.eligible().contains(&3));
        outliers.ended(s(21), 3, 503);
        [30, 40].into_iter().for_each(|at| outliers.sweep(s(at)));
        assert!(!outliers.eligible().contains(&3));
        outliers.sweep(s(50));
        assert!(outliers.eligible().contains(&3));
    }

    #[test]
    fn no_more_than_the_percentage_are_ejected_and_in_panic_none() {
        let mut few = outliers(json!({"consecutive_5xx": 1}), 20);
        (0..5).for_each(|at| few.ended(s(0), at, 503));
        assert_eq!(few.eligible().len(), 18);
        let all = json!({"consecutive_5xx": 1, "max_ejection_percent": 100});
        let mut many = outliers(all, 4);
        (0..2).for_each(|at| many.ended(s(0), at, 503));
        assert_eq!(many.eligible(), [2, 3]);
        many.ended(s(0), 2, 503);
        assert_eq!(many.eligible(), [0, 1, 2, 3]);
    }

    #[test]
    fn of_few_one_is_ejected_where_that_is_wanted() {
        let none = json!({"consecutive_5xx": 1, "max_ejection_percent": 0});
        let mut kept = outliers(none, 5);
        kept.ended(s(0), 3, 503);
        assert_eq!(kept.eligible().len(), 5);
        let one = json!({"consecutive_5xx": 1, "max_ejection_percent": 0,
                         "always_eject_one_host": true});
        let mut one = outliers(one, 5);
        (2..4).for_each(|at| one.ended(s(0), at, 503));
        assert_eq!(one.eligible(), [0, 1, 3, 4]);
    }

    /// 20 endpoints with 200 answers each, of which the fourth fails so many.
    fn an_interval(outliers: &mut Outliers, failures: usize) {
        for endpoint in 0..20 {
            for at in 0..200 {
                let failed = endpoint == 3 && at % 200 < failures && at % 2 == 0;
                outliers.ended(s(1), endpoint, if failed { 500 } else { 200 });
            }
        }
        outliers.sweep(s(10));
    }

    #[test]
    fn a_success_rate_far_below_the_others_ejects_on_the_sweep() {
        let mut outliers = outliers(json!({}), 20);
        an_interval(&mut outliers, 40);
        assert!(!outliers.eligible().contains(&3));
        let mut off = super::tests::outliers(json!({"enforcing_success_rate": 0}), 20);
        an_interval(&mut off, 40);
        assert_eq!(off.eligible().len(), 20);
    }

    #[test]
    fn a_percentage_of_failures_ejects_only_where_that_is_enforced() {
        let more = json!({"enforcing_success_rate": 0, "enforcing_failure_percentage": 100,
                          "failure_percentage_threshold": 40});
        let mut enforced = outliers(more, 20);
        an_interval(&mut enforced, 200);
        assert!(!enforced.eligible().contains(&3));
    }
}
