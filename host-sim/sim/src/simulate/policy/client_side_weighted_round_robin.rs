//! Weights from load reports: gRPC's A58, Envoy's `client_side_weighted_round_robin`.
//!
//! An endpoint's weight is what it serves over how busy it says it is, errors counted as business.
//! It is used when the endpoint has reported for long enough and not too long ago; the others get
//! the median of those that are used, as in Envoy.

use super::{Policy, PolicyKind, Scene, Schedule, Seen};
use crate::scenario::value::Span;
use crate::simulate::draws::Draws;
use crate::simulate::load_report::LoadReport;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// The shortest `weight_update_period`.
const SHORTEST_UPDATE: Duration = Duration::from_millis(100);

/// Envoy's `ClientSideWeightedRoundRobin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSideWeightedRoundRobin {
    /// How long an endpoint must have reported before its weight is used. Default `10s`.
    pub blackout_period: Span,
    /// How long a report is used. Default `180s`.
    pub weight_expiration_period: Span,
    /// How often weights take effect; at least `100ms`. Default `1s`.
    pub weight_update_period: Span,
    /// What an error share of 1 adds to utilization. Default 1.
    #[schemars(range(min = 0))]
    pub error_utilization_penalty: f64,
    /// Utilization is the highest of these, such as `named_metrics.queue`, where a report has any
    /// above 0. Default none: `application_utilization`, else `cpu_utilization`.
    pub metric_names_for_computing_utilization: Vec<String>,
}

impl Default for ClientSideWeightedRoundRobin {
    fn default() -> Self {
        Self {
            blackout_period: Span(Duration::from_secs(10)),
            weight_expiration_period: Span(Duration::from_secs(180)),
            weight_update_period: Span(Duration::from_secs(1)),
            error_utilization_penalty: 1.0,
            metric_names_for_computing_utilization: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Weighted {
    spec: ClientSideWeightedRoundRobin,
    reports: Vec<Report>,
    /// Those that are used until the next update.
    weights: Vec<f64>,
    next_update: Duration,
    schedule: Schedule,
}

/// What one endpoint has said.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    weight: u32,
    at: Duration,
    /// Since when there has always been one.
    since: Option<Duration>,
}

impl PolicyKind for ClientSideWeightedRoundRobin {
    fn policy(&self, endpoints: usize) -> Box<dyn Policy> {
        Box::new(Weighted {
            spec: self.clone(),
            reports: vec![Report::default(); endpoints],
            weights: vec![1.0; endpoints],
            next_update: Duration::ZERO,
            schedule: Schedule::default(),
        })
    }
}

impl ClientSideWeightedRoundRobin {
    /// The weight that a report makes; none if it says too little.
    fn weight(&self, report: &LoadReport) -> Option<u32> {
        // Envoy 1.38 and later: what is named comes first.
        let names = self.metric_names_for_computing_utilization.iter();
        let named = names.filter_map(|name| report.metric(name));
        let mut utilization = named.fold(0.0, f64::max);
        if utilization <= 0.0 {
            utilization = report.application_utilization;
        }
        if utilization <= 0.0 {
            utilization = report.cpu_utilization;
        }
        if report.rps <= 0.0 || utilization <= 0.0 {
            return None;
        }
        utilization += report.eps / report.rps * self.error_utilization_penalty;
        let weight = (report.rps / utilization).min(f64::from(u32::MAX)) as u32;
        (weight > 0).then_some(weight)
    }
}

impl Weighted {
    /// An endpoint's weight, if it may be used now. One that has expired must wait out the blackout
    /// again.
    fn usable(&mut self, now: Duration, endpoint: usize) -> Option<u32> {
        let report = &mut self.reports[endpoint];
        let since = report.since?;
        if now.saturating_sub(report.at) >= self.spec.weight_expiration_period.0 {
            report.since = None;
            return None;
        }
        (now.saturating_sub(since) >= self.spec.blackout_period.0).then_some(report.weight)
    }

    fn update(&mut self, now: Duration) {
        let usable: Vec<_> = (0..self.reports.len()).map(|at| self.usable(now, at)).collect();
        let mut known: Vec<u32> = usable.iter().flatten().copied().collect();
        known.sort_unstable();
        let other = median(&known);
        let weights: Vec<f64> =
            usable.into_iter().map(|weight| weight.map_or(other, f64::from)).collect();
        if weights != self.weights {
            self.weights = weights;
            self.schedule.clear();
        }
    }
}

/// Of sorted weights; of an even count the mean of the two in the middle, of none 1.
fn median(sorted: &[u32]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 1.0,
        Some(upper) if sorted.len() % 2 == 1 => f64::from(*upper),
        Some(upper) => f64::midpoint(f64::from(*upper), f64::from(sorted[middle - 1])),
    }
}

impl Policy for Weighted {
    fn pick(&mut self, scene: &Scene<'_>, draws: &mut Draws) -> Option<usize> {
        if scene.now >= self.next_update {
            let period = self.spec.weight_update_period.0.max(SHORTEST_UPDATE);
            self.next_update = scene.now + period;
            self.update(scene.now);
        }
        let weights = &self.weights;
        self.schedule.pick(scene.eligible, draws, |at| weights[at])
    }

    fn ended(&mut self, seen: &Seen) {
        let Some(weight) = seen.report.as_ref().and_then(|report| self.spec.weight(report)) else {
            return;
        };
        let report = &mut self.reports[seen.endpoint];
        report.since = report.since.or(Some(seen.now));
        (report.weight, report.at) = (weight, seen.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::policy::stage::Stage;

    fn report(rps: f64, utilization: f64, eps: f64) -> Option<LoadReport> {
        let application_utilization = utilization;
        Some(LoadReport { rps, eps, application_utilization, ..LoadReport::default() })
    }

    fn spec() -> ClientSideWeightedRoundRobin {
        let period = Span(Duration::from_secs(2));
        ClientSideWeightedRoundRobin {
            blackout_period: period,
            weight_expiration_period: Span(Duration::from_secs(10)),
            ..Default::default()
        }
    }

    fn at(stage: &mut Stage, seconds: u64) {
        stage.now = Duration::from_secs(seconds);
    }

    #[test]
    fn weight_is_rate_over_utilization_with_errors_as_utilization() {
        let weight = |report: Option<LoadReport>| spec().weight(&report.unwrap());
        assert_eq!(weight(report(100.0, 0.5, 0.0)), Some(200));
        assert_eq!(weight(report(100.0, 0.5, 50.0)), Some(100));
        assert_eq!(weight(report(0.0, 0.5, 0.0)), None);
        assert_eq!(weight(report(100.0, 0.0, 0.0)), None);
        let cpu = LoadReport { rps: 100.0, cpu_utilization: 0.25, ..LoadReport::default() };
        assert_eq!(spec().weight(&cpu), Some(400));
    }

    #[test]
    fn what_is_named_counts_before_the_rest_and_the_highest_of_it() {
        let names = ["named_metrics.rif", "named_metrics.queue", "named_metrics.unknown"];
        let metric_names_for_computing_utilization = names.map(str::to_owned).to_vec();
        let spec = ClientSideWeightedRoundRobin {
            metric_names_for_computing_utilization,
            ..Default::default()
        };
        let mut report =
            LoadReport { rps: 100.0, application_utilization: 0.5, ..LoadReport::default() };
        assert_eq!(spec.weight(&report), Some(200));
        (report.rif, report.queue) = (4, 1);
        assert_eq!(spec.weight(&report), Some(25));
    }

    #[test]
    fn shares_follow_weights_once_the_blackout_is_over() {
        let mut stage = Stage::new(&spec(), 2);
        for second in 0..=1 {
            at(&mut stage, second);
            stage.ended(0, Duration::ZERO, report(300.0, 1.0, 0.0));
            stage.ended(1, Duration::ZERO, report(100.0, 1.0, 0.0));
            assert_eq!(stage.counts(400), [200, 200], "second {second}");
        }
        at(&mut stage, 3);
        let counts = stage.counts(400);
        assert!(counts[0].abs_diff(300) <= 1, "{counts:?}");
    }

    #[test]
    fn who_does_not_report_gets_the_median_and_expired_weights_are_dropped() {
        let mut stage = Stage::new(&spec(), 4);
        for (endpoint, rps) in [(0, 100.0), (1, 200.0), (2, 600.0)] {
            stage.ended(endpoint, Duration::ZERO, report(rps, 1.0, 0.0));
        }
        at(&mut stage, 3);
        let counts = stage.counts(1100);
        assert!(counts[3].abs_diff(200) <= 1, "{counts:?}");
        at(&mut stage, 10);
        let counts = stage.counts(400);
        assert!(counts.iter().all(|count| count.abs_diff(100) <= 1), "{counts:?}");
    }

    #[test]
    fn the_median_of_an_even_count_is_between_the_two_in_the_middle() {
        assert_eq!((median(&[]), median(&[7]), median(&[1, 4])), (1.0, 7.0, 2.5));
    }
}
