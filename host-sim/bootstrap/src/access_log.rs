//! `envoy.config.accesslog.v3.AccessLog` with the file and stream sinks.

use std::path::PathBuf;

/// One access logger.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// How a line is made.
    pub format: AccessLogFormat,
    /// `log_format.omit_empty_values`: leave out (JSON) or print nothing for (text) what has no
    /// value, instead of `null` / `-`.
    pub omit_empty_values: bool,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogSink {
    /// `envoy.access_loggers.file`; the path may be `/dev/stdout`.
    File(PathBuf),
    /// `envoy.access_loggers.stdout`.
    Stdout,
    /// `envoy.access_loggers.stderr`.
    Stderr,
}

/// How an access log line is made.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessLogFormat {
    /// Envoy's default text format.
    Default,
    /// A format string; the line feed is its own affair, as in Envoy.
    Text(String),
    /// A JSON object whose strings are format strings.
    Json(serde_json::Map<String, serde_json::Value>),
}
