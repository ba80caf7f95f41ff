//! Where the engine's words go: the application log and the access logs.

use crate::UnixNanos;
pub use host_sim_abi::LogLevel;

/// Receives the application log: what Envoy writes to stderr.
pub trait LogSink: Send + Sync {
    /// One line.
    fn log(&self, record: &LogRecord<'_>);

    /// Lines below this level are not built. Plugins read it with `proxy_get_log_level`.
    fn level(&self) -> LogLevel {
        LogLevel::Info
    }
}

/// One line of the application log.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// When.
    pub time: UnixNanos,
    /// How bad.
    pub level: LogLevel,
    /// `None` on the main thread, else the worker's index.
    pub worker: Option<u32>,
    /// Name of the plugin that speaks, or that the host speaks about.
    pub plugin: Option<&'a str>,
    /// Text, with Envoy's prefix `wasm log <name> <root_id> <vm_id>: ` where a plugin speaks.
    pub message: &'a str,
}

/// Receives finished access-log lines.
pub trait AccessLogSink: Send + Sync {
    /// One formatted line, newline included. `target` is the logger's path, or `/dev/stdout`,
    /// `/dev/stderr` for the stream loggers.
    fn write(&self, target: &str, line: &str);
}

/// Drops everything, for tests and benchmarks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl LogSink for Discard {
    fn log(&self, _record: &LogRecord<'_>) {}

    fn level(&self) -> LogLevel {
        LogLevel::Critical
    }
}

impl AccessLogSink for Discard {
    fn write(&self, _target: &str, _line: &str) {}
}
