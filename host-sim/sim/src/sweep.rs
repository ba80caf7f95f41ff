//! Single faults, one after the other: every hostcall of a run once answered as it should not be.
//!
//! A plugin meets an unexpected status perhaps once a year, and then an unlucky `unwrap` takes down
//! every request of its VM. A sweep brings it about: it plays a scenario once to see which hostcalls
//! are made, then once for each of them and each status that Envoy could give there, with that one
//! answer replaced. The scenario's expectations do not count, for a lost write may well let one
//! request more through; what must hold, whatever fails, is this:
//!
//! - no callback traps;
//! - no request is left without an end;
//! - every request that is answered without the fault is answered with it.
//!
//! A plugin that refuses its configuration because it could not read it is within its rights: such
//! starts are counted, and are no finding.

mod report;
mod watch;

use crate::fault::{Effect, Fault, Injector};
use crate::run::Run;
use crate::{Host, ModuleCache, Observers, RunOptions, Scenario};
use host_sim_abi::{Status, why};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use watch::{Call, Watch};

/// What to sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// Logical workers, instead of the first number in the file.
    pub workers: Option<usize>,
    /// Instead of the file's seed.
    pub seed: Option<u64>,
    /// Only hostcalls of this plugin.
    pub plugin: Option<String>,
    /// Hostcalls, by name, to leave alone.
    pub except: Vec<String>,
    /// At most so many faults, spread evenly over all. Default: all.
    pub most: Option<NonZeroUsize>,
    /// Threads. Default: the processors this process may use. The report does not depend on it.
    pub threads: NonZeroUsize,
    /// Compiled modules on disk.
    pub module_cache: ModuleCache,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            workers: None,
            seed: None,
            plugin: None,
            except: Vec::new(),
            most: None,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            module_cache: ModuleCache::user(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sweep {
    /// Hostcalls of the run without a fault.
    pub hostcalls: usize,
    /// Faults there are: hostcalls times the statuses that fit them.
    pub faults: usize,
    /// Faults tried.
    pub runs: usize,
    /// Runs in which a plugin refused to start.
    pub refused: usize,
    /// What must not be, in order of the hostcalls.
    pub findings: Vec<Finding>,
}

/// A fault that a plugin does not survive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The how-manieth hostcall of the run, from 1.
    pub nth: u64,
    /// Its name.
    pub hostcall: &'static str,
    /// Whose it is.
    pub plugin: String,
    /// In which callback; `None` while the module initialises.
    pub callback: Option<&'static str>,
    /// What it was answered.
    pub status: String,
    /// What happened then.
    pub harm: Harm,
}

/// What must not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// A callback trapped.
    Trap {
        /// Whose callback.
        plugin: String,
        /// Its name.
        callback: &'static str,
    },
    /// So many requests have no end.
    Hung(usize),
    /// So many requests got no response that get one without the fault.
    Unanswered(usize),
}

#[derive(Clone, Copy)]
struct Trial {
    nth: usize,
    status: Status,
}

/// Sweeps the scenario in a file.
///
/// # Errors
/// When the file cannot be read or understood, its run does not start, or does harm without any
/// fault.
pub fn sweep(file: &Path, options: &SweepOptions) -> Result<Sweep, String> {
    let naming = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| naming(error.to_string()))?;
    let scenario =
        Scenario::parse_in(&text, base(file)).map_err(|error| naming(error.to_string()))?;
    let sweeper = Sweeper { scenario: &scenario, file, options };
    let watch = Arc::new(Watch::default());
    let host = sweeper.play(Observers::default().and(watch.clone())).map_err(naming)?;
    let calls = watch.calls();
    let answered = answered(&host);
    if let Some(harm) = harm(&watch, &host, &answered) {
        return Err(naming(format!("without any fault: {harm}")));
    }
    let all = trials(&calls, options);
    let chosen = sample(&all, options.most);
    let next = AtomicUsize::new(0);
    let results = std::thread::scope(|scope| {
        let work = || {
            let mut results = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(trial) = chosen.get(at) else { return results };
                results.push((at, sweeper.run(*trial, &calls, &answered)));
            }
        };
        let threads: Vec<_> = (0..options.threads.get()).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.collect::<Result<Vec<_>, _>>()
    });
    let results = results.map_err(|_| naming("the host panicked: see above".to_owned()))?;
    let mut results: Vec<_> = results.into_iter().flatten().collect();
    results.sort_by_key(|(at, _)| *at);
    let refused = results.iter().filter(|(_, result)| matches!(result, Ran::Refused)).count();
    let findings = results.into_iter().filter_map(|(_, result)| match result {
        Ran::Harmed(finding) => Some(finding),
        Ran::Refused | Ran::Well => None,
    });
    Ok(Sweep {
        hostcalls: calls.len(),
        faults: all.len(),
        runs: chosen.len(),
        refused,
        findings: findings.collect(),
    })
}

fn base(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

struct Sweeper<'a> {
    scenario: &'a Scenario,
    file: &'a Path,
    options: &'a SweepOptions,
}

enum Ran {
    Well,
    Refused,
    Harmed(Finding),
}

impl Sweeper<'_> {
    fn play(&self, observers: Observers) -> Result<Host, String> {
        let workers = self.options.workers.or_else(|| self.scenario.workers.first().copied());
        let seed = self.options.seed.unwrap_or(self.scenario.seed);
        let module_cache = self.options.module_cache.clone();
        let options = RunOptions { module_cache, observers, ..RunOptions::default() };
        Run::start(self.scenario, base(self.file), workers.unwrap_or(1), seed, &options, &mut None)?
            .play(self.scenario)
    }

    fn run(&self, trial: Trial, calls: &[Call], answered: &[bool]) -> Ran {
        let nth = trial.nth as u64 + 1;
        let injector = Injector::new([Fault::nth(nth, Effect::Answer(trial.status))]);
        let watch = Arc::new(Watch::default());
        let observers = Observers::default().and(Arc::new(injector)).and(watch.clone());
        let harm = match self.play(observers) {
            Ok(host) => harm(&watch, &host, answered),
            Err(_) => match watch.trap() {
                Some(trap) => Some(trap),
                None => return Ran::Refused,
            },
        };
        let Some(harm) = harm else { return Ran::Well };
        let call = &calls[trial.nth];
        Ran::Harmed(Finding {
            nth,
            hostcall: call.name,
            plugin: call.plugin.clone(),
            callback: call.callback,
            status: format!("{:?}", trial.status),
            harm,
        })
    }
}

/// Which requests got a response.
fn answered(host: &Host) -> Vec<bool> {
    host.requests().map(|id| host.reply(id).is_some()).collect()
}

fn harm(watch: &Watch, host: &Host, before: &[bool]) -> Option<Harm> {
    if let Some(trap) = watch.trap() {
        return Some(trap);
    }
    let hung = host.open_requests().count();
    if hung > 0 {
        return Some(Harm::Hung(hung));
    }
    let lost = before.iter().zip(answered(host)).filter(|(before, now)| **before && !now).count();
    (lost > 0).then_some(Harm::Unanswered(lost))
}

/// Hostcalls that put what they answer into memory which the guest's allocator finds.
const GIVING: [&str; 8] = [
    "proxy_call_foreign_function",
    "proxy_dequeue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_get_status",
];

/// Every hostcall with every status that it could get.
fn trials(calls: &[Call], options: &SweepOptions) -> Vec<Trial> {
    let wanted = |call: &Call| {
        options.plugin.as_ref().is_none_or(|plugin| *plugin == call.plugin)
            && !options.except.iter().any(|name| name == call.name)
    };
    let calls = calls.iter().enumerate().filter(|(_, call)| wanted(call));
    calls
        .flat_map(|(nth, call)| {
            let fitting = Status::ALL.iter().filter(|status| fits(**status, call.name));
            fitting.map(move |status| Trial { nth, status: *status })
        })
        .collect()
}

/// Those that the ABI has a reason for. A bad pointer is none: a plugin's pointers are as good in
/// one run as in another, unless its allocator has just failed.
fn fits(status: Status, hostcall: &str) -> bool {
    match status {
        Status::InvalidMemoryAccess => GIVING.contains(&hostcall),
        _ => why(status, hostcall).is_some(),
    }
}

/// At most `most`, evenly spread, first and last ones included.
fn sample(all: &[Trial], most: Option<NonZeroUsize>) -> Vec<Trial> {
    match most.map(NonZeroUsize::get) {
        Some(most) if most < all.len() => {
            let step = |at: usize| at * (all.len() - 1) / (most - 1).max(1);
            (0..most).map(|at| all[step(at)]).collect()
        }
        _ => all.to_vec(),
    }
}

#[cfg(test)]
mod tests;
