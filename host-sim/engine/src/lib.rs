//! Envoy's proxy-wasm host without I/O: VMs, hostcalls, filter chains, workers, clusters.
//!
//! Sans-I/O, like quinn-proto: a [`Worker`] takes inputs and queues [`Output`]s, time comes from
//! one [`Clock`]. The live proxy and the simulator are two drivers of this one state machine, so
//! what a scenario proves is what the proxy does, retries and timeouts included.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod access_log;
mod attempt;
mod attributes;
mod bare;
mod base;
mod buffer;
pub mod calendar;
mod cel;
mod clock;
mod cluster;
mod config_update;
mod connection;
mod connection_manager;
mod deadline;
mod discovery;
mod downstream;
mod engine;
mod exchange;
mod exports;
mod fault;
mod filter_state;
mod flags;
mod grpc;
mod guest_memory;
pub mod header_mutation;
mod headers;
mod host_selection;
mod hostcalls;
mod http_call;
mod inbox;
mod inline_headers;
mod iteration;
mod limits;
mod listener;
pub mod load_balancer;
pub mod local_ratelimit;
mod local_reply;
mod module;
mod module_cache;
mod native_filter;
mod network_filter;
mod observer;
mod output;
mod plugin;
mod plugin_slot;
pub mod prometheus;
mod protobuf;
mod queue;
mod reentry;
pub mod retry;
pub mod rng;
mod route;
mod router;
mod shared_data;
mod sink;
mod stack;
mod stateful_session;
mod stats;
mod stream;
mod stream_limits;
mod tcp_proxy;
mod thread_state;
mod timer;
mod values;
mod vm;
mod vm_slot;
mod wasm_filter;
mod worker;

pub use bare::{BareOutcome, BareReply, Direction};
pub use clock::{Clock, SystemClock, UnixNanos};
pub use cluster::Cluster;
pub use downstream::{
    CertificateInfo, Downstream, Protocol, TlsInfo, UpstreamFailure, UpstreamFailureKind,
    UpstreamLink,
};
pub use engine::{Engine, EngineOptions, ModuleLoads, StartError};
pub use flags::ResponseFlags;
pub use headers::Headers;
pub use limits::Limits;
pub use module_cache::ModuleCache;
pub use observer::{CallbackEnd, HostcallView, Observer, Origin, Verdict};
pub use output::{AttemptId, ConnectionId, ExchangeId, Output};
pub use shared_data::SharedData;
pub use sink::{AccessLogSink, Discard, LogLevel, LogRecord, LogSink};
pub use stack::{Frame, Place, Trap, authors_place};
pub use stats::{Counter, Gauge, HISTOGRAM_BOUNDS, Histogram, StatValue, Stats};
pub use worker::{Turn, Worker};
