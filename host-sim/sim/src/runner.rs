//! Running scenario files.

use crate::expect::{Counted, Seen, check};
use crate::report::{Outcome, Report};
use crate::scenario::{EndpointSpec, Scenario, Send, Spread, Step};
use crate::{Host, HostOptions, ModuleCache, Request, RequestId, Trace, suite};
use bytes::Bytes;
use host_sim_bootstrap::Bootstrap;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest that a step waits for its responses, in virtual time.
const PATIENCE: Duration = Duration::from_secs(120);

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
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut report = Report::default();
    for file in files {
        for outcome in run_file(&file, options) {
            progress(&outcome);
            report.outcomes.push(outcome);
        }
    }
    Ok(report)
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
    let parsed = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| Scenario::parse(&text).map_err(|error| error.to_string()));
    match parsed {
        Err(error) => vec![Outcome::unusable(file, error)],
        Ok(scenario) => options
            .workers
            .as_ref()
            .map_or(scenario.workers.as_slice(), std::slice::from_ref)
            .iter()
            .map(|workers| {
                let seed = options.seed.unwrap_or(scenario.seed);
                let start = Instant::now();
                if let Some(trace) = &options.trace {
                    trace.run(file, *workers, seed);
                }
                let (failures, fault) = match Run::start(&scenario, file, *workers, seed, options) {
                    Ok(mut run) => (run.steps(&scenario), None),
                    Err(fault) => (Vec::new(), Some(fault)),
                };
                Outcome {
                    file: file.to_owned(),
                    name: scenario.scenario.clone(),
                    workers: *workers,
                    seed,
                    failures,
                    unusable: fault,
                    took: start.elapsed(),
                }
            })
            .collect(),
    }
}

struct Run {
    host: Host,
    endpoints: Vec<SocketAddr>,
    /// The `vm_id`s of the plugins.
    vm_ids: Vec<String>,
    /// How many requests had been received when it was last asked.
    counted: Counted,
    next_worker: usize,
    draws: u64,
}

impl Run {
    fn start(
        scenario: &Scenario,
        file: &Path,
        workers: usize,
        seed: u64,
        options: &RunOptions,
    ) -> Result<Self, String> {
        let base = file.parent().unwrap_or(Path::new("."));
        let endpoints: Vec<_> = scenario.endpoints.keys().copied().collect();
        let (bootstrap, base_dir) = match (&scenario.bootstrap, &scenario.suite) {
            (Some(path), _) => {
                let path = base.join(path);
                let read = Bootstrap::from_file(&path)
                    .map_err(|problems| format!("{}:\n{problems}", path.display()))?;
                (read, path.parent().map(Path::to_owned))
            }
            (None, Some(spec)) => {
                let text = suite::bootstrap(spec, &endpoints, base)?;
                (Bootstrap::from_yaml(&text).map_err(|problems| problems.to_string())?, None)
            }
            (None, None) => return Err("neither bootstrap nor suite".to_owned()),
        };
        let (module_cache, trace) = (options.module_cache.clone(), options.trace.clone());
        let options = HostOptions {
            workers,
            seed,
            base_dir,
            fuel: trace.is_some(),
            module_cache,
            trace,
            ..HostOptions::default()
        };
        let host = Host::start(bootstrap, options).map_err(|error| error.to_string())?;
        let mut run = Self {
            host,
            endpoints,
            vm_ids: vm_ids(scenario),
            counted: Counted::default(),
            next_worker: 0,
            draws: seed ^ 0x5745_4952,
        };
        run.set_endpoints(&scenario.endpoints);
        Ok(run)
    }

    /// Runs all steps; stops at the first that fails, because what follows builds on it.
    fn steps(&mut self, scenario: &Scenario) -> Vec<String> {
        for (at, step) in scenario.steps.iter().enumerate() {
            let failures = self.step(step);
            if !failures.is_empty() {
                let number = at + 1;
                let when = self.host.elapsed();
                return failures
                    .into_iter()
                    .map(|failure| format!("step {number} (at {when:?}): {failure}"))
                    .collect();
            }
        }
        Vec::new()
    }

    fn step(&mut self, step: &Step) -> Vec<String> {
        self.set_endpoints(&step.endpoints);
        if let Some(text) = &step.step_clock {
            match step_nanos(text) {
                Some(nanos) => self.host.step_wall_clock(nanos),
                None => return vec![format!("step_clock: '{text}' is no duration such as -30s")],
            }
        }
        self.write_shared_data(step);
        if let Some(span) = step.advance {
            self.host.advance(span);
        }
        let sent = step.send.as_ref().map(|send| self.send(send)).unwrap_or_default();
        let Some(expect) = &step.expect else { return Vec::new() };
        let seen = Seen {
            host: &self.host,
            sent: &sent,
            endpoints: &self.endpoints,
            counted: &self.counted,
            vm_ids: &self.vm_ids,
        };
        let failures = check(expect, &seen);
        self.counted.note(expect, &self.host);
        failures
    }

    fn set_endpoints(&mut self, endpoints: &BTreeMap<SocketAddr, EndpointSpec>) {
        for (address, spec) in endpoints {
            self.host.behave(*address, spec.answer.behaviour());
            for (path, answer) in &spec.paths {
                self.host.behave_at(*address, path, answer.behaviour());
            }
            self.host.script(*address, spec.script.iter().map(|answer| answer.behaviour()));
        }
    }

    fn write_shared_data(&self, step: &Step) {
        let shared = self.host.engine().shared_data();
        for (key, value) in &step.set_shared_data {
            // Unconditional, so it cannot be refused.
            let _ = shared.set("weir", key.as_bytes(), Bytes::from(value.clone().into_bytes()), 0);
        }
        if let Some(value) = &step.corrupt_shared_data {
            for vm_id in &self.vm_ids {
                for key in shared.snapshot(vm_id).keys() {
                    let _ = shared.set(vm_id, key, Bytes::from(value.clone().into_bytes()), 0);
                }
            }
        }
    }

    fn send(&mut self, send: &Send) -> Vec<RequestId> {
        let mut ids = Vec::with_capacity(send.count);
        for at in 0..send.count {
            if let Some(pause) = send.every.filter(|_| at > 0) {
                self.host.advance(pause);
            }
            let mut request =
                Request::new(&send.method, &send.path).on_worker(self.worker(send.workers));
            for (name, value) in &send.headers {
                request = request.header(name, value);
            }
            for chunk in &send.body {
                request = request.chunk(chunk.clone().into_bytes());
            }
            if let Some(patience) = send.abort_after {
                request = request.abort_after(patience);
            }
            ids.push(self.host.send(&request));
        }
        self.host.settle(PATIENCE);
        ids
    }

    fn worker(&mut self, spread: Spread) -> usize {
        match spread {
            Spread::First => 0,
            Spread::Last => self.host.workers() - 1,
            Spread::RoundRobin => {
                self.next_worker += 1;
                self.next_worker - 1
            }
            Spread::Random => {
                // SplitMix64.
                self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (self.draws ^ (self.draws >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (z >> 33) as usize % self.host.workers()
            }
        }
    }
}

/// Of a bootstrap, those that the suite's own documents use.
fn vm_ids(scenario: &Scenario) -> Vec<String> {
    let Some(suite) = &scenario.suite else { return vec!["weir".to_owned(), String::new()] };
    let filters = suite.filters.iter().chain(&suite.upstream_filters);
    filters.map(|filter| filter.vm_id.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn step_nanos(text: &str) -> Option<i64> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let nanos = crate::scenario::parse_duration(rest)?.as_nanos();
    Some(sign * i64::try_from(nanos).ok()?)
}
