//! `host-sim simulate`: load-balancing experiments on a virtual clock.

use crate::Unusable;
use crate::cache::CacheArgs;
use clap::{Args, ValueEnum};
use host_sim::simulate::{Experiment, Progress, Results, SimulateOptions, markdown, simulate};
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
    host-sim simulate mine.yaml --format html --out mine.html\n  \
    host-sim simulate a.yaml b.yaml --format markdown --out experiments.md\n\n\
    Exit codes: 0 simulated, whether or not what is expected holds, 1 an arm's bootstrap or plugins \
    are rejected, 2 a file cannot be used.")]
pub(crate) struct SimulateArgs {
    /// The experiments; several as text or Markdown only.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How many seeds each arm runs with, instead of the files'.
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
    /// One page for a repository: tables beside settings and commands, nothing of this machine.
    Markdown,
}

pub(crate) fn execute(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    // All are read before the first runs: a mistake in the last need not be waited for.
    let experiments = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    if experiments.len() > 1 && matches!(args.format, Report::Json | Report::Html) {
        return Err(
            Unusable("JSON and HTML are of one experiment: give one file".to_owned()).into()
        );
    }
    let mut texts = Vec::new();
    let mut all = Vec::new();
    for (file, experiment) in args.files.iter().zip(&experiments) {
        let options = SimulateOptions {
            seeds: args.seeds,
            jobs: args.jobs.into(),
            base: folder(file).to_owned(),
            module_cache: args.cache.modules(),
        };
        let begun = Instant::now();
        let mut watcher = Watcher::new(file);
        let results = simulate(experiment, &options, |progress| watcher.tell(progress))?;
        watcher.end();
        match args.format {
            Report::Text => texts.push(text(&results, begun.elapsed())),
            Report::Json => texts.push(results.json()),
            Report::Html => texts.push(results.html()),
            Report::Markdown => all.push((command(file, args.seeds), results)),
        }
    }
    let text = if args.format == Report::Markdown { markdown(&all) } else { texts.join("\n") };
    match &args.out {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(file) => {
            std::fs::write(file, text).map_err(|error| named(file, &error))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What gives the same figures.
fn command(file: &Path, seeds: Option<u64>) -> String {
    let seeds = seeds.map_or_else(String::new, |seeds| format!(" --seeds {seeds}"));
    format!("host-sim simulate {}{seeds}", file.display())
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
struct Watcher<'a> {
    file: &'a Path,
    terminal: bool,
    begun: Instant,
    told: Instant,
}

impl<'a> Watcher<'a> {
    fn new(file: &'a Path) -> Self {
        let now = Instant::now();
        Self { file, terminal: std::io::stderr().is_terminal(), begun: now, told: now }
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
        let file = self.file.display();
        let line = format!("{file} [{done}/{of}] {passed} s: {arm}, seed {seed}, {percent:.0} %");
        if self.terminal { eprint!("\r\x1b[K{line}") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
