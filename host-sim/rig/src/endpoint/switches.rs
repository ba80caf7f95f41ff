//! What can be broken at an endpoint while it runs.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::load_report::{LoadReport, ReportFormat};

/// What an endpoint does instead of working.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fault {
    /// Nothing: it works.
    #[default]
    None,
    /// Answers this status without taking a slot. At once, it is a sinkhole: the fastest endpoint
    /// of its cluster, and the one that least-request policies like best.
    Respond {
        /// Status of the answer.
        status: u16,
        /// How long the answer takes.
        after: Duration,
        /// Share of requests hit, 0 to 1, drawn from the endpoint's seed.
        fraction: f64,
    },
    /// Never answers; the request lasts until its client gives up.
    Hang,
    /// Resets the connection (TCP RST) instead of answering.
    ResetBeforeHeaders,
    /// Sends response headers and a part of the body, then resets the connection.
    ResetAfterHeaders,
}

impl Fault {
    /// Answers every request with `status`, at once.
    pub fn respond(status: u16) -> Self {
        Self::Respond { status, after: Duration::ZERO, fraction: 1.0 }
    }
}

/// What the load report says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ReportSource {
    /// What the endpoint measures of itself.
    #[default]
    Measured,
    /// Always this.
    Fixed(LoadReport),
    /// This header value, as it stands: for reports no honest endpoint would send.
    Raw(String),
}

/// Slower than usual for a while, as a process is with cold caches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cold {
    /// Service times are multiplied by this.
    pub factor: f64,
    /// For this long after the start.
    pub duration: Duration,
}

/// The switches of one endpoint. The default is an endpoint that works.
#[derive(Clone, Debug)]
pub(crate) struct Switches {
    pub(crate) work: Fault,
    pub(crate) health: Fault,
    pub(crate) slow_factor: f64,
    pub(crate) cold: Option<(f64, Instant)>,
    pub(crate) ready: bool,
    pub(crate) degraded: bool,
    /// The text `/healthz` repeats instead of the time.
    pub(crate) frozen_timestamp: Option<String>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) report: ReportSource,
    pub(crate) report_format: ReportFormat,
    pub(crate) response_headers: Vec<(String, String)>,
}

impl Switches {
    /// All as it should be, with reports in this format.
    pub(crate) fn healthy(report_format: ReportFormat) -> Self {
        Self {
            work: Fault::None,
            health: Fault::None,
            slow_factor: 1.0,
            cold: None,
            ready: true,
            degraded: false,
            frozen_timestamp: None,
            grpc_status: None,
            report: ReportSource::Measured,
            report_format,
            response_headers: Vec::new(),
        }
    }

    /// What service times are multiplied by at this time.
    pub(crate) fn factor(&self, now: Instant) -> f64 {
        match self.cold {
            Some((cold, until)) if now < until => self.slow_factor * cold,
            _ => self.slow_factor,
        }
    }

    /// For `GET /rig`.
    pub(crate) fn view(&self, now: Instant) -> SwitchesView {
        SwitchesView {
            work: format!("{:?}", self.work),
            health: format!("{:?}", self.health),
            factor: self.factor(now),
            ready: self.ready,
            degraded: self.degraded,
            frozen: self.frozen_timestamp.is_some(),
            grpc_status: self.grpc_status,
            report_format: self.report_format,
        }
    }
}

/// The switches as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct SwitchesView {
    work: String,
    health: String,
    factor: f64,
    ready: bool,
    degraded: bool,
    frozen: bool,
    grpc_status: Option<u32>,
    report_format: ReportFormat,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cold_endpoint_warms_up_when_its_time_has_passed() {
        let now = Instant::now();
        let mut switches = Switches::healthy(ReportFormat::Text);
        switches.slow_factor = 2.0;
        switches.cold = Some((4.0, now + Duration::from_secs(5)));
        assert_eq!(switches.factor(now), 8.0);
        assert_eq!(switches.factor(now + Duration::from_secs(5)), 2.0);
    }
}
