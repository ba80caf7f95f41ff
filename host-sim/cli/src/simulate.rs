//! `host-sim simulate`: load-balancing experiments on a virtual clock.

use crate::Unusable;
use crate::cache::CacheArgs;
use clap::{Args, ValueEnum};
use host_sim::simulate::{Experiment, Progress, Results, SimulateOptions, simulate};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Compare load-balancing policies, and plugins as they are shipped, on a virtual clock.
///
/// An experiment file says what endpoints there are, what load comes, what breaks, and which arms
/// are compared. Every arm gets the same requests with the same work, seed by seed. Same file, same
/// result, on any number of threads.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim simulate tests/experiments/strong-0.75.yaml\n  \
    host-sim simulate tests/experiments/strong-0.75.yaml --seeds 20 --jobs 2\n  \
    host-sim simulate mine.yaml --format json | jq '.arms[].summary.all.p99'\n  \
    host-sim simulate mine.yaml --format html --out mine.html\n\n\
    Exit codes: 0 simulated, 1 an arm's bootstrap or plugins are rejected, 2 the file cannot be \
    used.")]
pub(crate) struct SimulateArgs {
    /// The experiment.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How many seeds each arm runs with, instead of the file's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: Option<u64>,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Form of the result.
    #[arg(long, value_enum, default_value_t = Report::Text)]
    format: Report,
    /// Write the result to a file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Report {
    /// Tables: medians over seeds, ratios of P99.
    Text,
    /// Every number, of every seed.
    Json,
    /// One page for a browser: tables, latency curves, each endpoint's share over time.
    Html,
}

pub(crate) fn execute(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let experiment = read(&args.file)?;
    let options = SimulateOptions {
        seeds: args.seeds,
        jobs: args.jobs.into(),
        base: folder(&args.file).to_owned(),
        module_cache: args.cache.modules(),
    };
    let begun = Instant::now();
    let mut watcher = Watcher::new();
    let results = simulate(&experiment, &options, |progress| watcher.tell(progress))?;
    watcher.end();
    let text = match args.format {
        Report::Text => text(&results, begun.elapsed()),
        Report::Json => results.json(),
        Report::Html => results.html(),
    };
    match &args.out {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(file) => {
            std::fs::write(file, text).map_err(|error| named(file, &error))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Experiment, Unusable> {
    let text = std::fs::read_to_string(file).map_err(|error| named(file, &error))?;
    Experiment::parse_in(&text, folder(file))
        .map_err(|error| Unusable(format!("{}:\n{error}", file.display())))
}

fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

fn named(file: &Path, error: &std::io::Error) -> Unusable {
    Unusable(format!("{}: {error}", file.display()))
}

/// The tables, and how long they took: of this machine, unlike the rest.
fn text(results: &Results, took: Duration) -> String {
    let requests: f64 = results.arms.iter().flat_map(|arm| &arm.runs).map(requests).sum();
    let seconds = took.as_secs_f64();
    format!("{}\n{requests:.0} requests in {seconds:.1} s of this machine\n", results.text())
}

fn requests(run: &host_sim::simulate::Run) -> f64 {
    run.values.get("all").and_then(|values| values.get("requests")).copied().unwrap_or(0.0)
}

/// Tells on stderr how far a long run is: on a terminal in one line, else a line now and then.
struct Watcher {
    terminal: bool,
    begun: Instant,
    told: Instant,
}

impl Watcher {
    fn new() -> Self {
        let now = Instant::now();
        Self { terminal: std::io::stderr().is_terminal(), begun: now, told: now }
    }

    fn tell(&mut self, progress: Progress<'_>) {
        let pause = Duration::from_millis(if self.terminal { 200 } else { 20_000 });
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let Progress { done, of, arm, seed, part } = progress;
        let percent = part * 100.0;
        let passed = self.begun.elapsed().as_secs();
        let line = format!("[{done}/{of}] {passed} s: {arm}, seed {seed}, {percent:.0} %");
        if self.terminal { eprint!("\r\x1b[K{line}") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
