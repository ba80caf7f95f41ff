//! What an endpoint can say of its load, by a closed list of names.
//!
//! A page, a Prometheus sample and a load report may all tell the same thing, so they are all read
//! into the same few signals. `custom.*` is for what only the operator knows the meaning of: it is
//! handed on as a named metric, under which name the router's policies find it.

use shared_state::{LoadReport, metric_id};

/// The name of requests in flight, as a named metric of a load report.
const RIF: &str = "named_metrics.rif";

/// One kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Requests that the endpoint works on, from all of its clients.
    Rif,
    /// Requests that wait inside it.
    QueueDepth,
    /// Connections that it has open.
    Connections,
    /// Share of the CPU in use.
    CpuUtilization,
    /// Share of memory in use, 0 to 1.
    MemUtilization,
    /// Share of the application's capacity in use.
    ApplicationUtilization,
    /// Requests a second, from all clients.
    Rps,
    /// Errors a second.
    Eps,
    /// Another one, by [`metric_id`] of the name under which it is handed on.
    Custom(u64),
}

impl Signal {
    /// All with a name of their own.
    pub const NAMED: [(&'static str, Self); 8] = [
        ("rif", Self::Rif),
        ("queue_depth", Self::QueueDepth),
        ("connections", Self::Connections),
        ("cpu_utilization", Self::CpuUtilization),
        ("mem_utilization", Self::MemUtilization),
        ("application_utilization", Self::ApplicationUtilization),
        ("rps", Self::Rps),
        ("eps", Self::Eps),
    ];

    /// The signal called `name`, such as `queue_depth` or `custom.sessions`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(own) = name.strip_prefix("custom.") {
            let known = !own.is_empty();
            return known.then(|| Self::Custom(metric_id(&format!("named_metrics.{own}"))));
        }
        Self::NAMED.iter().find_map(|(known, signal)| (*known == name).then_some(*signal))
    }

    /// True if it is a share of something.
    pub const fn is_utilization(self) -> bool {
        matches!(self, Self::CpuUtilization | Self::MemUtilization | Self::ApplicationUtilization)
    }

    /// What a report says of it; `None` where it says nothing, which zero stands for.
    pub fn reported(self, report: &LoadReport) -> Option<f64> {
        let id = match self {
            Self::CpuUtilization => return said(report.cpu_utilization),
            Self::MemUtilization => return said(report.mem_utilization),
            Self::ApplicationUtilization => return said(report.application_utilization),
            Self::Rps => return said(report.rps),
            Self::Eps => return said(report.eps),
            Self::Rif => metric_id(RIF),
            Self::QueueDepth => metric_id("named_metrics.queue_depth"),
            Self::Connections => metric_id("named_metrics.connections"),
            Self::Custom(id) => id,
        };
        report.named.iter().find_map(|(other, value)| (*other == id).then_some((*value).into()))
    }

    /// Writes it into a report, if there is a place for it.
    pub fn report(self, value: f64, report: &mut LoadReport) {
        let number = (value as f32).clamp(0.0, f32::MAX);
        let id = match self {
            Self::CpuUtilization => return report.cpu_utilization = number,
            Self::MemUtilization => return report.mem_utilization = number.min(1.0),
            Self::ApplicationUtilization => return report.application_utilization = number,
            Self::Rps => return report.rps = number,
            Self::Eps => return report.eps = number,
            // These have fields of their own in an endpoint's record.
            Self::QueueDepth | Self::Connections => return,
            Self::Rif => metric_id(RIF),
            Self::Custom(id) => id,
        };
        if let Some((_, value)) = report.named.iter_mut().find(|(other, _)| *other == id) {
            *value = number;
        } else if report.named.len() < usize::from(shared_state::MAX_NAMED_METRICS) {
            report.named.push((id, number));
        }
    }
}

fn said(number: f32) -> Option<f64> {
    (number > 0.0).then_some(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_the_list_is_none() {
        for (name, signal) in Signal::NAMED {
            assert_eq!(Signal::named(name), Some(signal), "{name}");
        }
        assert!(matches!(Signal::named("custom.sessions"), Some(Signal::Custom(_))));
        for name in ["", "custom", "custom.", "Rif", "latency", "queue"] {
            assert_eq!(Signal::named(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_written_into_a_report_is_read_from_it() {
        let mut report = LoadReport::default();
        let signals = Signal::NAMED.iter().map(|(_, signal)| *signal);
        for signal in signals.chain(Signal::named("custom.x")) {
            signal.report(0.5, &mut report);
            let own_field = matches!(signal, Signal::QueueDepth | Signal::Connections);
            assert_eq!(signal.reported(&report), (!own_field).then_some(0.5), "{signal:?}");
        }
        assert_eq!(
            (report.named("named_metrics.rif"), report.named("named_metrics.x")),
            (Some(0.5), Some(0.5))
        );
    }

    #[test]
    fn a_record_can_hold_whatever_is_reported() {
        for value in [f64::MAX, f64::INFINITY, -1.0, 1e-300, 7.0] {
            let mut report = LoadReport::default();
            for (_, signal) in Signal::NAMED {
                signal.report(value, &mut report);
            }
            let record =
                shared_state::EndpointHealth { report: Some(report), ..Default::default() };
            assert_eq!(shared_state::decode(&shared_state::encode(&record)), Ok(record), "{value}");
        }
    }
}
