//! `host-sim run`: scenarios on a virtual clock.

use crate::Unusable;
use crate::cache::CacheArgs;
use clap::{Args, ValueEnum};
use host_sim::{Format, RunOptions};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run scenario files on a virtual clock.
///
/// A scenario names a bootstrap or a part of the suite, scripts its endpoints, sends requests,
/// lets time pass and says what must hold. Same file and seed, same result.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim run tests/scenarios\n  \
    host-sim run tests/scenarios/circuit_breaker --format junit > report.xml\n  \
    host-sim run slow-start.yaml --seed 7\n\n\
    Exit codes: 0 all held, 1 an expectation failed, 2 a scenario could not be run, or there was \
    none.")]
pub(crate) struct RunArgs {
    /// Scenario files, or folders searched for .yaml files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to report; all but text go to stdout when everything has run, and text to stderr
    /// meanwhile.
    #[arg(long, value_enum, default_value_t = Report::Text)]
    format: Report,
    /// Seed of every random choice, instead of the files' own.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Form of the report.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Report {
    /// A line a scenario, reasons below those that failed.
    Text,
    /// One JSON document.
    Json,
    /// For CI systems.
    Junit,
    /// The Test Anything Protocol, version 13.
    Tap,
}

impl From<Report> for Format {
    fn from(report: Report) -> Self {
        match report {
            Report::Text => Self::Text,
            Report::Json => Self::Json,
            Report::Junit => Self::Junit,
            Report::Tap => Self::Tap,
        }
    }
}

pub(crate) fn execute(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let options = RunOptions { seed: args.seed, module_cache: args.cache.modules() };
    let report = host_sim::run(&args.paths, &options, |outcome| {
        // A long run is watched; the other formats are one document at the end.
        match args.format {
            Report::Text => print!("{}", outcome.text()),
            _ => eprint!("{}", outcome.text()),
        }
    })
    .map_err(|error| Unusable(error.to_string()))?;
    match args.format {
        Report::Text => print!("{}", report.summary()),
        format => print!("{}", report.render(format.into())),
    }
    Ok(ExitCode::from(report.exit_code()))
}
