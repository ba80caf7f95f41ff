//! What an endpoint tells about its load with every answer: ORCA.

use std::fmt::Write as _;

/// A load report, with the fields that policies read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LoadReport {
    /// Busy slots / slots, smoothed.
    pub(crate) cpu_utilization: f64,
    /// (Busy slots + queue) / slots, smoothed: above 1 when requests wait.
    pub(crate) application_utilization: f64,
    /// Requests a second.
    pub(crate) rps: f64,
    /// Errors a second.
    pub(crate) eps: f64,
    /// Requests in flight there, of all proxies, the one that carries the report among them.
    pub(crate) rif: usize,
    /// Requests that wait for a slot.
    pub(crate) queue: usize,
}

impl LoadReport {
    /// The header that carries it.
    pub(crate) const HEADER: &str = "endpoint-load-metrics";

    /// Of an endpoint that claims to have nothing to do.
    pub(crate) fn idle(rps: f64) -> Self {
        let (cpu_utilization, application_utilization) = (0.01, 0.01);
        Self { cpu_utilization, application_utilization, rps, eps: 0.0, rif: 1, queue: 0 }
    }

    /// What a name stands for, as Envoy's `metric_names_for_computing_utilization` writes it.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        match name {
            "cpu_utilization" => Some(self.cpu_utilization),
            "application_utilization" => Some(self.application_utilization),
            "named_metrics.rif" => Some(self.rif as f64),
            "named_metrics.queue" => Some(self.queue as f64),
            _ => None,
        }
    }

    /// As the header's value. Four decimals: what is measured is not more precise.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("TEXT ");
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "cpu_utilization={},application_utilization={},rps_fractional={},eps={},\
             named_metrics.rif={},named_metrics.queue={}",
            rounded(self.cpu_utilization),
            rounded(self.application_utilization),
            rounded(self.rps),
            rounded(self.eps),
            self.rif,
            self.queue
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lists_every_field() {
        let report = LoadReport {
            cpu_utilization: 0.5,
            application_utilization: 1.25,
            rps: 100.123_46,
            eps: 0.0,
            rif: 7,
            queue: 2,
        };
        assert_eq!(
            report.text(),
            "TEXT cpu_utilization=0.5,application_utilization=1.25,rps_fractional=100.1235,eps=0,\
             named_metrics.rif=7,named_metrics.queue=2"
        );
    }
}
