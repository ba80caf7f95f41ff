//! Running scenario files.

use crate::report::{Outcome, Report};
use crate::run::Run;
use crate::{ModuleCache, Observers, Scenario, Trace};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How scenarios are run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Instead of the seeds in the files.
    pub seed: Option<u64>,
    /// Compiled modules on disk.
    pub module_cache: ModuleCache,
    /// Instead of the numbers of workers in the files.
    pub workers: Option<usize>,
    /// Where everything that happens is written. Counts instructions, too.
    pub trace: Option<Trace>,
    /// Who else sees what happens, or interferes: before the scenario's own faults do.
    pub observers: Observers,
}

/// Runs every scenario in `paths`, which are files, or folders searched for `.yaml` files. Calls
/// `progress` after each.
///
/// # Errors
/// When a path cannot be read. What is wrong within a file is an [`Outcome`].
pub fn run(
    paths: &[PathBuf],
    options: &RunOptions,
    mut progress: impl FnMut(&Outcome),
) -> io::Result<Report> {
    let files = scenario_files(paths)?;
    let mut report = Report::default();
    for file in files {
        for outcome in run_file(&file, options) {
            progress(&outcome);
            report.outcomes.push(outcome);
        }
    }
    Ok(report)
}

/// The scenarios among `paths`, which are files, or folders searched for `.yaml` files.
///
/// # Errors
/// When a path cannot be read.
pub fn scenario_files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    paths.iter().try_for_each(|path| collect(path, &mut files))?;
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let naming =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if !path.is_dir() {
        std::fs::metadata(path).map_err(naming)?;
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(path)
        .map_err(naming)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let is_yaml = entry.extension().is_some_and(|ending| ending == "yaml");
        if entry.is_dir() || is_yaml {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

fn run_file(file: &Path, options: &RunOptions) -> Vec<Outcome> {
    let base = file.parent().unwrap_or(Path::new("."));
    let parsed = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| Scenario::parse_in(&text, base).map_err(|error| error.to_string()));
    let scenario = match parsed {
        Ok(scenario) => scenario,
        Err(error) => return vec![Outcome::unusable(file, error)],
    };
    let run = |workers: &usize| {
        let seed = options.seed.unwrap_or(scenario.seed);
        let start = Instant::now();
        if let Some(trace) = &options.trace {
            trace.run(file, *workers, seed);
        }
        let (failures, unusable) = match Run::start(&scenario, base, *workers, seed, options) {
            Ok(mut run) => match run.steps(&scenario) {
                Ok(failures) => (failures, None),
                Err(fault) => (Vec::new(), Some(fault)),
            },
            Err(fault) => (Vec::new(), Some(fault)),
        };
        Outcome {
            file: file.to_owned(),
            name: scenario.scenario.clone(),
            workers: *workers,
            seed,
            failures,
            unusable,
            took: start.elapsed(),
        }
    };
    let workers = options.workers.as_ref().map_or(&scenario.workers[..], std::slice::from_ref);
    workers.iter().map(run).collect()
}
