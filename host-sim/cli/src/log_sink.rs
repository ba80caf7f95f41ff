//! The application log on stderr, in Envoy's format.

use crate::timestamp;
use clap::ValueEnum;
use host_sim_engine::{LogLevel, LogRecord, LogSink};
use std::io::Write;
use std::process;

/// `--log-level`, with Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Everything, hostcalls included.
    Trace,
    /// What a developer of plugins looks at.
    Debug,
    /// What an operator looks at.
    Info,
    /// Something is wrong, requests are served.
    Warn,
    /// Requests suffer.
    Error,
    /// The proxy suffers.
    Critical,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

/// Writes a line a record: `[time][pid][level][thread] message`.
pub(crate) struct Stderr {
    level: LogLevel,
}

impl Stderr {
    pub(crate) fn at(level: Level) -> Self {
        Self { level: level.into() }
    }
}

impl LogSink for Stderr {
    fn log(&self, record: &LogRecord<'_>) {
        let time = timestamp::utc(record.time);
        let thread = record.worker.map_or_else(|| "main".to_owned(), |n| format!("worker-{n}"));
        let level = name(record.level);
        let (id, message) = (process::id(), record.message);
        // A closed stderr is no reason to stop serving.
        let _ = writeln!(std::io::stderr(), "[{time}][{id}][{level}][{thread}] {message}");
    }

    fn level(&self) -> LogLevel {
        self.level
    }
}

const fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warning",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}
