//! What is known of one endpoint: health-signal writes it, whoever picks endpoints reads it.

use crate::{DecodeError, Endpoint, Key, Reader, Record, UnixNanos, Writer, key::fnv1a};

/// Most named metrics that are kept of one load report.
pub const MAX_NAMED_METRICS: u16 = 8;

/// How a named metric is called in a record: names are configured, and long.
pub fn metric_id(name: &str) -> u64 {
    fnv1a(name.as_bytes())
}

/// An endpoint's state, from worst to best but for `Unknown`, which is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Does not answer, or fails. Not picked.
    Down,
    /// Answers that it wants no new requests. Not picked, and no failure.
    Unready,
    /// Its circuit breaker is open, which is that breaker's own decision: a picker asks its record.
    BreakerOpen,
    /// Works, but has come and gone too often of late. Picked less.
    Suppressed,
    /// Works, but badly. Picked less.
    Degraded,
    /// Works again since a short while ago.
    Ramping,
    /// Works.
    Healthy,
    /// No signal, or all of them stale. Picked as an average endpoint would be.
    #[default]
    Unknown,
}

impl HealthState {
    /// True if new requests may go there.
    pub const fn is_pickable(self) -> bool {
        !matches!(self, Self::Down | Self::Unready)
    }

    /// True if it works, but is to be picked less than others.
    pub const fn is_impaired(self) -> bool {
        matches!(self, Self::Suppressed | Self::Degraded)
    }

    /// Place in the order of badness: 0 is the worst, and an unknown state is after all others.
    pub fn rank(self) -> u8 {
        self as u8
    }

    /// The name in logs, metrics and documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Unready => "unready",
            Self::BreakerOpen => "breaker_open",
            Self::Suppressed => "suppressed",
            Self::Degraded => "degraded",
            Self::Ramping => "ramping",
            Self::Healthy => "healthy",
        }
    }

    /// All states, each at the number that a record has for it.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Down,
        Self::Unready,
        Self::Degraded,
        Self::Healthy,
        Self::Ramping,
        Self::Suppressed,
        Self::BreakerOpen,
    ];

    /// The number of this state in records and metrics.
    pub fn number(self) -> u8 {
        let at = Self::ALL.iter().position(|state| *state == self);
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
    }
}

/// The parts of an ORCA `OrcaLoadReport` that weights are made of. Zero means not reported, as in
/// the protobuf message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// When it was received.
    pub received_at: UnixNanos,
    /// Share of the application's capacity in use; may exceed 1.
    pub application_utilization: f32,
    /// Share of the CPU in use; may exceed 1.
    pub cpu_utilization: f32,
    /// Share of memory in use, 0 to 1.
    pub mem_utilization: f32,
    /// Requests a second that the endpoint serves, from all of its clients.
    pub rps: f32,
    /// Errors a second.
    pub eps: f32,
    /// Named metrics and utilizations, by [`metric_id`]; at most [`MAX_NAMED_METRICS`].
    pub named: Vec<(u64, f32)>,
}

impl LoadReport {
    /// The metric with this name.
    pub fn named(&self, name: &str) -> Option<f32> {
        let wanted = metric_id(name);
        self.named.iter().find_map(|(id, value)| (*id == wanted).then_some(*value))
    }

    pub(crate) fn write_optional(report: Option<&Self>, out: &mut Writer) {
        out.u8(u8::from(report.is_some()));
        let Some(report) = report else { return };
        out.u64(report.received_at.as_nanos());
        out.f32(report.application_utilization);
        out.f32(report.cpu_utilization);
        out.f32(report.mem_utilization);
        out.f32(report.rps);
        out.f32(report.eps);
        out.list(&report.named, MAX_NAMED_METRICS, |out, (id, value)| {
            out.u64(*id);
            out.f32(*value);
        });
    }

    pub(crate) fn read_optional(input: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        match input.u8()? {
            0 => Ok(None),
            1 => Ok(Some(Self {
                received_at: UnixNanos::from_nanos(input.u64()?),
                application_utilization: input.f32()?,
                cpu_utilization: input.f32()?,
                mem_utilization: input.f32()?,
                rps: input.f32()?,
                eps: input.f32()?,
                named: input.list(MAX_NAMED_METRICS, |input| Ok((input.u64()?, input.f32()?)))?,
            })),
            _ => Err(DecodeError::Field),
        }
    }
}

/// A load report and the response that it came with, as one filter hands them to the next: who has
/// the report need not ask the proxy again.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedResponse {
    /// The endpoint that sent it.
    pub endpoint: Endpoint,
    /// Its status.
    pub status: u16,
    /// What it reports.
    pub report: LoadReport,
}

impl Record for ReportedResponse {
    const TAG: u8 = 20;

    fn write(&self, out: &mut Writer) {
        self.endpoint.write(out);
        out.u16(self.status);
        LoadReport::write_optional(Some(&self.report), out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (endpoint, status) = (Endpoint::read(input)?, input.u16()?);
        let report = LoadReport::read_optional(input)?.ok_or(DecodeError::Field)?;
        Ok(Self { endpoint, status, report })
    }
}

/// The one record of an endpoint's health.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointHealth {
    /// Its state.
    pub state: HealthState,
    /// When this record was written. A reader that finds it old takes the state as unknown.
    pub written_at: UnixNanos,
    /// Since when it has been in this state. A state that ramps up becomes healthy without a new
    /// beginning.
    pub state_since: UnixNanos,
    /// Requests of all workers that wait for it.
    pub in_flight: u32,
    /// Smoothed latency of successes over all workers, in microseconds; 0 if unknown.
    pub latency_us: u32,
    /// Smoothed share of attempts that failed, 0 to 1.
    pub error_ratio: f32,
    /// Requests that wait inside the endpoint, as its health answer says.
    pub queue_depth: Option<u32>,
    /// Connections that the endpoint has open, as its health answer says.
    pub connections: Option<u32>,
    /// Share of its usual traffic that the endpoint asks for, 1 if it asks for nothing else.
    pub weight: f32,
    /// Requests that the endpoint wants to have at the same time, if it says so.
    pub max_connections: Option<u32>,
    /// How much the endpoint has come and gone of late, as of `written_at`: the next leader goes on
    /// from there.
    pub flap_penalty: f32,
    /// Its newest load report.
    pub report: Option<LoadReport>,
}

impl Default for EndpointHealth {
    fn default() -> Self {
        Self {
            state: HealthState::Unknown,
            written_at: UnixNanos::ZERO,
            state_since: UnixNanos::ZERO,
            in_flight: 0,
            latency_us: 0,
            error_ratio: 0.0,
            queue_depth: None,
            connections: None,
            weight: 1.0,
            max_connections: None,
            flap_penalty: 0.0,
            report: None,
        }
    }
}

impl EndpointHealth {
    /// Where the record of `endpoint` in `cluster` is kept.
    pub fn key(cluster: &str, endpoint: Endpoint) -> Key<Self> {
        Key::new("health", &["endpoint", cluster, &endpoint.to_string()])
    }
}

impl Record for EndpointHealth {
    const TAG: u8 = 5;

    fn write(&self, out: &mut Writer) {
        out.u8(self.state.number());
        out.u64(self.written_at.as_nanos());
        out.u64(self.state_since.as_nanos());
        out.u32(self.in_flight);
        out.u32(self.latency_us);
        out.f32(self.error_ratio);
        for gauge in [self.queue_depth, self.connections, self.max_connections] {
            out.u8(u8::from(gauge.is_some()));
            out.u32(gauge.unwrap_or(0));
        }
        out.f32(self.weight);
        out.f32(self.flap_penalty);
        LoadReport::write_optional(self.report.as_ref(), out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let state = HealthState::ALL.get(usize::from(input.u8()?)).copied();
        Ok(Self {
            state: state.ok_or(DecodeError::Field)?,
            written_at: UnixNanos::from_nanos(input.u64()?),
            state_since: UnixNanos::from_nanos(input.u64()?),
            in_flight: input.u32()?,
            latency_us: input.u32()?,
            error_ratio: input.f32()?,
            queue_depth: optional_u32(input)?,
            connections: optional_u32(input)?,
            max_connections: optional_u32(input)?,
            weight: input.f32()?,
            flap_penalty: input.f32()?,
            report: LoadReport::read_optional(input)?,
        })
    }
}

fn optional_u32(input: &mut Reader<'_>) -> Result<Option<u32>, DecodeError> {
    match (input.u8()?, input.u32()?) {
        (0, _) => Ok(None),
        (1, value) => Ok(Some(value)),
        _ => Err(DecodeError::Field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    fn full() -> EndpointHealth {
        EndpointHealth {
            state: HealthState::Degraded,
            written_at: UnixNanos::from_secs(9),
            state_since: UnixNanos::from_secs(3),
            in_flight: 4,
            latency_us: 12_000,
            error_ratio: 0.25,
            queue_depth: Some(7),
            connections: None,
            weight: 0.5,
            max_connections: Some(64),
            flap_penalty: 1000.0,
            report: Some(LoadReport {
                received_at: UnixNanos::from_secs(8),
                application_utilization: 1.5,
                rps: 100.0,
                named: vec![(metric_id("rif"), 3.0)],
                ..LoadReport::default()
            }),
        }
    }

    #[test]
    fn a_full_and_an_empty_record_survive_the_round_trip() {
        for record in [full(), EndpointHealth::default()] {
            assert_eq!(decode::<EndpointHealth>(&encode(&record)), Ok(record));
        }
    }

    #[test]
    fn a_number_that_is_none_does_not_decode() {
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let record = EndpointHealth { error_ratio: bad, ..full() };
            assert_eq!(decode::<EndpointHealth>(&encode(&record)), Err(DecodeError::Field));
        }
    }

    #[test]
    fn a_named_metric_is_found_by_its_name() {
        let report = full().report.unwrap();
        assert_eq!((report.named("rif"), report.named("other")), (Some(3.0), None));
    }
}
