//! `host-sim check`: what `envoy --mode validate` does.

use crate::cache::CacheArgs;
use crate::log_sink::{Level, Stderr};
use crate::source;
use anyhow::Context;
use clap::Args;
use host_sim::lint::{Level as Severity, Linter};
use host_sim_proxy::{Proxy, ProxyOptions};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Check a bootstrap file without serving it.
///
/// Reads the file strictly, compiles the modules, runs each plugin's start and configuration in a
/// canary VM, and reads the certificates. No port is opened. What Envoy takes otherwise than meant
/// is told as by `host-sim lint`, as far as a start shows it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim check -c envoy-config/demo.yaml\n\n\
    Exit codes: 0 good, 1 rejected (every problem is printed), 2 unusable arguments.")]
pub(crate) struct CheckArgs {
    /// The Envoy bootstrap, YAML or JSON.
    #[arg(short, long = "config", alias = "config-path", value_name = "FILE")]
    config: PathBuf,
    /// Least serious lines to log: what the modules say.
    #[arg(short, long, value_enum, default_value_t = Level::Warn)]
    log_level: Level,
    #[command(flatten)]
    cache: CacheArgs,
}

pub(crate) fn execute(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let bootstrap = source::bootstrap(&args.config)?;
    let mut options = ProxyOptions::default();
    options.engine.log = Arc::new(Stderr::at(args.log_level));
    options.engine.module_cache = args.cache.modules();
    let place = args.config.display();
    let linter = Arc::new(Linter::new(&bootstrap, None));
    options.engine.observer = Some(linter.clone());
    let checked = Proxy::check(bootstrap, &options);
    for finding in linter.findings().iter().filter(|finding| finding.level >= Severity::Warning) {
        eprintln!("{finding}\n");
    }
    checked.with_context(|| format!("{place} is rejected"))?;
    println!("{place}: OK");
    Ok(ExitCode::SUCCESS)
}
