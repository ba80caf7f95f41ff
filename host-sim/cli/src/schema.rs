//! `host-sim schema`: JSON Schemas of the files that host-sim reads.

use clap::{Args, ValueEnum};
use std::io::Write;
use std::process::ExitCode;

/// Print the JSON Schema of a file that host-sim reads, for editors and other tools.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    host-sim schema scenario > scenario.schema.json\n\n\
    For the YAML language server, in the first line of a scenario:\n  \
    # yaml-language-server: $schema=scenario.schema.json\n\n\
    Exit codes: 0 printed, 2 unusable arguments.")]
pub(crate) struct SchemaArgs {
    /// Of which file.
    #[arg(value_enum)]
    file: File,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// What `host-sim run` runs.
    Scenario,
    /// What `host-sim simulate` runs.
    Experiment,
}

pub(crate) fn execute(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let schema = match args.file {
        File::Scenario => host_sim::json_schema(),
        File::Experiment => host_sim::simulate::experiment_schema(),
    };
    // Not println!, which panics when a reader such as `head` has gone.
    std::io::stdout().write_all(format!("{schema:#}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
