//! Running scenario files.

use crate::lint::Level;
use crate::report::{Outcome, Report};
use crate::run::Run;
use crate::{ModuleCache, Observers, Scenario, Trace, textpb};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Endings of scenario files.
const SCENARIOS: [&str; 1] = ["yaml"];

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
    /// Module of `.textpb` suites, instead of the one they name.
    pub plugin: Option<PathBuf>,
    /// Configuration of `.textpb` suites, instead of the one they name.
    pub plugin_config: Option<PathBuf>,
    /// Watches plugins for mistakes in every run. Without it a scenario that fails is run again
    /// and watched, unless it is traced or observed.
    pub explain: bool,
}

/// Something that happens in a run of several files.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A file is begun.
    Begins {
        /// Which.
        file: &'a Path,
        /// The how-manieth, from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// One scenario of it has run with one number of workers, or one test.
    Ended(&'a Outcome),
}

/// Runs every scenario in `paths`, which are files, or folders searched for `.yaml` and `.textpb`
/// files. Calls `progress` after each.
///
/// # Errors
/// When a path cannot be read. What is wrong within a file is an [`Outcome`].
pub fn run(
    paths: &[PathBuf],
    options: &RunOptions,
    mut progress: impl FnMut(&Outcome),
) -> io::Result<Report> {
    run_watched(paths, options, |event| {
        if let Progress::Ended(outcome) = event {
            progress(outcome);
        }
    })
}

/// As [`run`], and the beginning of each file is told, too.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    paths: &[PathBuf],
    options: &RunOptions,
    mut watch: impl FnMut(Progress<'_>),
) -> io::Result<Report> {
    let endings: Vec<_> = SCENARIOS.iter().chain(&textpb::ENDINGS).copied().collect();
    let files = find_files(paths, &endings)?;
    let mut report = Report::default();
    let of = files.len();
    for (at, file) in files.iter().enumerate() {
        watch(Progress::Begins { file, number: at + 1, of });
        for outcome in run_file(file, options) {
            watch(Progress::Ended(&outcome));
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
    find_files(paths, &SCENARIOS)
}

/// What `paths` stand for: files as they are, and the files with one of `endings` in folders, in
/// alphabetical order.
///
/// # Errors
/// When a path cannot be read.
pub fn find_files(paths: &[PathBuf], endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    paths.iter().try_for_each(|path| collect(path, endings, &mut files))?;
    Ok(files)
}

fn collect(path: &Path, endings: &[&str], files: &mut Vec<PathBuf>) -> io::Result<()> {
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
        if entry.is_dir() || has_ending(&entry, endings) {
            collect(&entry, endings, files)?;
        }
    }
    Ok(())
}

fn has_ending(file: &Path, endings: &[&str]) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| endings.contains(&ending))
}

fn run_file(file: &Path, options: &RunOptions) -> Vec<Outcome> {
    if has_ending(file, &textpb::ENDINGS) {
        return textpb::run_file(file, options);
    }
    let base = file.parent().unwrap_or(Path::new("."));
    let parsed = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| Scenario::parse_in(&text, base).map_err(|error| error.to_string()));
    let scenario = match parsed {
        Ok(scenario) => scenario,
        Err(error) => return vec![Outcome::unusable(file, error)],
    };
    let run = |workers: &usize| {
        let outcome = run_once(&scenario, file, *workers, options);
        let observed = options.trace.is_some() || !options.observers.is_empty();
        if outcome.passed() || options.explain || observed {
            return outcome;
        }
        // The same again, watched: why it failed may well be a plugin's mistake.
        let explain = RunOptions { explain: true, ..options.clone() };
        let mut findings = run_once(&scenario, file, *workers, &explain).findings;
        findings.retain(|finding| finding.level >= Level::Warning);
        Outcome { findings, ..outcome }
    };
    let workers = options.workers.as_ref().map_or(&scenario.workers[..], std::slice::from_ref);
    workers.iter().map(run).collect()
}

fn run_once(scenario: &Scenario, file: &Path, workers: usize, options: &RunOptions) -> Outcome {
    let base = file.parent().unwrap_or(Path::new("."));
    let seed = options.seed.unwrap_or(scenario.seed);
    let start = Instant::now();
    if let Some(trace) = &options.trace {
        trace.run(file, workers, seed);
    }
    let mut linter = None;
    let run = Run::start(scenario, base, workers, seed, options, &mut linter);
    let (failures, unusable) = match run {
        Ok(mut run) => match run.steps(scenario) {
            Ok(failures) => (failures, None),
            Err(fault) => (Vec::new(), Some(fault)),
        },
        Err(fault) => (Vec::new(), Some(fault)),
    };
    Outcome {
        file: file.to_owned(),
        name: scenario.scenario.clone(),
        workers,
        seed,
        failures,
        unusable,
        notes: Vec::new(),
        findings: linter.map(|linter| linter.findings()).unwrap_or_default(),
        took: start.elapsed(),
    }
}
