//! `host-sim demo`: one load, two arms, one table.
//!
//! Five endpoints on loopback: one is five times slower than the others, one dies and comes back
//! cold. The same open-loop load goes through the proxy twice, first by the listener where the
//! cluster's own policy decides, then by the one with the suite in front. Each arm gets a fresh
//! proxy process on the same file, so neither warms the other up, and nothing is left out of the
//! measurement: what the suite needs to learn is in its numbers.

mod cast;
mod file;
mod report;
mod run;

use anyhow::Context;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Watch traffic move away from a slow endpoint and a dead one.
///
/// Sends the same load through a proxy twice, by the listeners `native` and `weir` of one file, to
/// five endpoints of its own. Prints a table and writes report.json. Exit code 1 if the proxy does
/// not start or the report cannot be written.
///
/// Examples:
///
///   host-sim demo
///   host-sim demo --host envoy --envoy /usr/local/bin/envoy
///   host-sim demo --rate 800 --seconds 60 --seed 7
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct DemoArgs {
    /// Which host runs the file.
    #[arg(long, value_enum, default_value_t = HostKind::HostSim)]
    host: HostKind,
    /// The Envoy bootstrap, with a listener `native` and a listener `weir`.
    #[arg(short, long, default_value = "envoy-config/demo.yaml")]
    config: PathBuf,
    /// Seconds of load in each arm.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(8..=600))]
    seconds: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(50..=3000))]
    rate: u32,
    /// Fixes arrivals, clients and service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where report.json, the rendered bootstrap, logs and certificates go.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// The Envoy binary, for `--host envoy`.
    #[arg(long, env = "ENVOY_BIN")]
    envoy: Option<PathBuf>,
}

/// A host that reads an Envoy bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostKind {
    /// host-sim's live proxy.
    HostSim,
    /// Real Envoy.
    Envoy,
}

impl HostKind {
    /// The name in the report.
    const fn name(self) -> &'static str {
        match self {
            Self::HostSim => "host-sim",
            Self::Envoy => "envoy",
        }
    }
}

impl DemoArgs {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Runs both arms, prints the table, writes the report.
pub(crate) fn execute(args: &DemoArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let arms = runtime.block_on(run::both_arms(args))?;
    let report = report::Report { host: args.host.name(), arms };
    report.write(&args.out.join("report.json"))?;
    report.print(args);
    Ok(())
}
