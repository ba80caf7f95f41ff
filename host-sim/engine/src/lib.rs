//! Envoy's proxy-wasm host without I/O: VMs, hostcalls, filter chains, workers, clusters.
//!
//! Sans-I/O, like quinn-proto: a [`Worker`] takes inputs and queues [`Output`]s, time comes from
//! one [`Clock`]. The live proxy and the simulator are two drivers of this one state machine, so
//! what a scenario proves is what the proxy does, retries and timeouts included.

mod clock;
mod cluster;
mod downstream;
mod engine;
mod headers;
mod output;
mod shared_data;
mod sink;
mod stats;
mod worker;

pub use clock::{Clock, SystemClock, UnixNanos};
pub use cluster::Cluster;
pub use downstream::{Downstream, Protocol, TlsInfo, UpstreamFailure, UpstreamFailureKind};
pub use engine::{Engine, EngineOptions, StartError};
pub use headers::Headers;
pub use output::{AttemptId, ExchangeId, Output};
pub use shared_data::SharedData;
pub use sink::{AccessLogSink, Discard, LogLevel, LogRecord, LogSink};
pub use stats::{Counter, Gauge, HISTOGRAM_BOUNDS, Histogram, StatValue, Stats};
pub use worker::Worker;
