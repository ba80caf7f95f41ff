//! What was found, for people and for programs.

use super::rules::{Level, Rule};
use serde::Serialize;
use std::fmt;

/// One mistake of one plugin, however often it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the lint.
    pub lint: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Name of the plugin.
    pub plugin: String,
    /// The callback that ran.
    pub callback: Option<&'static str>,
    /// The hostcall with its arguments and answer.
    pub hostcall: Option<String>,
    /// File and line of the plugin, if its module says so.
    pub place: Option<String>,
    /// What happened.
    pub message: String,
    /// What Envoy does.
    pub rule: String,
    /// What to do instead.
    pub mend: String,
    /// Functions on the plugin's stack, innermost first.
    pub stack: Vec<String>,
    /// How often.
    pub count: u64,
}

impl Finding {
    /// A finding without a place in a run.
    pub(super) fn fixed(rule: &Rule, plugin: &str, message: String) -> Self {
        Self {
            lint: rule.name,
            level: rule.level,
            plugin: plugin.to_owned(),
            callback: None,
            hostcall: None,
            place: None,
            message,
            rule: rule.rule.to_owned(),
            mend: rule.mend.to_owned(),
            stack: Vec::new(),
            count: 1,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}[{}]: {}", self.level.as_str(), self.lint, self.message)?;
        write!(f, "  at    plugin {}", self.plugin)?;
        if let Some(callback) = self.callback {
            write!(f, ", {callback}")?;
        }
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        writeln!(f)?;
        if let Some(hostcall) = &self.hostcall {
            writeln!(f, "  call  {hostcall}")?;
        }
        if self.place.is_none() && !self.stack.is_empty() {
            writeln!(f, "  in    {}", self.stack.join(" < "))?;
        }
        writeln!(f, "  rule  {}", self.rule)?;
        write!(f, "  mend  {}", self.mend)
    }
}
