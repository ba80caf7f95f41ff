//! One run of one scenario.

use crate::dns;
use crate::expect::{Before, Counted, Seen, check};
use crate::explore::Stage;
use crate::fault::Injector;
use crate::lint::Linter;
use crate::scenario::endpoint::EndpointSpec;
use crate::scenario::expect::Expect;
use crate::scenario::step::{Send, Spread, Step};
use crate::scenario::tcp::{TcpAction, TcpEndpointSpec};
use crate::scenario::value::Content;
use crate::watch::Watch;
use crate::{
    Connect, Host, HostOptions, Observers, Request, RequestId, RunOptions, Scenario, TcpId, suite,
};
use bytes::Bytes;
use host_sim_bootstrap::{Bootstrap, Configuration, ConfigurationKind, PluginConfig};
use host_sim_engine::Engine;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest that a step waits for its responses, in virtual time.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Run {
    pub(crate) host: Host,
    base: PathBuf,
    endpoints: Vec<SocketAddr>,
    /// The `vm_id`s of the plugins.
    pub(crate) vm_ids: Vec<String>,
    /// How many requests had been received when it was last asked.
    counted: Counted,
    /// Requests that a later step may ask for.
    named: BTreeMap<String, Vec<RequestId>>,
    connections: BTreeMap<String, TcpId>,
    watch: Arc<Watch>,
    faults: Arc<Injector>,
    next_worker: usize,
    draws: u64,
}

impl Run {
    /// # Errors
    /// When the plugins do not load, or a file that the scenario names cannot be used.
    pub(crate) fn start(
        scenario: &Scenario,
        base: &Path,
        workers: usize,
        seed: u64,
        options: &RunOptions,
        linter: &mut Option<Arc<Linter>>,
    ) -> Result<Self, String> {
        let (bootstrap, base_dir) = bootstrap(scenario, base)?;
        let eyes = Eyes::of(scenario, options.observers.clone())?;
        let mut observers = eyes.observers.clone();
        if options.explain {
            let watching = Arc::new(Linter::new(&bootstrap, base_dir.as_deref()));
            observers = observers.and(watching.clone());
            *linter = Some(watching);
        }
        let (module_cache, trace) = (options.module_cache.clone(), options.trace.clone());
        let options = HostOptions {
            workers,
            seed,
            base_dir,
            fuel: eyes.fuel || trace.is_some(),
            module_cache,
            trace,
            ..HostOptions::default()
        };
        let host = Host::start_observed(bootstrap, options, observers.into_one());
        Self::on(host.map_err(|error| error.to_string())?, scenario, base, seed, eyes)
    }

    /// The same on a stage, with the modules of `template`.
    ///
    /// # Errors
    /// As [`Run::start`].
    pub(crate) fn on_stage(
        scenario: &Scenario,
        base: &Path,
        workers: usize,
        seed: u64,
        (template, stage): (&Engine, &Arc<Stage>),
    ) -> Result<Self, String> {
        let eyes = Eyes::of(scenario, Observers::default())?;
        let options = HostOptions { workers, seed, ..HostOptions::default() };
        let host = Host::on_stage(template, &options, stage, eyes.observers.clone());
        Self::on(host.map_err(|error| error.to_string())?, scenario, base, seed, eyes)
    }

    fn on(
        host: Host,
        scenario: &Scenario,
        base: &Path,
        seed: u64,
        eyes: Eyes,
    ) -> Result<Self, String> {
        let elsewhere = elsewhere(scenario);
        let listed: Vec<_> = scenario.endpoints.keys().copied().collect();
        let more = elsewhere.into_iter().filter(|own| !listed.contains(own));
        let mut run = Self {
            host,
            base: base.to_owned(),
            endpoints: listed.iter().copied().chain(more).collect(),
            vm_ids: vm_ids(scenario),
            counted: Counted::default(),
            named: BTreeMap::new(),
            connections: BTreeMap::new(),
            watch: eyes.watch,
            faults: eyes.faults,
            next_worker: 0,
            draws: seed ^ 0x5745_4952,
        };
        dns::tell(run.host.engine().clusters(), &scenario.names)?;
        run.set_endpoints(&scenario.endpoints)?;
        run.set_tcp_endpoints(&scenario.tcp_endpoints)?;
        Ok(run)
    }

    /// Does what a scenario says, expects nothing, and waits for what is under way.
    ///
    /// # Errors
    /// When a step cannot be done at all.
    pub(crate) fn play(mut self, scenario: &Scenario) -> Result<Host, String> {
        for step in &scenario.steps {
            self.step(&Step { expect: None, ..step.clone() })?;
        }
        self.host.settle(PATIENCE);
        Ok(self.host)
    }

    /// Runs all steps; stops at the first that fails, because what follows builds on it.
    ///
    /// # Errors
    /// When a step cannot be done at all.
    pub(crate) fn steps(&mut self, scenario: &Scenario) -> Result<Vec<String>, String> {
        for (at, step) in scenario.steps.iter().enumerate() {
            let title = step.name.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
            let failures =
                self.step(step).map_err(|fault| format!("step {}{title}: {fault}", at + 1))?;
            if !failures.is_empty() {
                let when = self.host.elapsed();
                let place = format!("step {}{title} (at {when:?})", at + 1);
                let told = failures.into_iter().map(|failure| format!("{place}: {failure}"));
                return Ok(told.collect());
            }
        }
        Ok(Vec::new())
    }

    fn step(&mut self, step: &Step) -> Result<Vec<String>, String> {
        let before = self.before(step.expect.as_ref());
        self.set_endpoints(&step.endpoints)?;
        self.set_tcp_endpoints(&step.tcp_endpoints)?;
        if let Some(span) = step.step_clock {
            self.host.step_wall_clock(span.0);
        }
        self.write_shared_data(step)?;
        if step.clear_faults {
            self.faults.disarm();
        }
        for fault in &step.faults {
            self.faults.arm(fault.fault()?);
        }
        let rejected = self.update(step);
        if let Some(span) = step.advance {
            self.host.advance(span.0);
        }
        let mut sent = match &step.send {
            Some(send) => self.send(send)?,
            None => Vec::new(),
        };
        for send in &step.together {
            sent.extend(self.begin(send)?);
        }
        if !step.together.is_empty() {
            self.host.settle(PATIENCE);
        }
        for action in &step.tcp {
            self.act(action)?;
        }
        let mut failures = rejections(&rejected, step.expect.as_ref());
        let Some(expect) = &step.expect else { return Ok(failures) };
        let seen = Seen {
            host: &self.host,
            sent: &sent,
            named: &self.named,
            connections: &self.connections,
            endpoints: &self.endpoints,
            counted: &self.counted,
            vm_ids: &self.vm_ids,
            watch: &self.watch,
            faults: &self.faults,
            before: &before,
        };
        failures.extend(check(expect, &seen));
        self.counted.note(expect, &self.host);
        Ok(failures)
    }

    /// Gives plugins new configurations; tells which were rejected, and why.
    fn update(&mut self, step: &Step) -> Vec<String> {
        let mut rejected = Vec::new();
        for (plugin, document) in &step.update {
            let bytes = suite::configuration(document).into_bytes();
            let change = |config: &mut PluginConfig| {
                config.configuration =
                    Configuration { kind: ConfigurationKind::String, bytes: bytes.clone() };
            };
            if let Err(error) = self.host.engine().update_plugin(plugin, change) {
                rejected.push(format!("update of {plugin}: {error}"));
            }
        }
        if !step.update.is_empty() {
            // Threads follow in their next turn.
            self.host.advance(Duration::ZERO);
        }
        rejected
    }

    /// How things stand before a step that will ask.
    fn before(&self, expect: Option<&Expect>) -> Before {
        let Some(expect) = expect else { return Before::default() };
        let shared = self.host.engine().shared_data();
        let counts = |endpoint: &SocketAddr| (*endpoint, self.host.received(*endpoint).len());
        let keys = |vm_id: &String| (vm_id.clone(), shared.key_count(vm_id));
        Before {
            mark: self.watch.mark(),
            received: self.endpoints.iter().map(counts).collect(),
            keys: expect.shared_data.keys().map(keys).collect(),
            memory: expect.memory_growth.map_or(0, |_| self.host.memory_bytes()),
            fuel: expect.fuel.map_or(0, |_| self.host.fuel_consumed()),
        }
    }

    fn set_endpoints(
        &mut self,
        endpoints: &BTreeMap<SocketAddr, EndpointSpec>,
    ) -> Result<(), String> {
        for (address, spec) in endpoints {
            if !self.endpoints.contains(address) {
                self.endpoints.push(*address);
            }
            self.host.behave(*address, spec.answer.behaviour(&self.base)?);
            for (path, answer) in &spec.paths {
                self.host.behave_at(*address, path, answer.behaviour(&self.base)?);
            }
            let script: Result<Vec<_>, _> =
                spec.script.iter().map(|answer| answer.behaviour(&self.base)).collect();
            self.host.script(*address, script?);
        }
        Ok(())
    }

    fn set_tcp_endpoints(
        &mut self,
        endpoints: &BTreeMap<SocketAddr, TcpEndpointSpec>,
    ) -> Result<(), String> {
        for (address, spec) in endpoints {
            self.host.behave_tcp(*address, spec.behaviour(&self.base)?);
        }
        Ok(())
    }

    /// Does what a client does with a connection.
    fn act(&mut self, action: &TcpAction) -> Result<(), String> {
        if let Some(span) = action.after {
            self.host.advance(span.0);
        }
        if let Some(name) = &action.open {
            let mut connect = action.listener.as_deref().map_or_else(Connect::new, Connect::to);
            connect = connect.on_worker(action.worker.unwrap_or(0));
            if let Some(from) = action.from {
                connect = connect.from_address(from);
            }
            if let Some(tls) = &action.tls {
                connect = connect.with_tls(tls.info());
            }
            let id = self.host.connect(&connect);
            let id = id.ok_or_else(|| format!("open {name}: no listener carries bytes"))?;
            self.connections.insert(name.clone(), id);
            return Ok(());
        }
        let name = action.connection().unwrap_or_default();
        let known = self.connections.get(name).copied();
        let id = known.ok_or_else(|| format!("no connection {name} was opened"))?;
        if let Some(content) = &action.data {
            self.host.send_bytes(id, content.bytes(&self.base)?);
        }
        if action.half_close.is_some() {
            self.host.half_close(id);
        }
        if action.abort.is_some() {
            self.host.abort(id);
        }
        Ok(())
    }

    fn write_shared_data(&self, step: &Step) -> Result<(), String> {
        let shared = self.host.engine().shared_data();
        let bytes = |content: &Content| content.bytes(&self.base).map(Bytes::from);
        let weir = step.set_shared_data.iter().map(|(key, content)| ("weir", key, content));
        let others = step.write_shared_data.iter().flat_map(|(vm_id, keys)| {
            keys.iter().map(move |(key, content)| (vm_id.as_str(), key, content))
        });
        for (vm_id, key, content) in weir.chain(others) {
            // Unconditional, so it cannot be refused.
            let _ = shared.set(vm_id, key.as_bytes(), bytes(content)?, 0);
        }
        if let Some(content) = &step.corrupt_shared_data {
            for vm_id in &self.vm_ids {
                for key in shared.snapshot(vm_id).keys() {
                    let _ = shared.set(vm_id, key, bytes(content)?, 0);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, send: &Send) -> Result<Vec<RequestId>, String> {
        let ids = self.begin(send)?;
        if send.wait {
            self.host.settle(PATIENCE);
        }
        Ok(ids)
    }

    fn begin(&mut self, send: &Send) -> Result<Vec<RequestId>, String> {
        let mut template = Request::new(&send.method, &send.path).authority(&send.authority);
        for (name, value) in &send.headers.0 {
            template = template.header(name, value);
        }
        for content in send.body.chunks() {
            template = template.chunk_after(content.after(), content.bytes(&self.base)?);
        }
        for (name, value) in &send.trailers.0 {
            template = template.trailer(name, value);
        }
        if let Some(patience) = send.abort_after {
            template = template.abort_after(patience.0);
        }
        if let Some(from) = send.from {
            template = template.from_address(from);
        }
        if let Some(tls) = &send.tls {
            template = template.tls(tls.info());
        }
        let mut ids = Vec::with_capacity(send.count);
        for at in 0..send.count {
            if let Some(pause) = send.every.filter(|_| at > 0) {
                self.host.advance(pause.0);
            }
            let worker = self.worker(send.workers);
            ids.push(self.host.send(&template.clone().on_worker(worker)));
        }
        if let Some(name) = &send.name {
            self.named.insert(name.clone(), ids.clone());
        }
        Ok(ids)
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

/// The bootstrap of a scenario, and the base of its modules' paths.
pub(crate) fn bootstrap(
    scenario: &Scenario,
    base: &Path,
) -> Result<(Bootstrap, Option<PathBuf>), String> {
    match (&scenario.bootstrap, &scenario.suite) {
        (Some(path), _) => {
            let path = base.join(path);
            let read = Bootstrap::from_file(&path)
                .map_err(|problems| format!("{}:\n{problems}", path.display()))?;
            Ok((read, path.parent().map(Path::to_owned)))
        }
        (None, Some(spec)) => {
            let elsewhere = elsewhere(scenario);
            let listed = scenario.endpoints.keys().copied();
            let own: Vec<_> = listed.filter(|own| !elsewhere.contains(own)).collect();
            let text = suite::bootstrap(spec, &own, base)?;
            Ok((Bootstrap::from_yaml(&text).map_err(|problems| problems.to_string())?, None))
        }
        (None, None) => Err("neither bootstrap nor suite".to_owned()),
    }
}

/// Updates that were rejected and should not have been, or the other way round.
fn rejections(rejected: &[String], expect: Option<&Expect>) -> Vec<String> {
    match expect.and_then(|expect| expect.update_rejected.as_ref()) {
        None => rejected.iter().map(|reason| format!("rejected: {reason}")).collect(),
        Some(pattern) if rejected.iter().any(|reason| pattern.0.is_match(reason)) => Vec::new(),
        Some(pattern) if rejected.is_empty() => {
            vec![format!("update: expected to be rejected with {pattern}, was accepted")]
        }
        Some(pattern) => {
            vec![format!("update: expected {pattern}, got {}", rejected.join("; "))]
        }
    }
}

/// Endpoints of clusters that the scenario names itself.
fn elsewhere(scenario: &Scenario) -> BTreeSet<SocketAddr> {
    let clusters = scenario.suite.iter().flat_map(|spec| spec.clusters.values());
    clusters.flat_map(|cluster| cluster.endpoints()).collect()
}

/// What watches and interferes, as far as the scenario needs it: it costs time.
pub(crate) struct Eyes {
    observers: Observers,
    faults: Arc<Injector>,
    watch: Arc<Watch>,
    /// Instructions must be counted.
    pub(crate) fuel: bool,
}

impl Eyes {
    /// Behind `observers`, which may interfere first.
    pub(crate) fn of(scenario: &Scenario, mut observers: Observers) -> Result<Self, String> {
        let faults = Arc::new(Injector::default());
        for fault in &scenario.faults {
            faults.arm(fault.fault()?);
        }
        let watch = Arc::new(Watch::default());
        let expects = || scenario.steps.iter().filter_map(|step| step.expect.as_ref());
        if !scenario.faults.is_empty() || scenario.steps.iter().any(|step| !step.faults.is_empty())
        {
            observers = observers.and(faults.clone());
        }
        let watches = |expect: &Expect| {
            !(expect.calls.is_empty()
                && expect.callbacks.is_empty()
                && expect.callback_order.is_empty()
                && expect.hostcalls.is_empty())
                || expect.traps.is_some()
                || expect.fuel_per_callback.is_some()
        };
        if expects().any(watches) {
            observers = observers.and(watch.clone());
        }
        let burns = |expect: &Expect| expect.fuel.is_some() || expect.fuel_per_callback.is_some();
        Ok(Self { observers, faults, watch, fuel: expects().any(burns) })
    }
}

/// Of a bootstrap, those that the suite's own documents use.
fn vm_ids(scenario: &Scenario) -> Vec<String> {
    let Some(suite) = &scenario.suite else { return vec!["weir".to_owned(), String::new()] };
    let filters = suite.filters.iter().chain(&suite.upstream_filters);
    filters.map(|filter| filter.vm_id.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}
