//! Searching the orders in which workers can run.
//!
//! In a proxy, workers run at once, and a plugin that reads shared data and then writes it may have
//! been overtaken in between. A test rarely shows that: here it is searched for. The scenario is
//! run again and again; each time, workers take turns at other hostcalls, as a seed decides, and
//! everything that the scenario expects must hold each time. What fails is made smaller, to the
//! fewest turns, requests and workers, and told step by step.
//!
//! A run that fails is a schedule: the few decisions that were not "go on with whoever runs". The
//! same schedule gives the same run, so a finding can be kept, replayed, and turned into a test.

mod access;
mod attempt;
mod plan;
mod seen;
mod shrink;
mod stage;

pub use access::Access;
pub use attempt::Case;
pub use plan::Decision;
pub(crate) use stage::Stage;

use crate::{ModuleCache, Scenario};
use attempt::{Attempt, Subject};
use plan::Plan;
use serde::{Deserialize, Serialize};
use shrink::Shrink;
use stage::Quiet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most steps told of a finding.
const TOLD: usize = 12;

/// How to search.
#[derive(Clone, Debug)]
pub struct ExploreOptions {
    /// Schedules to try. Default 1000.
    pub schedules: u64,
    /// Fixes them. Default 1.
    pub seed: u64,
    /// How often one schedule may take the turn from a worker in the middle of a callback.
    /// Default 6: most races need one or two.
    pub max_preemptions: usize,
    /// Number of workers; that of the file, the largest, if `None`.
    pub workers: Option<usize>,
    /// Runs at a time. Default 1.
    pub jobs: usize,
    /// Compiled modules on disk.
    pub module_cache: ModuleCache,
}

impl Default for ExploreOptions {
    fn default() -> Self {
        Self {
            schedules: 1000,
            seed: 1,
            max_preemptions: 6,
            workers: None,
            jobs: 1,
            module_cache: ModuleCache::default(),
        }
    }
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Explored {
    /// The file.
    pub file: PathBuf,
    /// What the scenario shows.
    pub name: String,
    /// Number of workers.
    pub workers: usize,
    /// How many schedules were tried.
    pub schedules: u64,
    /// Hostcalls of a run whose order can matter.
    pub steps: u64,
    /// What was found.
    pub finding: Option<Finding>,
    /// Why nothing could be searched.
    pub unusable: Option<String>,
    /// Real time it took.
    pub took: Duration,
}

/// A schedule under which the scenario does not hold.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What did not hold, in the smallest run.
    pub failures: Vec<String>,
    /// The smallest run.
    pub schedule: Schedule,
    /// What happened in it, in order.
    pub steps: Vec<Access>,
    /// How many earlier hostcalls are not told.
    pub earlier: usize,
}

/// A run that can be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The scenario.
    pub file: PathBuf,
    /// Seed of the host's other choices.
    pub seed: u64,
    /// Number of the schedule that found it, from 1; 0 if it fails without any interleaving.
    pub found_by: u64,
    /// Workers, requests, decisions.
    #[serde(flatten)]
    pub case: Case,
}

/// Searches one scenario. Calls `progress` with the number of schedules tried so far.
pub fn explore(file: &Path, options: &ExploreOptions, progress: impl Fn(u64) + Sync) -> Explored {
    let start = Instant::now();
    let mut explored = Explored {
        file: file.to_owned(),
        name: file.display().to_string(),
        workers: 0,
        schedules: 0,
        steps: 0,
        finding: None,
        unusable: None,
        took: Duration::ZERO,
    };
    if let Err(reason) = search(file, options, progress, &mut explored) {
        explored.unusable = Some(reason);
    }
    explored.took = start.elapsed();
    explored
}

/// Runs a schedule again. Gives what it finds, and nothing if the scenario holds now.
///
/// # Errors
/// When scenario or modules cannot be used.
pub fn replay_schedule(
    schedule: &Schedule,
    module_cache: ModuleCache,
) -> Result<Option<Finding>, String> {
    let subject = load(&schedule.file, schedule.seed, module_cache)?;
    let quiet = Arc::default();
    let straight = subject.attempt(&schedule.case, Plan::Straight, &quiet, None, false)?;
    let plan = Plan::replay(&schedule.case.decisions);
    let attempt = subject.attempt(&schedule.case, plan, &quiet, Some(&straight.seen), true)?;
    Ok(attempt.failed().then(|| {
        finding(&schedule.file, &subject, schedule.found_by, schedule.case.clone(), attempt)
    }))
}

fn load(file: &Path, seed: u64, module_cache: ModuleCache) -> Result<Subject, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let base = file.parent().unwrap_or(Path::new("."));
    let scenario = Scenario::parse_in(&text, base).map_err(|error| error.to_string())?;
    Subject::load(scenario, base, seed, module_cache)
}

fn search(
    file: &Path,
    options: &ExploreOptions,
    progress: impl Fn(u64) + Sync,
    explored: &mut Explored,
) -> Result<(), String> {
    let subject = load(file, options.seed, options.module_cache.clone())?;
    explored.name.clone_from(&subject.scenario.scenario);
    let most = subject.scenario.workers.iter().copied().max();
    let workers = options.workers.or(most).unwrap_or(1);
    explored.workers = workers;
    let whole = subject.whole(workers);
    let straight = subject.attempt(&whole, Plan::Straight, &Arc::default(), None, true)?;
    if straight.failed() {
        explored.finding = Some(finding(file, &subject, 0, whole, straight));
        return Ok(());
    }
    let quiet = Arc::new(straight.course.quiet);
    let seen = straight.seen;
    // How long a run is, now that it is known what does not count.
    let straight = subject.attempt(&whole, Plan::Straight, &quiet, Some(&seen), false)?;
    explored.steps = straight.course.contended;
    let found = first_failing(&subject, &whole, &quiet, &seen, options, explored, progress)?;
    let Some((index, decisions)) = found else { return Ok(()) };
    let case = Case { decisions, ..whole };
    let preemptions = options.max_preemptions;
    let mut shrink = Shrink { subject: &subject, quiet: &quiet, preemptions, attempts: 0 };
    let (case, attempt) = shrink.smallest(case, &seen)?;
    explored.finding = Some(finding(file, &subject, index + 1, case, attempt));
    Ok(())
}

/// The failing schedule of the lowest number, whatever the number of jobs.
fn first_failing(
    subject: &Subject,
    whole: &Case,
    quiet: &Arc<Quiet>,
    straight: &seen::Seen,
    options: &ExploreOptions,
    explored: &mut Explored,
    progress: impl Fn(u64) + Sync,
) -> Result<Option<(u64, Vec<Decision>)>, String> {
    let (next, tried) = (AtomicU64::new(0), AtomicU64::new(0));
    let found: Mutex<Option<(u64, Vec<Decision>)>> = Mutex::new(None);
    let lanes = whole.workers + 1;
    let work = || -> Result<(), String> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let beaten = {
                let found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.as_ref().is_some_and(|(best, _)| *best < index)
            };
            if index >= options.schedules || beaten {
                return Ok(());
            }
            let length = explored.steps;
            let plan = Plan::search(options.seed, index, lanes, length, options.max_preemptions);
            let attempt = subject.attempt(whole, plan, quiet, Some(straight), false)?;
            progress(tried.fetch_add(1, Ordering::Relaxed) + 1);
            if attempt.failed() {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                if found.as_ref().is_none_or(|(best, _)| index < *best) {
                    *found = Some((index, attempt.course.decisions));
                }
                return Ok(());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err("a run panicked".to_owned()))
        })
    })?;
    explored.schedules = tried.into_inner();
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn finding(file: &Path, subject: &Subject, found_by: u64, case: Case, attempt: Attempt) -> Finding {
    let (steps, earlier) = told(attempt.course.record);
    let schedule = Schedule { file: file.to_owned(), seed: subject.seed, found_by, case };
    Finding { failures: attempt.failures, schedule, steps, earlier }
}

/// The hostcalls that matter: on what more than one worker has touched and one has changed, and of
/// those the last.
fn told(record: Vec<Access>) -> (Vec<Access>, usize) {
    let matters = |access: &Access| {
        let same = record.iter().filter(|other| other.key == access.key);
        let mut others = same.clone().filter(|other| other.worker != access.worker);
        others.next().is_some() && same.clone().any(Access::changes)
    };
    let mut steps: Vec<Access> = Vec::new();
    for access in record.iter().filter(|access| matters(access)) {
        // Who spins is told of once.
        let since = steps.iter().rposition(Access::changes).map_or(0, |at| at + 1);
        match steps.iter_mut().skip(since).find(|step| step.same_as(access)) {
            Some(same) => same.times += 1,
            None => steps.push(access.clone()),
        }
    }
    let earlier = steps.len().saturating_sub(TOLD);
    (steps.split_off(earlier), earlier)
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.passed() { "ok  " } else { "FAIL" };
        let seconds = self.took.as_secs_f64();
        let (workers, schedules, steps) = (self.workers, self.schedules, self.steps);
        writeln!(
            f,
            "{mark} {} ({workers} workers, {schedules} schedules of {steps} steps) [{seconds:.1} s]",
            self.name
        )?;
        if let Some(reason) = &self.unusable {
            writeln!(f, "       {}", reason.replace('\n', "\n       "))?;
        }
        self.finding.iter().try_for_each(|finding| write!(f, "{finding}"))
    }
}

impl Explored {
    /// True if schedules were tried and the scenario held under all of them.
    pub fn passed(&self) -> bool {
        self.finding.is_none() && self.unusable.is_none()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "       {}", failure.replace('\n', "\n       "))?;
        }
        let case = &self.schedule.case;
        let requests: usize = case.requests.iter().sum();
        match self.schedule.found_by {
            0 => writeln!(f, "     without any interleaving:")?,
            index => writeln!(
                f,
                "     found by schedule {index}; smallest: {} workers, {requests} requests, {} turns taken:",
                case.workers,
                case.decisions.len()
            )?,
        }
        if self.earlier > 0 {
            writeln!(f, "       ... {} earlier hostcalls", self.earlier)?;
        }
        for (at, step) in self.steps.iter().enumerate() {
            writeln!(f, "    {:>4}. {step}", at + 1)?;
        }
        Ok(())
    }
}
