//! What plugins and the host said that somebody should read: warnings, errors, traps.
//!
//! An experiment whose plugin has trapped measured something else than it meant to, and no percentile
//! tells. So what is said at warn or above is kept, counted, and told with the result.

use host_sim_abi::LogLevel;
use host_sim_engine::{LogRecord, LogSink};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// Different lines that are kept of a run; of more, only how many.
const MOST_LINES: usize = 50;

/// How a VM's end is called that an experiment wants.
pub(crate) const KILLED: &str = "killed by the experiment";

/// A line and how often it was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Notice {
    /// How bad.
    pub severity: Severity,
    /// The plugin that said it, or of which the host did.
    pub plugin: String,
    /// Its text, numbers of contexts and the like included.
    pub text: String,
    /// How often, by any proxy of any run.
    pub times: u64,
}

/// How bad a notice is: the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A VM has trapped, or a plugin said something critical.
    Critical,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// A VM has ended because the experiment wanted it to.
    Killed,
}

/// Keeps them.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<Vec<Notice>>);

impl Notices {
    /// What was kept, the worst first.
    pub(crate) fn take(&self) -> Vec<Notice> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort();
        all
    }
}

impl LogSink for Notices {
    fn log(&self, record: &LogRecord<'_>) {
        let severity = match record.level {
            LogLevel::Critical if record.message.contains(KILLED) => Severity::Killed,
            LogLevel::Critical => Severity::Critical,
            LogLevel::Error => Severity::Error,
            LogLevel::Warn => Severity::Warning,
            LogLevel::Trace | LogLevel::Debug | LogLevel::Info => return,
        };
        let plugin = record.plugin.unwrap_or_default().to_owned();
        // Of whom is wanted dead it does not matter in which callback it died.
        let killed = severity == Severity::Killed;
        let text = if killed { KILLED } else { record.message }.to_owned();
        let notice = Notice { severity, plugin, text, times: 1 };
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), notice);
    }

    fn level(&self) -> LogLevel {
        LogLevel::Warn
    }
}

/// The notices of several runs as one list, the worst first.
pub(crate) fn merged(runs: impl Iterator<Item = Notice>) -> Vec<Notice> {
    let mut all = Vec::new();
    runs.for_each(|notice| add(&mut all, notice));
    all.sort();
    all
}

fn add(all: &mut Vec<Notice>, notice: Notice) {
    let same = |own: &&mut Notice| {
        (own.severity, &own.plugin, &own.text) == (notice.severity, &notice.plugin, &notice.text)
    };
    if let Some(known) = all.iter_mut().find(same) {
        known.times += notice.times;
    } else if all.len() < MOST_LINES {
        all.push(notice);
    } else {
        let Notice { severity, plugin, times, .. } = notice;
        let text = "(more that was said differently)".to_owned();
        let rest = Notice { severity, plugin, text, times };
        match all.iter_mut().find(|own| own.severity == severity && own.text == rest.text) {
            Some(known) => known.times += times,
            None => all.push(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sim_engine::UnixNanos;

    fn log(notices: &Notices, level: LogLevel, message: &str) {
        let time = UnixNanos::default();
        notices.log(&LogRecord { time, level, worker: None, plugin: Some("p"), message });
    }

    #[test]
    fn what_is_worst_comes_first_and_the_same_is_counted() {
        let notices = Notices::default();
        for _ in 0..3 {
            log(&notices, LogLevel::Warn, "no signal");
        }
        log(&notices, LogLevel::Info, "configured");
        log(&notices, LogLevel::Critical, "wasm plugin p: trap");
        log(&notices, LogLevel::Critical, &format!("wasm plugin p: {KILLED}"));
        let all = notices.take();
        let told: Vec<_> = all.iter().map(|own| (own.severity, own.times)).collect();
        let expected = [(Severity::Critical, 1), (Severity::Warning, 3), (Severity::Killed, 1)];
        assert_eq!(told, expected);
        let twice = merged(all.clone().into_iter().chain(all));
        assert_eq!(twice.iter().map(|own| own.times).collect::<Vec<_>>(), [2, 6, 2]);
    }

    #[test]
    fn a_flood_of_different_lines_is_counted_and_not_kept() {
        let notices = Notices::default();
        (0..1000).for_each(|at| log(&notices, LogLevel::Error, &format!("line {at}")));
        let all = notices.take();
        assert_eq!(all.len(), MOST_LINES + 1);
        assert_eq!(all.iter().map(|own| own.times).sum::<u64>(), 1000);
    }
}
