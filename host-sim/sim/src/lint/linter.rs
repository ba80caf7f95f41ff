//! The observer that watches a run.

use super::call;
use super::check;
use super::facts::Facts;
use super::finding::Finding;
use super::rules::{Level, Rule, rule};
use super::scene::{Hit, Plugin, Running, Scene, Seen, Stream, Surprise, Vm, is_stream};
use host_sim_abi::Status;
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{CallbackEnd, Frame, HostcallView, Observer, Origin, Trap, authors_place};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Contexts remembered at once; a module that exports no `proxy_on_delete` never says that one is
/// over.
const MOST_CONTEXTS: usize = 50_000;

/// Functions of a stack that a finding shows.
const DEPTH: usize = 8;

type Told = Box<dyn Fn(&Finding) + Send + Sync>;

/// Watches plugins and keeps what they do wrong, each mistake once.
pub struct Linter {
    facts: Facts,
    told: Option<Told>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Callbacks under way by thread, innermost last.
    running: BTreeMap<Option<u32>, Vec<Running>>,
    streams: HashMap<(Option<u32>, usize, u32), Stream>,
    vms: BTreeMap<(Option<u32>, usize), Vm>,
    plugins: BTreeMap<String, Plugin>,
    found: Vec<Finding>,
    index: BTreeMap<(&'static str, String, &'static str, String), usize>,
}

impl Linter {
    /// Knows what the bootstrap says, and has found what is wrong with its modules and
    /// configurations. Relative paths of modules start at `base_dir`, or the current directory.
    #[must_use]
    pub fn new(bootstrap: &Bootstrap, base_dir: Option<&Path>) -> Self {
        let mut facts = Facts::of(bootstrap, base_dir);
        let state = State { found: std::mem::take(&mut facts.findings), ..State::default() };
        Self { facts, told: None, state: Mutex::new(state) }
    }

    /// Calls `told` for each finding when it is made first, those that are known already included.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(&Finding) + Send + Sync + 'static) -> Self {
        self.state().found.iter().for_each(&told);
        self.told = Some(Box::new(told));
        self
    }

    /// What was found so far, the worst first. Streams that are still paused are part of it: ask
    /// when the run is over.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let state = &mut *self.state();
        let left: Vec<_> = state
            .streams
            .iter()
            .filter_map(|((_, vm, _), stream)| {
                let (name, _) = self.facts.plugins().find(|(_, facts)| facts.vm == *vm)?;
                let plugin = state.plugins.get(name)?;
                Some((name.clone(), check::leftover(stream, plugin)?))
            })
            .collect();
        let mut found = state.found.clone();
        for (plugin, hit) in left {
            let known = |own: &Finding| own.lint == hit.lint && own.plugin == plugin;
            if !found.iter().any(known)
                && let Some(rule) = rule(hit.lint)
            {
                found.push(Finding::fixed(rule, &plugin, hit.message));
            }
        }
        found.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.lint.cmp(b.lint)));
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        state: &mut State,
        origin: Origin<'_>,
        callback: &'static str,
        hits: Vec<Hit>,
        hostcall: Option<&dyn Fn() -> String>,
        stack: &dyn Fn() -> Vec<Frame>,
    ) {
        for hit in hits {
            let Some(rule) = rule(hit.lint) else { continue };
            let plugin = origin.plugin.to_owned();
            let key = (hit.lint, plugin, callback, hit.key.clone());
            if let Some(at) = state.index.get(&key) {
                state.found[*at].count += 1;
                continue;
            }
            let finding = finding(rule, origin.plugin, callback, hit, hostcall, &stack());
            if let Some(told) = &self.told {
                told(&finding);
            }
            state.index.insert(key, state.found.len());
            state.found.push(finding);
        }
    }
}

fn finding(
    rule: &Rule,
    plugin: &str,
    callback: &'static str,
    hit: Hit,
    hostcall: Option<&dyn Fn() -> String>,
    frames: &[Frame],
) -> Finding {
    let place = authors_place(frames).map(ToString::to_string);
    let place = place.or_else(|| panic_place(&hit));
    let named = |frame: &&Frame| {
        let name = frame.function.as_str();
        frame.is_authors() && !name.is_empty() && !name.starts_with("wasm-function[")
    };
    let names = frames.iter().filter(named);
    let stack = names.map(|frame| frame.function.clone()).take(DEPTH).collect();
    Finding {
        callback: Some(callback).filter(|name| !name.is_empty()),
        hostcall: hostcall.map(|text| text()),
        place,
        stack,
        mend: hit.mend.unwrap_or_else(|| rule.mend.to_owned()),
        ..Finding::fixed(rule, plugin, hit.message)
    }
}

/// Where a Rust panic says it was, unless that is the SDK or the standard library.
fn panic_place(hit: &Hit) -> Option<String> {
    let place = hit.message.strip_prefix("panicked at ")?.split_once(":\n")?.0;
    let (file, _column) = place.rsplit_once(':')?;
    let foreign = ["/registry/src/", "/rustc/", "/library/", "proxy-wasm-"];
    (!foreign.iter().any(|part| file.contains(part))).then(|| file.to_owned())
}

impl Observer for Linter {
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        let state = &mut *self.state();
        let running = Running { callback: name, context: origin.context, ..Running::default() };
        state.running.entry(origin.worker).or_default().push(running);
        if let Some(facts) = self.facts.plugin(origin.plugin)
            && name == "proxy_on_request_headers"
        {
            state.vms.entry((origin.worker, facts.vm)).or_default().streams += 1;
        }
    }

    fn hostcall(&self, _: Origin<'_>, _: &HostcallView<'_>, _: Option<Status>) {}

    fn answered(
        &self,
        origin: Origin<'_>,
        call: &HostcallView<'_>,
        status: Option<Status>,
        stack: &dyn Fn() -> Vec<Frame>,
    ) {
        let Some(plugin) = self.facts.plugin(origin.plugin) else { return };
        let state = &mut *self.state();
        if state.streams.len() > MOST_CONTEXTS {
            state.streams.clear();
        }
        let running = state.running.entry(origin.worker).or_default();
        if running.is_empty() {
            running.push(Running::default());
        }
        let Some(running) = running.last_mut() else { return };
        let callback = running.callback;
        let seen = Seen { origin, call, status, callback, facts: &self.facts, plugin };
        let mut scene = Scene {
            running,
            stream: state.streams.entry((origin.worker, plugin.vm, origin.context)).or_default(),
            vm: state.vms.entry((origin.worker, plugin.vm)).or_default(),
            plugin: state.plugins.entry(origin.plugin.to_owned()).or_default(),
        };
        let mut hits = check::hostcall(&seen, &mut scene);
        let render = || call::render(call, status);
        if let Some(status) = status.filter(|status| *status != Status::Ok) {
            let why = host_sim_abi::why(status, call.name);
            let of_hit = hits.first().and_then(|hit| Some((rule(hit.lint)?, hit)));
            let usual = is_usual(call.name, status);
            scene.running.surprise = Some(match (of_hit, why) {
                (Some((rule, hit)), _) => Surprise {
                    call: render(),
                    rule: hit.message.clone(),
                    mend: hit.mend.clone().unwrap_or_else(|| rule.mend.to_owned()),
                },
                (None, why) => Surprise {
                    call: render(),
                    rule: why.unwrap_or("the hostcall did not do what was asked").to_owned(),
                    mend: "look at the status before using what was asked for".to_owned(),
                },
            });
            if hits.is_empty() && !usual {
                let why = why.unwrap_or("the hostcall did not do what was asked");
                let message = format!("{} answered {status:?}: {why}", call.name);
                hits.push(Hit::new("surprising-status", call.name, message));
            }
        }
        self.add(state, origin, callback, hits, Some(&render), stack);
    }

    fn trapped(&self, origin: Origin<'_>, name: &'static str, trap: &Trap) {
        let state = &mut *self.state();
        let running = state.running.get(&origin.worker).and_then(|running| running.last());
        let hit = match running {
            Some(running) => check::trapped(running, trap),
            None => check::trapped(&Running::default(), trap),
        };
        let call = running.and_then(|running| running.surprise.as_ref());
        let call = call.filter(|_| hit.mend.is_some()).map(|surprise| surprise.call.clone());
        let render = call.map(|call| move || call.clone());
        let render = render.as_ref().map(|render| render as &dyn Fn() -> String);
        self.add(state, origin, name, vec![hit], render, &|| trap.frames.clone());
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        let state = &mut *self.state();
        let Some(running) = state.running.get_mut(&origin.worker) else { return };
        let Some(at) = running.iter().rposition(|own| own.callback == name) else { return };
        let running = running.remove(at);
        let Some(facts) = self.facts.plugin(origin.plugin) else { return };
        let key = (origin.worker, facts.vm, running.context);
        let plugin = state.plugins.entry(origin.plugin.to_owned()).or_default();
        let stream = state.streams.entry(key).or_default();
        let mut hits = check::ended(&running, stream, facts, plugin, end);
        if matches!(name, "proxy_on_log" | "proxy_on_done" | "proxy_on_delete") {
            hits.extend(check::leftover(stream, plugin));
            stream.paused = None;
        }
        if name == "proxy_on_delete" || !is_stream(name) {
            state.streams.remove(&key);
        }
        self.add(state, origin, name, hits, None, &Vec::new);
    }
}

/// Answers that are part of the ordinary use of a hostcall.
fn is_usual(call: &str, status: Status) -> bool {
    match status {
        Status::NotFound => matches!(
            call,
            "proxy_get_header_map_value"
                | "proxy_get_shared_data"
                | "proxy_get_property"
                | "proxy_get_buffer_bytes"
        ),
        Status::Empty | Status::CasMismatch => true,
        // A cluster without endpoints is an outage, not a mistake.
        Status::InternalFailure => {
            matches!(call, "proxy_http_call" | "proxy_grpc_call" | "proxy_grpc_stream")
        }
        _ => false,
    }
}

/// The worst of these.
#[must_use]
pub fn worst(findings: &[Finding]) -> Option<Level> {
    findings.iter().map(|finding| finding.level).max()
}
