//! `host-sim sweep`: every hostcall of a scenario once answered wrongly.

use crate::cache::CacheArgs;
use crate::format::Format;
use crate::{Unusable, source};
use clap::Args;
use host_sim::sweep::{Sweep, SweepOptions, sweep};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Answer every hostcall of a scenario wrongly, one run each, and see whether plugins survive.
///
/// Plays the scenario once to see its hostcalls, then once for each of them and each status that
/// Envoy could answer there. Expectations do not count; no callback may trap, no request may be
/// left without an end, and every request that is answered without the fault must be answered with
/// it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim sweep my.yaml\n  \
    host-sim sweep my.yaml --plugin limiter --most 200\n  \
    host-sim sweep my.yaml --except proxy_log --format json\n\n\
    Exit codes: 0 no harm, 1 some fault does harm, 2 a scenario could not be run, or there was \
    none.")]
pub(crate) struct SweepArgs {
    /// Scenario files, or folders of .yaml files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only hostcalls of this plugin.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Leave the hostcalls of this name alone; may be given several times.
    #[arg(long, value_name = "HOSTCALL")]
    except: Vec<String>,
    /// At most so many faults a file, spread evenly over all.
    #[arg(long, value_name = "N")]
    most: Option<NonZeroUsize>,
    /// Logical workers. Default: the first number in the file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
    /// Seed of every random choice, instead of the file's own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How to print; the JSON object is by file.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    cache: CacheArgs,
}

pub(crate) fn execute(args: &SweepArgs) -> anyhow::Result<ExitCode> {
    let options = SweepOptions {
        workers: args.workers.map(usize::from),
        seed: args.seed,
        plugin: args.plugin.clone(),
        except: args.except.clone(),
        most: args.most,
        module_cache: args.cache.modules(),
        ..SweepOptions::default()
    };
    let files = source::scenarios(&args.paths)?;
    let mut all = serde_json::Map::new();
    let mut harmless = true;
    for file in files {
        let sweep: Sweep = sweep(&file, &options).map_err(Unusable)?;
        harmless &= sweep.findings.is_empty();
        match args.format {
            Format::Text => println!("{}: {sweep}", file.display()),
            Format::Json => drop(all.insert(file.display().to_string(), json!(sweep))),
        }
    }
    if args.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(ExitCode::from(u8::from(!harmless)))
}
