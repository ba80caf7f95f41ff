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

use crate::signals::Signals;
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Watch traffic move away from a slow endpoint and a dead one.
///
/// Sends the same load through a proxy twice, by the listeners `native` and `weir` of one file, to
/// five endpoints of its own. Prints a table and writes report.json, and second by second
/// timeline.json.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    host-sim demo\n  \
    host-sim demo --host envoy --envoy /usr/local/bin/envoy\n  \
    host-sim demo --rate 800 --seconds 60 --seed 7\n\n\
    Exit codes: 0 the report is written, 1 the proxy did not start or the report cannot be \
    written, 2 unusable arguments, 128 and the signal's number if one came.")]
pub(crate) struct DemoArgs {
    /// Which host runs the file.
    #[arg(long, value_enum, default_value_t = HostKind::HostSim)]
    host: HostKind,
    /// The Envoy bootstrap, with a listener `native` and a listener `weir`.
    #[arg(short, long, value_name = "FILE", default_value = "envoy-config/demo.yaml")]
    config: PathBuf,
    /// Seconds of load in each arm.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(8..=600))]
    seconds: u64,
    /// Requests a second.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(50..=3000))]
    rate: u32,
    /// Fixes arrivals, clients and service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where report.json, timeline.json, the rendered bootstrap, logs and certificates go.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    out: PathBuf,
    /// The Envoy binary, for `--host envoy`.
    #[arg(long, value_name = "FILE", env = "ENVOY_BIN")]
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
pub(crate) fn execute(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let arms = runtime.block_on(async {
        let mut signals = Signals::catch()?;
        tokio::select! {
            arms = run::both_arms(args) => arms.map(Ok),
            // The arms are dropped here, and with them the proxy ends: no demo leaves one behind.
            signal = signals.next() => Ok(Err(signal)),
        }
    })?;
    let arms = match arms {
        Ok(arms) => arms,
        Err(signal) => return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))),
    };
    let report = report::Report { host: args.host.name(), arms };
    report.write(&args.out)?;
    report.print(args);
    Ok(ExitCode::SUCCESS)
}
