//! The experiments in real Envoy: P99 of native policies, of an oracle, and of the suite, with paired
//! seeds; and what failures cost.
//!
//! ```sh
//! make experiments-envoy ARGS="--seeds 10 --concurrency 1"
//! ```
//!
//! Takes the machine for itself: two cores at least, nothing else running. Every run is a line in a
//! file of results as soon as it is over, and the page is written anew from that file after every
//! seed: what breaks off is not lost, and `--resume` goes on where it did. A run that fails is a
//! line too; the others go on, and the program fails at its end.

mod failures;
mod latency;
mod page;
mod record;
mod table;

use anyhow::{Context, ensure};
use clap::Parser;
use record::{Length, Outcome, Record, Results, Run};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use weir_tests::Host;
use weir_tests::experiment::Arm;

/// How often a run is tried, before it is left out.
const TRIES: usize = 4;

/// Runs the experiments in real Envoy.
#[derive(Parser, Debug)]
pub(crate) struct Args {
    /// The Envoy binary.
    #[arg(long, value_name = "FILE", env = "ENVOY_BIN")]
    envoy: PathBuf,
    /// Seeds, from 1 on. Each is the same requests for every arm.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seeds: u64,
    /// Workers of Envoy; several as `1,2`.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    concurrency: Vec<NonZeroU32>,
    /// Seconds of load before what is measured of the P99 table.
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: u64,
    /// Seconds that are measured.
    #[arg(long, value_name = "N", default_value_t = 8)]
    seconds: u64,
    /// Rows of the P99 table, such as `strong-0.75`; several with commas. Default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    rows: Vec<String>,
    /// Failures, such as `death`; several with commas. Default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    cases: Vec<String>,
    /// Arms; several with commas. Default those that a row or a failure is measured with.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    arms: Vec<Arm>,
    /// Leave out the P99 table.
    #[arg(long)]
    no_latency: bool,
    /// Leave out the failures.
    #[arg(long)]
    no_failures: bool,
    /// Deaths under load with retries on; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = 100)]
    cycles: u64,
    /// How often these are run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    cycle_runs: u64,
    /// Minutes after which no further seed begins.
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// How much of a core others than the proxy, the endpoints and the load may take, the machine's own
    /// host among them. A run with more counts for nothing, and is made again.
    #[arg(long, value_name = "CORES", default_value_t = 0.1)]
    others: f64,
    /// Leave it to the scheduler which cores the proxy and the load run on.
    #[arg(long)]
    unpinned: bool,
    /// Where results are kept, a line of JSON a run.
    #[arg(long, value_name = "FILE", default_value = "target/experiments-envoy.jsonl")]
    results: PathBuf,
    /// Keep what the file of results holds, and run only what it lacks. Else it begins anew.
    #[arg(long)]
    resume: bool,
    /// Write the page to a file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // One thread for endpoints and load: on two cores the proxy has the other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failed = runtime.block_on(all(&args))?;
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{failed} runs failed: see {}", args.results.display());
    Ok(ExitCode::FAILURE)
}

/// How many runs failed.
async fn all(args: &Args) -> anyhow::Result<usize> {
    check(args)?;
    let host = Host::Envoy(args.envoy.clone());
    let mut results = Results::open(&args.results, args.resume)?;
    let (start, modules) = (Instant::now(), page::modules()?);
    let mut failed = 0;
    for (seed, runs) in plan(args) {
        let over = args.minutes.is_some_and(|own| start.elapsed() >= Duration::from_secs(60 * own));
        if over {
            eprintln!("the time is up: seed {seed} and later ones are left out");
            break;
        }
        for run in runs {
            if results.has(&run) {
                continue;
            }
            for _ in 0..TRIES {
                let outcome = one(args, &host, &run).await.unwrap_or_else(|error| {
                    failed += 1;
                    Outcome::Failed(format!("{error:#}"))
                });
                let outcome = outcome.judged(args.others);
                eprintln!("{run}: {outcome}");
                let is_disturbed = matches!(outcome, Outcome::Disturbed(_));
                results.add(Record { run: run.clone(), modules: modules.clone(), outcome })?;
                if !is_disturbed {
                    break;
                }
            }
        }
        write(args, &results)?;
    }
    if args.out.is_none() {
        print!("{}", page::page(&results));
    }
    Ok(failed)
}

fn check(args: &Args) -> anyhow::Result<()> {
    let rows: Vec<&str> = latency::ROWS.iter().map(|row| row.name).collect();
    let unknown = args.rows.iter().find(|name| !rows.contains(&name.as_str()));
    ensure!(unknown.is_none(), "no row {unknown:?}: there are {}", rows.join(", "));
    let cases: Vec<&str> = failures::CASES.iter().map(|case| case.name()).collect();
    let unknown = args.cases.iter().find(|name| !cases.contains(&name.as_str()));
    ensure!(unknown.is_none(), "no failure {unknown:?}: there are {}", cases.join(", "));
    ensure!(args.seeds >= 1 && args.seconds >= 1, "give at least one seed and one second");
    Ok(())
}

/// What to run, a seed after the other: when time runs out, all rows have the same seeds. Arms take
/// turns within a row, so that a machine that gets slower does so for all, and none is always first.
fn plan(args: &Args) -> Vec<(u64, Vec<Run>)> {
    let mut plan = Vec::new();
    let wanted =
        |names: &[String], name: &str| names.is_empty() || names.iter().any(|own| own == name);
    let turns = |of: &[Arm], seed: u64| -> Vec<Arm> {
        let mut arms = if args.arms.is_empty() { of.to_vec() } else { args.arms.clone() };
        let turn = usize::try_from(seed).unwrap_or(0) % arms.len().max(1);
        arms.rotate_left(turn);
        arms
    };
    for workers in args.concurrency.iter().map(|workers| workers.get()) {
        let runs = |experiment: &str, seed: u64, arms: &[Arm]| -> Vec<Run> {
            let run = |arm| Run { experiment: experiment.to_owned(), workers, seed, arm };
            turns(arms, seed).into_iter().map(run).collect()
        };
        if !args.no_latency {
            let rows = latency::ROWS.iter().filter(|row| wanted(&args.rows, row.name));
            plan.extend((1..=args.seeds).map(|seed| {
                (seed, rows.clone().flat_map(|row| runs(row.name, seed, row.arms)).collect())
            }));
        }
        if !args.no_failures {
            let cases = failures::CASES.iter().filter(|case| wanted(&args.cases, case.name()));
            let single = cases.clone().filter(|case| **case != failures::Case::Cycles);
            plan.extend((1..=args.seeds).map(|seed| {
                let all = single.clone();
                (seed, all.flat_map(|case| runs(case.name(), seed, case.arms())).collect())
            }));
            let cycles = cases.filter(|case| **case == failures::Case::Cycles && args.cycles > 0);
            plan.extend(cycles.flat_map(|case| {
                (1..=args.cycle_runs).map(|seed| (seed, runs(case.name(), seed, case.arms())))
            }));
        }
    }
    plan
}

async fn one(args: &Args, host: &Host, run: &Run) -> anyhow::Result<Outcome> {
    let row = latency::ROWS.iter().find(|row| row.name == run.experiment);
    if let Some(row) = row {
        let length = Length { warmup: args.warmup, measured: args.seconds };
        let p99 = latency::measure(host, row, run, length, !args.unpinned).await?;
        return Ok(Outcome::Latency((length, p99)));
    }
    let case = failures::CASES.iter().find(|case| case.name() == run.experiment);
    failures::measure(host, *case.context("an experiment")?, run, args.cycles, !args.unpinned).await
}

fn write(args: &Args, results: &Results) -> anyhow::Result<()> {
    let Some(file) = &args.out else { return Ok(()) };
    std::fs::write(file, page::page(results)).with_context(|| file.display().to_string())
}
