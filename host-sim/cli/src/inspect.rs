//! `host-sim inspect`: what a module is and wants.

mod facts;
mod table;

use crate::Unusable;
use crate::format::Format;
use anyhow::Context;
use clap::Args;
use facts::Facts;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show a module's ABI, imports, exports, sections, size and hash.
///
/// Nothing is executed. What makes Envoy refuse the module is named with what to do instead.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim inspect dist/metric_router.wasm\n  \
    host-sim inspect dist/metric_router.wasm --format json | jq -r .sha256\n\n\
    Exit codes: 0 printed, 1 not a WebAssembly module, 2 unusable arguments.")]
pub(crate) struct InspectArgs {
    /// A .wasm file.
    module: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn execute(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let place = args.module.display();
    let bytes = fs::read(&args.module)
        .map_err(|error| Unusable(format!("cannot read {place}: {error}")))?;
    let mut facts =
        Facts::of(&bytes).with_context(|| format!("{place} is no WebAssembly module"))?;
    let name = args.module.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    facts.findings = host_sim::lint::lint_module(&name, &bytes).map_err(anyhow::Error::msg)?;
    args.format.print(&facts, table::render)?;
    Ok(ExitCode::SUCCESS)
}
