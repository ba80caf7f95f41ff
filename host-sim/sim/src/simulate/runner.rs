//! Runs every arm with every seed, on as many threads as asked.

use super::kernel::Kernel;
use super::native::Native;
use super::plugins::{Template, templates};
use super::proxy::Proxy;
use super::record::Record;
use super::results::{ArmKind, Results, Run};
use super::spec::{Arm, Experiment};
use crate::ModuleCache;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How an experiment is run.
#[derive(Clone, Debug)]
pub struct SimulateOptions {
    /// Instead of the number in the file.
    pub seeds: Option<u64>,
    /// Threads, at least one. The result does not depend on it.
    pub jobs: usize,
    /// Folder of the file, from which the files and modules it names are looked for.
    pub base: PathBuf,
    /// Compiled modules on disk.
    pub module_cache: ModuleCache,
}

impl Default for SimulateOptions {
    fn default() -> Self {
        let module_cache = ModuleCache::user();
        Self { seeds: None, jobs: 1, base: PathBuf::from("."), module_cache }
    }
}

/// How far an experiment is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Runs that have ended.
    pub done: usize,
    /// Of how many.
    pub of: usize,
    /// The arm that tells.
    pub arm: &'a str,
    /// Its seed.
    pub seed: u64,
    /// How much of its run is over, 0 to 1.
    pub part: f64,
}

/// Why an arm cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulateError {
    /// Its name.
    pub arm: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for SimulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arm {:?}: {}", self.arm, self.reason)
    }
}

impl std::error::Error for SimulateError {}

/// Runs an experiment. `progress` is called from any of the threads, one at a time.
///
/// # Errors
/// When an arm's bootstrap or plugins are rejected.
pub fn simulate(
    experiment: &Experiment,
    options: &SimulateOptions,
    progress: impl FnMut(Progress<'_>) + Send,
) -> Result<Results, SimulateError> {
    let seeds: Vec<u64> = (1..=options.seeds.unwrap_or(experiment.seeds)).collect();
    // Seed by seed, so that what is long is begun on all threads.
    let variants = experiment.variants();
    let mut tasks = Vec::new();
    for seed in seeds.iter().copied() {
        for case in 0..variants.len() {
            tasks.extend((0..experiment.arms.len()).map(|arm| Task { seed, case, arm }));
        }
    }
    let templates = templates(experiment, &options.base, &options.module_cache)
        .map_err(|(arm, reason)| SimulateError { arm, reason })?;
    let crew = Crew {
        variants: &variants,
        templates: &templates,
        tasks: &tasks,
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        runs: Mutex::new(vec![None; tasks.len()]),
        failed: Mutex::new(None),
        progress: Mutex::new(progress),
    };
    std::thread::scope(|scope| {
        for _ in 1..options.jobs.clamp(1, tasks.len().max(1)) {
            scope.spawn(|| crew.work());
        }
        crew.work();
    });
    if let Some(error) = into_inner(crew.failed) {
        return Err(error);
    }
    let mut by_arm: Vec<Vec<Run>> = vec![Vec::new(); experiment.arms.len()];
    let runs = into_inner(crew.runs);
    tasks.iter().zip(runs).for_each(|(task, run)| by_arm[task.arm].extend(run));
    let mut results = Results::new(experiment, &seeds);
    for (arm, runs) in experiment.arms.iter().zip(by_arm) {
        results.push(&arm.name, kind(arm), runs);
    }
    results.compare(experiment);
    Ok(results)
}

/// A run.
#[derive(Clone, Copy, Debug)]
struct Task {
    seed: u64,
    case: usize,
    arm: usize,
}

/// Threads that take one run after the other.
struct Crew<'a, P> {
    /// The experiment, once for each case.
    variants: &'a [Experiment],
    templates: &'a [Option<Template>],
    tasks: &'a [Task],
    next: AtomicUsize,
    done: AtomicUsize,
    runs: Mutex<Vec<Option<Run>>>,
    failed: Mutex<Option<SimulateError>>,
    progress: Mutex<P>,
}

impl<P: FnMut(Progress<'_>) + Send> Crew<'_, P> {
    fn work(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(number).copied() else { return };
            let (seed, experiment) = (task.seed, &self.variants[task.case]);
            let arm = &experiment.arms[task.arm];
            if lock(&self.failed).is_some() {
                return;
            }
            let end = experiment.end().as_secs_f64();
            let tick = |at: Duration| self.tell(arm, seed, at.as_secs_f64() / end);
            match self.record(task, tick) {
                Ok(record) => {
                    let run = Run::of(experiment, seed, task.case, record);
                    lock(&self.runs)[number] = Some(run);
                    self.done.fetch_add(1, Ordering::Relaxed);
                    self.tell(arm, seed, 1.0);
                }
                Err(reason) => {
                    let error = SimulateError { arm: arm.name.clone(), reason };
                    lock(&self.failed).get_or_insert(error);
                    return;
                }
            }
        }
    }

    fn record(&self, task: Task, tick: impl FnMut(Duration)) -> Result<Record, String> {
        let Task { seed, case, arm: at } = task;
        let experiment = &self.variants[case];
        let arm = &experiment.arms[at];
        let proxies = match &self.templates[at] {
            Some(template) => template.proxies(experiment, seed)?,
            None => {
                let native = |number| Native::new(experiment, arm, number, seed);
                let proxies = (0..experiment.proxies.count).filter_map(native);
                proxies.map(|proxy| Box::new(proxy) as Box<dyn Proxy>).collect()
            }
        };
        Ok(Kernel::new(experiment, seed, proxies).run(tick))
    }

    fn tell(&self, arm: &Arm, seed: u64, part: f64) {
        let (done, of) = (self.done.load(Ordering::Relaxed), self.tasks.len());
        (lock(&self.progress))(Progress { done, of, arm: &arm.name, seed, part });
    }
}

fn kind(arm: &Arm) -> ArmKind {
    match &arm.policy {
        None => ArmKind::Plugins,
        Some(policy) if policy.oracle.is_some() => ArmKind::Oracle,
        Some(_) => ArmKind::Policy,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
