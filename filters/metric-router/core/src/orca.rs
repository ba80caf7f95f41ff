//! What a load report is worth: gRPC A58, as Envoy's `client_side_weighted_round_robin` does it.
//!
//! `weight = rps / (utilization + eps / rps * error_utilization_penalty)`: how many requests a
//! second the endpoint could serve at full utilization. A weight is used only when the endpoint has
//! reported for `blackout_period` (the first reports of a fresh process say little) and not longer
//! than `weight_expiration_period` after the last report. What has no usable weight takes the
//! median of those that have one.
//!
//! The known weakness: the reported rate follows the traffic, so an endpoint that got little is
//! believed to be capable of little, and convergence is slow. `least_cost` therefore believes a
//! report as far as the endpoint was busy: see [`OrcaWeight::rps`].

use crate::LoadReports;
use crate::ewma::{believable, decay};
use core::time::Duration;
use shared_state::{LoadReport, UnixNanos};

/// The weight of one endpoint over time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OrcaWeight {
    weight: f64,
    rps: f64,
    received_at: UnixNanos,
    non_empty_since: Option<UnixNanos>,
}

impl OrcaWeight {
    /// Takes up the newest report, whether or not it was seen before.
    pub fn observe(&mut self, report: &LoadReport, now: UnixNanos, rules: &LoadReports) {
        // A report from the future was received before the clock stepped back.
        let received_at = report.received_at.min(now);
        if now.since(received_at) >= rules.weight_expiration_period {
            return;
        }
        let Some(weight) = weight(report, rules) else { return };
        self.weight = weight;
        self.rps = f64::from(report.rps);
        self.received_at = received_at;
        self.non_empty_since.get_or_insert(now);
    }

    /// The weight, unless it is blacked out or has expired.
    pub fn usable(&mut self, now: UnixNanos, rules: &LoadReports) -> Option<f64> {
        let since = self.non_empty_since?;
        if now.since(self.received_at) >= rules.weight_expiration_period {
            // After silence the blackout applies again.
            self.non_empty_since = None;
            return None;
        }
        if since > now {
            // The clock stepped back: begin the blackout anew instead of waiting for it to return.
            self.non_empty_since = Some(now);
            self.received_at = self.received_at.min(now);
        }
        let reported_for = now.since(since.min(now));
        (reported_for >= rules.blackout_period).then_some(self.weight)
    }
}

impl OrcaWeight {
    /// The rate of the newest report, fading with its age: an endpoint that says nothing is not
    /// asked anything.
    pub fn rps(&self, now: UnixNanos, tau: Duration) -> f64 {
        self.rps * decay(now.since(believable(self.received_at, now)), tau)
    }
}

/// The weight a report stands for; `None` if it lacks what the formula needs.
fn weight(report: &LoadReport, rules: &LoadReports) -> Option<f64> {
    let rps = f64::from(report.rps);
    let named = rules.metric_names.iter().filter_map(|name| report.named(name));
    let utilization = [named.fold(0.0, f32::max), report.application_utilization]
        .into_iter()
        .find(|utilization| *utilization > 0.0)
        .unwrap_or(report.cpu_utilization);
    if rps <= 0.0 || utilization <= 0.0 {
        return None;
    }
    let errors = f64::from(report.eps) / rps * rules.error_utilization_penalty;
    let weight = rps / (f64::from(utilization) + errors);
    weight.is_normal().then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared_state::metric_id;

    fn rules() -> LoadReports {
        LoadReports {
            weight_update_period: Duration::from_secs(1),
            blackout_period: Duration::from_secs(10),
            weight_expiration_period: Duration::from_secs(180),
            error_utilization_penalty: 1.0,
            metric_names: vec!["queue".to_owned()],
        }
    }

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn report(secs: u64) -> LoadReport {
        LoadReport {
            received_at: at(secs),
            application_utilization: 0.5,
            cpu_utilization: 0.9,
            rps: 100.0,
            ..LoadReport::default()
        }
    }

    #[test]
    fn the_weight_is_the_rate_at_full_utilization() {
        assert_eq!(weight(&report(0), &rules()), Some(200.0));
    }

    #[test]
    fn named_metrics_go_before_the_application_and_that_before_the_cpu() {
        let named = LoadReport { named: vec![(metric_id("queue"), 0.25)], ..report(0) };
        assert_eq!(weight(&named, &rules()), Some(400.0));
        let cpu = LoadReport { application_utilization: 0.0, cpu_utilization: 0.25, ..report(0) };
        assert_eq!(weight(&cpu, &rules()), Some(400.0));
    }

    #[test]
    fn errors_count_as_utilization() {
        let failing = LoadReport { eps: 50.0, ..report(0) };
        assert_eq!(weight(&failing, &rules()), Some(100.0));
    }

    #[test]
    fn a_report_without_rate_or_utilization_has_no_weight() {
        assert_eq!(weight(&LoadReport { rps: 0.0, ..report(0) }, &rules()), None);
        let idle = LoadReport { application_utilization: 0.0, cpu_utilization: 0.0, ..report(0) };
        assert_eq!(weight(&idle, &rules()), None);
    }

    #[test]
    fn a_weight_is_used_when_the_blackout_is_over_and_not_before() {
        let mut state = OrcaWeight::default();
        state.observe(&report(100), at(100), &rules());
        assert_eq!(state.usable(at(109), &rules()), None);
        assert_eq!(state.usable(at(110), &rules()), Some(200.0));
    }

    #[test]
    fn an_expired_weight_is_gone_and_the_blackout_applies_again() {
        let mut state = OrcaWeight::default();
        state.observe(&report(100), at(100), &rules());
        assert_eq!(state.usable(at(279), &rules()), Some(200.0));
        assert_eq!(state.usable(at(280), &rules()), None);
        state.observe(&report(100), at(281), &rules());
        assert_eq!(state.usable(at(300), &rules()), None, "the old report does not come back");
        state.observe(&report(300), at(300), &rules());
        assert_eq!(state.usable(at(309), &rules()), None);
        assert_eq!(state.usable(at(310), &rules()), Some(200.0));
    }

    #[test]
    fn a_clock_that_steps_back_begins_the_blackout_anew() {
        let mut state = OrcaWeight::default();
        state.observe(&report(1000), at(1000), &rules());
        assert_eq!(state.usable(at(50), &rules()), None);
        assert_eq!(state.usable(at(60), &rules()), Some(200.0));
    }

    proptest! {
        #[test]
        fn no_report_gives_a_weight_that_is_no_number(
            rps in 0.0f32.., utilization in 0.0f32.., eps in 0.0f32..,
        ) {
            let odd = LoadReport {
                rps, eps, application_utilization: utilization, ..LoadReport::default()
            };
            if let Some(weight) = weight(&odd, &rules()) {
                prop_assert!(weight.is_finite() && weight > 0.0);
            }
        }
    }
}
