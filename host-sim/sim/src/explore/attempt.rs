//! One run of a scenario under one plan.

use super::plan::{Decision, Plan};
use super::seen::Seen;
use super::stage::{Course, Quiet, Stage};
use crate::run::{Eyes, Run, bootstrap};
use crate::scenario::step::Send;
use crate::{Limits, ModuleCache, Observers, Scenario};
use host_sim_engine::{Engine, EngineOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A scenario ready to be run thousands of times.
pub(super) struct Subject {
    pub(super) scenario: Scenario,
    base: PathBuf,
    template: Arc<Engine>,
    pub(super) seed: u64,
}

/// How much of a scenario is run, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Number of workers.
    pub workers: usize,
    /// How many requests each `send` of the file sends, in the file's order.
    pub requests: Vec<usize>,
    /// The decisions that are not the default.
    pub decisions: Vec<Decision>,
}

/// What came of an attempt.
pub(super) struct Attempt {
    pub(super) failures: Vec<String>,
    pub(super) course: Course,
    pub(super) seen: Seen,
}

impl Attempt {
    pub(super) fn failed(&self) -> bool {
        !self.failures.is_empty()
    }
}

impl Subject {
    /// Compiles the modules and runs their canary.
    pub(super) fn load(
        scenario: Scenario,
        base: &Path,
        seed: u64,
        module_cache: ModuleCache,
    ) -> Result<Self, String> {
        if scenario.steps.iter().any(|step| !step.update.is_empty() || !step.tcp.is_empty()) {
            return Err("a scenario with `update` or `tcp` cannot be explored".to_owned());
        }
        let (bootstrap, base_dir) = bootstrap(&scenario, base)?;
        // Hostcalls are counted by the stage, instructions by nobody: this is about speed.
        let limits = Limits { fuel: None, ..Limits::simulator() };
        let fuel = Eyes::of(&scenario, Observers::default())?.fuel;
        let options =
            EngineOptions { base_dir, fuel, limits, module_cache, ..EngineOptions::default() };
        let template = Engine::start(bootstrap, options).map_err(|error| error.to_string())?;
        Ok(Self { scenario, base: base.to_owned(), template, seed })
    }

    /// The whole scenario, undecided.
    pub(super) fn whole(&self, workers: usize) -> Case {
        let requests = sends(&mut self.scenario.clone()).iter().map(|send| send.count).collect();
        Case { workers, requests, decisions: Vec::new() }
    }

    /// Runs. `straight` is what was seen when workers ran one after the other.
    pub(super) fn attempt(
        &self,
        case: &Case,
        plan: Plan,
        quiet: &Arc<Quiet>,
        straight: Option<&Seen>,
        recording: bool,
    ) -> Result<Attempt, String> {
        let mut scenario = self.scenario.clone();
        for (send, count) in sends(&mut scenario).into_iter().zip(&case.requests) {
            send.count = *count;
        }
        let stage = Arc::new(Stage::new(case.workers, plan, quiet.clone(), recording));
        let on = (&*self.template, &stage);
        let mut run = Run::on_stage(&scenario, &self.base, case.workers, self.seed, on)?;
        let mut failures = run.steps(&scenario)?;
        let unanswered = run.host.unfinished();
        if unanswered > 0 {
            failures.push(format!("{unanswered} requests were never answered"));
        }
        let seen = Seen::of(&run, &scenario.explore.same);
        if let Some(straight) = straight {
            failures.extend(straight.differences(&seen));
        }
        let mut course = stage.course();
        failures.splice(0..0, std::mem::take(&mut course.failures));
        Ok(Attempt { failures, course, seen })
    }
}

/// Every `send` of a scenario.
pub(super) fn sends(scenario: &mut Scenario) -> Vec<&mut Send> {
    let steps = scenario.steps.iter_mut();
    steps.flat_map(|step| step.send.iter_mut().chain(&mut step.together)).collect()
}
