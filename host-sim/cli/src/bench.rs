//! `host-sim bench`: what a request costs.

mod table;

use crate::Unusable;
use crate::cache::CacheArgs;
use crate::format::Format;
use crate::header;
use crate::source;
use anyhow::anyhow;
use clap::Args;
use host_sim::bench::{self, BenchOptions, Costs, Speed, Start};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Count the instructions and hostcalls of a request.
///
/// Sends requests through the file's first listener on a virtual clock, to endpoints that answer
/// 200 after 3 ms with a load report. Instructions and hostcalls depend on nothing but the file,
/// the modules and the options: compare them between commits. A second run counts nothing and
/// measures how fast the simulator is on one thread of this machine.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim bench -c envoy-config/demo.yaml\n  \
    host-sim bench -c envoy-config/demo.yaml --format json | jq .per_request\n  \
    host-sim bench -c envoy.yaml --path /api --header 'x-tenant: acme'\n\n\
    Exit codes: 0 measured, 1 the file or a module is rejected, 2 unusable arguments.")]
pub(crate) struct BenchArgs {
    /// The Envoy bootstrap, YAML or JSON.
    #[arg(short, long = "config", alias = "config-path", value_name = "FILE")]
    config: PathBuf,
    /// How many requests to measure, after 1000 that are not.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Requests a second of virtual time: what filters do per second is spread over them.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Logical workers, each with VMs of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Seed of every random choice.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Path of the requests.
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// A header of the requests; an n in braces, as in the default, becomes a number below 100,
    /// another one each request.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header::parse, default_value = "x-client: client-{n}")]
    header: Vec<(String, String)>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    cache: CacheArgs,
}

/// All that was measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    costs: Costs,
    /// Of this machine, and of what the module cache holds.
    start: Start,
    /// Of this machine, unlike the rest.
    simulator: Speed,
}

pub(crate) fn execute(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let bootstrap = source::bootstrap(&args.config)?;
    let options = BenchOptions {
        requests: usize::try_from(args.requests)
            .map_err(|_| Unusable(format!("--requests {}: too many here", args.requests)))?,
        rate: args.rate,
        workers: args.workers.into(),
        seed: args.seed,
        path: args.path.clone(),
        headers: args.header.clone(),
        module_cache: args.cache.modules(),
        ..BenchOptions::default()
    };
    let rejected = |error| anyhow!("{} is rejected: {error}", args.config.display());
    let start = bench::startup(bootstrap.clone(), &options).map_err(rejected)?;
    let costs = bench::costs(bootstrap.clone(), &options).map_err(rejected)?;
    let simulator = bench::speed(bootstrap, &options).map_err(rejected)?;
    let report = Report { costs, start, simulator };
    args.format.print(&report, table::render)?;
    Ok(ExitCode::SUCCESS)
}
