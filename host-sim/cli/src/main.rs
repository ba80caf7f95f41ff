//! The `host-sim` command: one file a subcommand.
//!
//! Exit codes: 0 it worked; 1 the file, module, scenario or run failed; 2 the arguments cannot be
//! used (clap's own errors included), so nothing was tried.

mod bench;
mod cache;
mod certs;
mod check;
mod conform;
mod demo;
mod endpoints;
mod explore;
mod format;
mod header;
mod inspect;
mod lint;
mod load;
mod log_sink;
mod run;
mod schema;
mod serve;
mod signals;
mod simulate;
mod source;
mod sweep;
mod timestamp;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A proxy-wasm host that runs the files Envoy runs: as a live proxy, and on a virtual clock.
#[derive(Parser)]
#[command(name = "host-sim", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Check(check::CheckArgs),
    Run(run::RunArgs),
    Schema(schema::SchemaArgs),
    Sweep(sweep::SweepArgs),
    Explore(explore::ExploreArgs),
    Simulate(simulate::SimulateArgs),
    Bench(bench::BenchArgs),
    Inspect(inspect::InspectArgs),
    Lint(lint::LintArgs),
    Endpoints(endpoints::EndpointsArgs),
    Load(load::LoadArgs),
    Certs(certs::CertsArgs),
    Conform(conform::ConformArgs),
    Demo(demo::DemoArgs),
}

/// Something in the arguments that cannot be used: exit code 2.
#[derive(Debug)]
struct Unusable(String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

fn main() -> ExitCode {
    let done = match &Cli::parse().command {
        Command::Serve(args) => serve::execute(args),
        Command::Check(args) => check::execute(args),
        Command::Run(args) => run::execute(args),
        Command::Schema(args) => schema::execute(args),
        Command::Sweep(args) => sweep::execute(args),
        Command::Explore(args) => explore::execute(args),
        Command::Simulate(args) => simulate::execute(args),
        Command::Bench(args) => bench::execute(args),
        Command::Inspect(args) => inspect::execute(args),
        Command::Lint(args) => lint::execute(args),
        Command::Endpoints(args) => endpoints::execute(args),
        Command::Load(args) => load::execute(args),
        Command::Certs(args) => certs::execute(args),
        Command::Conform(args) => conform::execute(args),
        Command::Demo(args) => demo::execute(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("host-sim: {error:#}");
        ExitCode::from(if error.is::<Unusable>() { 2 } else { 1 })
    })
}
