//! What the engine says, kept for expectations.

use host_sim_engine::{AccessLogSink, LogLevel, LogRecord, LogSink};
use std::sync::Mutex;

/// Lines kept of each log. A scenario that writes more looks at metrics instead.
const MAX_LINES: usize = 100_000;

/// Keeps log lines in order.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    application: Mutex<Vec<String>>,
    access: Mutex<Vec<String>>,
}

impl Capture {
    /// Application log lines, oldest first.
    pub(crate) fn application(&self) -> Vec<String> {
        self.application.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// Access log lines, oldest first.
    pub(crate) fn access(&self) -> Vec<String> {
        self.access.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    fn keep(lines: &Mutex<Vec<String>>, line: String) {
        if let Ok(mut lines) = lines.lock()
            && lines.len() < MAX_LINES
        {
            lines.push(line);
        }
    }
}

impl LogSink for Capture {
    fn log(&self, record: &LogRecord<'_>) {
        Self::keep(&self.application, format!("[{:?}] {}", record.level, record.message));
    }

    fn level(&self) -> LogLevel {
        LogLevel::Info
    }
}

impl AccessLogSink for Capture {
    fn write(&self, _target: &str, line: &str) {
        Self::keep(&self.access, line.trim_end().to_owned());
    }
}
