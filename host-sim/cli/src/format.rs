//! `--format`: how a command prints its result.

use clap::ValueEnum;
use serde::Serialize;
use std::io::Write;

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

impl Format {
    /// Prints `result` on stdout; `text` writes it for people.
    pub(crate) fn print<T: Serialize>(
        self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let output = match self {
            Self::Text => text(result),
            Self::Json => serde_json::to_string_pretty(result)? + "\n",
        };
        // Not print!, which panics when a reader such as `head` has gone.
        Ok(std::io::stdout().write_all(output.as_bytes())?)
    }
}
