//! The experiments in real Envoy: P99 of native policies, of an oracle, and of the suite, with paired
//! seeds; and what failures cost.
//!
//! ```sh
//! make experiments-envoy ARGS="--seeds 10 --concurrency 1"
//! ```
//!
//! Takes the machine for itself: two cores at least, nothing else running. Writes as it goes, a line
//! for each run on stderr, and the page at the end.

mod failures;
mod latency;
mod table;

use anyhow::Context;
use clap::Parser;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use weir_tests::Host;
use weir_tests::experiment::Arm;

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
    /// Seconds that are measured, after 5 of warm-up.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Rows of the P99 table, such as `strong-0.75`; several with commas. Default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    rows: Vec<String>,
    /// Arms of the P99 table. Default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    arms: Vec<Arm>,
    /// Leave out the P99 table.
    #[arg(long)]
    no_latency: bool,
    /// Leave out the failures.
    #[arg(long)]
    no_failures: bool,
    /// Deaths under load with retries on.
    #[arg(long, value_name = "N", default_value_t = 100)]
    cycles: u64,
    /// Write the page to a file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // One thread for endpoints and load: on two cores the proxy has the other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let page = runtime.block_on(run(&args))?;
    match &args.out {
        None => print!("{page}"),
        Some(file) => {
            std::fs::write(file, page).with_context(|| file.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &Args) -> anyhow::Result<String> {
    let host = Host::Envoy(args.envoy.clone());
    let mut page = String::from(PREFACE);
    for workers in &args.concurrency {
        if !args.no_latency {
            page.push_str(&latency::section(args, &host, *workers).await?);
        }
        if !args.no_failures {
            page.push_str(&failures::section(args, &host, *workers).await?);
        }
    }
    Ok(page)
}

const PREFACE: &str = "# What routing does in real Envoy, measured

Written by `make experiments-envoy`. 20 endpoints of 4 slots wait on timers, lognormal work with mean 40 ms
and CV 1; open-loop Poisson load from the same process; clients wait 2 s; no retries unless said. Medians
over seeds with 95 % intervals; all arms of a seed get the same arrivals. The policy to beat is full scan.
Latency runs from when a request was due, so the proxy and this machine are in it.
";
