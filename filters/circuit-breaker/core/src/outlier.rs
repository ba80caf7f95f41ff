//! Endpoints that do much worse than those beside them.
//!
//! A failure rate of 20 percent is no reason to leave a cluster whose every endpoint fails that
//! often, for there is nowhere better to go, and a good one to leave the only endpoint that does. So
//! beside the fixed thresholds an endpoint may be compared with its peers, as Envoy's outlier
//! detection does: it is an outlier if its success rate is below the mean of all by more than
//! `stdev_factor` standard deviations. That says something only of clusters with some endpoints, and
//! of endpoints with some requests; below both bounds nobody is judged.

/// When an endpoint is an outlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// Endpoints with enough requests below which nobody is judged.
    pub minimum_hosts: u16,
    /// Requests within the window below which an endpoint is not looked at.
    pub request_volume: u32,
    /// Standard deviations below the mean.
    pub stdev_factor: f64,
}

impl SuccessRate {
    /// The least success rate that is no outlier, in percent, of endpoints with these; `None` if
    /// they are too few.
    pub fn threshold(&self, rates: &[f64]) -> Option<f64> {
        if rates.len() < usize::from(self.minimum_hosts) {
            return None;
        }
        let count = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / count;
        let variance = rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / count;
        Some(mean - self.stdev_factor * variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SuccessRate =
        SuccessRate { minimum_hosts: 5, request_volume: 100, stdev_factor: 1.9 };

    #[test]
    fn the_threshold_is_that_of_envoys_documentation() {
        // Mean 88, standard deviation 24.
        let threshold = RULE.threshold(&[100.0, 100.0, 100.0, 100.0, 40.0]).unwrap();
        assert!((threshold - (88.0 - 1.9 * 24.0)).abs() < 1e-9, "{threshold}");
        assert!(40.0 < threshold);
    }

    #[test]
    fn peers_that_are_all_as_bad_have_no_outlier() {
        let threshold = RULE.threshold(&[80.0; 5]).unwrap();
        assert!(threshold <= 80.0);
    }

    #[test]
    fn four_endpoints_are_too_few_to_tell() {
        assert_eq!(RULE.threshold(&[100.0, 100.0, 100.0, 0.0]), None);
    }
}
