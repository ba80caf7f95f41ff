//! `host-sim run`: scenarios on a virtual clock.

use crate::cache::CacheArgs;
use crate::{Unusable, source};
use clap::{Args, ValueEnum};
use host_sim::{Format, Progress, RunOptions, Trace};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Run scenario files on a virtual clock.
///
/// A scenario names a bootstrap or a part of the suite, scripts its endpoints, sends requests,
/// lets time pass and says what must hold. Same file and seed, same result.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim run tests/scenarios\n  \
    host-sim run tests/scenarios/circuit_breaker --format junit > report.xml\n  \
    host-sim run slow-start.yaml --seed 7\n  \
    host-sim run tests.textpb --plugin target/wasm32-wasip1/release/my_plugin.wasm\n  \
    host-sim run slow-start.yaml --trace run.jsonl && host-sim run --replay run.jsonl\n  \
    host-sim run slow-start.yaml --repeat 1000 --jobs 2\n\n\
    Exit codes: 0 all held, 1 an expectation failed or two runs differed, 2 a scenario could not \
    be run, or there was none.")]
pub(crate) struct RunArgs {
    /// Scenario files, test suites of the service extensions' format (.textpb), or folders searched
    /// for either.
    #[arg(required_unless_present = "replay", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to report; all but text go to stdout when everything has run, and text to stderr
    /// meanwhile.
    #[arg(long, value_enum, default_value_t = Report::Text)]
    format: Report,
    /// Seed of every random choice, instead of the files' own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Module of .textpb suites, instead of their `wasm_path`.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Plugin configuration of .textpb suites, instead of their `config_path`.
    #[arg(long, value_name = "FILE")]
    plugin_config: Option<PathBuf>,
    /// Watch plugins for mistakes, and name them with place, rule and mend. A scenario that fails
    /// is explained without it.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Write everything that happens to a file, a line of JSON each: callbacks, hostcalls with
    /// status and a digest of their arguments, instructions, random numbers, both sides' events.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Run again what a trace records, and compare line by line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["paths", "seed", "trace", "repeat"])]
    replay: Option<PathBuf>,
    /// Run this many times, and compare the digests of the traces.
    #[arg(long, value_name = "N", conflicts_with = "trace", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Threads that repeat.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "repeat", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
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
    if let Some(file) = &args.replay {
        return replay(file);
    }
    let unusable = |error: std::io::Error| Unusable(error.to_string());
    let module_cache = args.cache.modules();
    let mut options = RunOptions {
        seed: args.seed,
        module_cache,
        explain: args.explain,
        plugin: args.plugin.clone(),
        plugin_config: args.plugin_config.clone(),
        ..RunOptions::default()
    };
    if let Some(times) = args.repeat {
        return repeat(args, &options, usize::try_from(times)?);
    }
    if let Some(file) = &args.trace {
        options.trace = Some(Trace::to_file(file).map_err(|e| named(file, &e))?);
    }
    let report = host_sim::run_watched(&args.paths, &options, watcher(args.format));
    let report = report.map_err(unusable)?;
    if let Some(trace) = &options.trace {
        let summary = trace.finish()?;
        eprintln!("trace: {} lines, sha256 {}", summary.lines, summary.digest);
    }
    tell_if_none(&report);
    match args.format {
        Report::Text => print!("{}", report.summary()),
        format => print!("{}", report.render(format.into())),
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Shows outcomes as they come, and on a terminal what is being run. The other formats are one
/// document at the end, a long run is watched all the same.
fn watcher(format: Report) -> impl FnMut(Progress<'_>) {
    let (stdout, stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
    move |event| {
        if stderr {
            // The line of what is being run goes before what was run comes.
            eprint!("\r\x1b[K");
        }
        match event {
            Progress::Begins { file, number, of } if stderr && of > 1 => {
                eprint!("[{number}/{of}] {}", file.display());
            }
            Progress::Begins { .. } => {}
            Progress::Ended(outcome) => {
                let coloured = if format == Report::Text { stdout } else { stderr };
                let text = if coloured { outcome.coloured() } else { outcome.text() };
                match format {
                    Report::Text => print!("{text}"),
                    _ => eprint!("{text}"),
                }
            }
        }
    }
}

/// Runs what a trace records.
fn replay(file: &Path) -> anyhow::Result<ExitCode> {
    let replayed = host_sim::replay(file).map_err(|error| named(file, &error))?;
    let Some(difference) = replayed.difference else {
        println!("{}: {} lines, all the same", file.display(), replayed.lines);
        return Ok(ExitCode::SUCCESS);
    };
    println!("{}: {difference}", file.display());
    Ok(ExitCode::FAILURE)
}

/// Runs the same again and again.
fn repeat(args: &RunArgs, options: &RunOptions, times: usize) -> anyhow::Result<ExitCode> {
    let watched = std::io::stderr().is_terminal();
    let progress = |done| {
        if watched {
            eprint!("\r{done} of {times} runs");
        }
    };
    let repeated = host_sim::repeat(&args.paths, options, times, args.jobs.into(), progress)
        .map_err(|error| Unusable(error.to_string()))?;
    if watched {
        eprintln!();
    }
    tell_if_none(&repeated.report);
    print!("{}", repeated.report.render(args.format.into()));
    let (lines, digest) = (repeated.trace.lines, &repeated.trace.digest);
    let mut told =
        format!("{} of {times} runs gave {lines} lines with sha256 {digest}\n", repeated.same);
    told.extend(repeated.others.iter().map(|other| format!("another gave {other}\n")));
    match args.format {
        Report::Text => print!("{told}"),
        // The other formats are one document.
        _ => eprint!("{told}"),
    }
    let all_same = repeated.others.is_empty();
    Ok(if all_same { ExitCode::from(repeated.report.exit_code()) } else { ExitCode::FAILURE })
}

/// The exit code alone would leave one guessing.
fn tell_if_none(report: &host_sim::Report) {
    if report.outcomes.is_empty() {
        eprintln!("host-sim: {}", source::NO_SCENARIO);
    }
}

fn named(file: &Path, error: &std::io::Error) -> Unusable {
    Unusable(format!("{}: {error}", file.display()))
}
