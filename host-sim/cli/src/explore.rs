//! `host-sim explore`: the orders in which workers can run.

use crate::cache::CacheArgs;
use crate::{Unusable, source};
use anyhow::Context;
use clap::Args;
use host_sim::{ExploreOptions, Schedule, explore, replay_schedule};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Search the orders in which workers can run for one that breaks a scenario.
///
/// Runs each scenario again and again; each time workers take turns at other hostcalls, as the
/// seed decides, and all that the scenario expects must hold each time. A failure is made as small
/// as it gets and told step by step. The file's `explore: {same: [...]}` names what must not depend
/// on the order, besides: statuses, bodies, metrics, shared_data.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim explore tests/explore --schedules 10000 --jobs 2\n  \
    host-sim explore race.yaml --save race.json\n  \
    host-sim explore --replay race.json\n\n\
    Exit codes: 0 nothing was found, 1 something was, 2 a scenario could not be run, or there was \
    none.")]
pub(crate) struct ExploreArgs {
    /// Scenario files, or folders of .yaml files.
    #[arg(required_unless_present = "replay", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How many orders to try of each.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    schedules: u64,
    /// Seed of the orders, and of every other random choice.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How often a worker may be stopped in the middle of a callback.
    #[arg(long, value_name = "N", default_value_t = 6)]
    max_preemptions: usize,
    /// Number of workers, instead of the largest in the file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
    /// Runs at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Keep the first thing found in this file, to replay it.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Run a kept schedule again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["paths", "save"])]
    replay: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
}

pub(crate) fn execute(args: &ExploreArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.replay {
        return replay(args, file);
    }
    let options = ExploreOptions {
        schedules: args.schedules,
        seed: args.seed,
        max_preemptions: args.max_preemptions,
        workers: args.workers.map(usize::from),
        jobs: args.jobs.into(),
        module_cache: args.cache.modules(),
    };
    let files = source::scenarios(&args.paths)?;
    let watched = std::io::stderr().is_terminal();
    let (mut found, mut unusable, mut saved) = (false, false, false);
    for file in files {
        let explored = explore(&file, &options, |tried| {
            if watched && tried.is_multiple_of(50) {
                eprint!("\r{tried} of {}", args.schedules);
            }
        });
        if watched {
            eprint!("\r");
        }
        print!("{explored}");
        if !explored.passed() {
            println!("       in {}, seed {}", file.display(), args.seed);
        }
        unusable |= explored.unusable.is_some();
        if let Some(finding) = &explored.finding {
            found = true;
            if let Some(save) = args.save.as_deref().filter(|_| !saved) {
                let text = serde_json::to_string_pretty(&finding.schedule)?;
                std::fs::write(save, text).with_context(|| save.display().to_string())?;
                saved = true;
            }
        }
    }
    Ok(ExitCode::from(if unusable { 2 } else { u8::from(found) }))
}

fn replay(args: &ExploreArgs, file: &Path) -> anyhow::Result<ExitCode> {
    let unusable = |error: &dyn std::fmt::Display| Unusable(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unusable(&error))?;
    let schedule: Schedule = serde_json::from_str(&text).map_err(|error| unusable(&error))?;
    let finding = replay_schedule(&schedule, args.cache.modules()).map_err(|e| unusable(&e))?;
    let Some(finding) = finding else {
        println!("ok   {} holds under this schedule", schedule.file.display());
        return Ok(ExitCode::SUCCESS);
    };
    println!("FAIL {}", schedule.file.display());
    print!("{finding}");
    Ok(ExitCode::FAILURE)
}
