//! A sweep as text.

use super::{Finding, Harm, Sweep};
use std::fmt;

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap { plugin, callback } => write!(f, "{plugin} trapped in {callback}"),
            Self::Hung(1) => f.write_str("a request has no end"),
            Self::Hung(count) => write!(f, "{count} requests have no end"),
            Self::Unanswered(1) => f.write_str("a request got no response"),
            Self::Unanswered(count) => write!(f, "{count} requests got no response"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nth, hostcall, plugin, callback, status, harm } = self;
        let callback = callback.unwrap_or("its initialisation");
        write!(f, "hostcall {nth}: {plugin}, {callback}: {hostcall} answered {status}: {harm}")
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        write!(
            f,
            "{} of {} faults over {} hostcalls: {} did harm, in {} a plugin refused to start",
            self.runs,
            self.faults,
            self.hostcalls,
            self.findings.len(),
            self.refused
        )
    }
}
