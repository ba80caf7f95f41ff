//! `host-sim conform`: the same cells in real Envoy and here.

use crate::Unusable;
use crate::format::Format;
use clap::Args;
use host_sim_conform::{Options, Progress, catalogue, conform};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Compare host-sim with real Envoy, cell by cell.
///
/// A probe module makes every hostcall in every callback, with good and bad arguments, in Envoy and
/// in host-sim, from one bootstrap file. Prints what differs.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim conform --envoy path/to/envoy\n  \
    host-sim conform --filter matrix/ --format json\n  \
    host-sim conform --list\n\n\
    Exit codes: 0 equal or explained, 1 something differs, 2 unusable arguments, or no Envoy.")]
pub(crate) struct ConformArgs {
    /// The Envoy binary. Default: $ENVOY_BIN, or else the one in .venv that `make setup` installs.
    #[arg(long, value_name = "BIN")]
    envoy: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print the cases, and run nothing.
    #[arg(long)]
    list: bool,
    /// Print the cells that are equal, too.
    #[arg(long)]
    all: bool,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn execute(args: &ConformArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        let mut out = std::io::stdout().lock();
        for case in catalogue() {
            let operations: usize = case.programs.iter().map(|(_, ops)| ops.len()).sum();
            writeln!(out, "{operations:>5} {}", case.name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let envoy = envoy(args)?;
    let options = Options { envoy, filter: args.filter.clone(), quick: false };
    let report = conform(&options, progress).map_err(|e| Unusable(format!("{e:#}")))?;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Text => {
            if args.all {
                for cell in &report.same {
                    let seen = cell.envoy.as_deref().unwrap_or_default();
                    writeln!(out, "{}\n  both:     {}", cell.cell, seen.replace('\n', "\n    "))?;
                }
            }
            writeln!(out, "{report}")?;
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn envoy(args: &ConformArgs) -> Result<PathBuf, Unusable> {
    let named = args.envoy.clone().or_else(|| std::env::var_os("ENVOY_BIN").map(Into::into));
    let found = named.or_else(installed);
    let none = "no Envoy: give --envoy BIN, set ENVOY_BIN, or run 'make setup'";
    let found = found.ok_or_else(|| Unusable(none.to_owned()))?;
    if found.is_file() {
        return Ok(found);
    }
    Err(Unusable(format!("{} is no file", found.display())))
}

/// What `make setup` installs.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir(".venv/lib").ok()?;
    let binaries = versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|binary| binary.is_file())
}

fn progress(progress: Progress<'_>) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let Progress { host, case, done, all } = progress;
        // A line that cannot be written is no reason to stop.
        let _ = write!(err, "\r\x1b[K{host} {done}/{all} {case}");
        let _ = err.flush();
    }
}
