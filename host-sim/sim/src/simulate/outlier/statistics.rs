//! The detectors that compare endpoints over an interval.

use crate::simulate::spec::arm::OutlierDetection;

/// What an endpoint answered since the last sweep.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interval {
    answers: u32,
    failures: u32,
}

impl Interval {
    pub(super) fn count(&mut self, failed: bool) {
        self.answers += 1;
        self.failures += u32::from(failed);
    }

    /// Of 100; with answers only.
    fn success_rate(&self) -> f64 {
        100.0 - 100.0 * f64::from(self.failures) / f64::from(self.answers)
    }
}

/// Success rates of those that are not ejected and have answered often enough; nothing if these are
/// too few to be compared.
fn rates(intervals: &[Option<Interval>], volume: u32, hosts: u32) -> Vec<(usize, f64)> {
    let known = intervals.iter().enumerate().filter_map(|(at, own)| Some((at, own.as_ref()?)));
    let many = known.filter(|(_, own)| own.answers > 0 && own.answers >= volume);
    let rates: Vec<_> = many.map(|(at, own)| (at, own.success_rate())).collect();
    if rates.len() < hosts as usize { Vec::new() } else { rates }
}

/// Whose success rate is below the mean by more than `success_rate_stdev_factor` standard deviations.
pub(super) fn poor(spec: &OutlierDetection, intervals: &[Option<Interval>]) -> Vec<usize> {
    let (volume, hosts) = (spec.success_rate_request_volume, spec.success_rate_minimum_hosts);
    let rates = rates(intervals, volume, hosts);
    let count = rates.len().max(1) as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - variance.sqrt() * f64::from(spec.success_rate_stdev_factor) / 1e3;
    rates.into_iter().filter(|(_, rate)| *rate < threshold).map(|(at, _)| at).collect()
}

/// Who fails more than `failure_percentage_threshold` of its requests.
pub(super) fn failing(spec: &OutlierDetection, intervals: &[Option<Interval>]) -> Vec<usize> {
    let volume = spec.failure_percentage_request_volume;
    let rates = rates(intervals, volume, spec.failure_percentage_minimum_hosts);
    let fails = |(_, rate): &(usize, f64)| 100.0 - rate >= spec.failure_percentage_threshold;
    rates.into_iter().filter(fails).map(|(at, _)| at).collect()
}
