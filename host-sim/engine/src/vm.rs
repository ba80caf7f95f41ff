//! One instance of a module on one thread: store, callbacks, contexts, and how it fails.

use crate::cel::Expr;
use crate::cluster::Cluster;
use crate::deadline;
use crate::exports::Exports;
use crate::filter_state::Prototype;
use crate::grpc::GrpcView;
use crate::limits::{Limiter, Passed, Used};
use crate::plugin::Plugin;
use crate::stats::{Counter, Gauge, Histogram};
use crate::thread_state::{CallResponse, Deferred, Shared};
use crate::{CallbackEnd, Limits, LogLevel, Observer, Origin, Trap, authors_place};
use bytes::Bytes;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use wasmtime::{AsContextMut, Extern, Instance, Memory, Store, StoreContextMut, TypedFunc};

/// How many of a module's own log lines a start error quotes.
const LAST_WORDS: usize = 8;

/// Bytes of a callback's own log lines that an observer of its trap gets.
const MOST_SAID: usize = 4096;

/// A VM: alive, or failed and never called again.
pub(crate) struct Vm {
    pub(crate) store: Store<VmState>,
    pub(crate) exports: Rc<Exports>,
    /// Tells it from the VMs that were in its place before.
    pub(crate) generation: u64,
    /// Instructions of callbacks that are over, or 0 where nobody counts.
    burnt: u64,
    /// What a callback gets.
    fuel: Option<u64>,
    deadline_ticks: Option<u64>,
}

/// What hostcalls know.
pub(crate) struct VmState {
    pub(crate) shared: Shared,
    /// Position among the worker's VMs.
    pub(crate) index: usize,
    pub(crate) generation: u64,
    /// The plugin that made the VM: its `vm_config` counts.
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    /// For the hostcalls from within which Envoy calls back.
    pub(crate) exports: Option<Rc<Exports>>,
    /// The guest's allocator runs: most hostcalls are forbidden.
    pub(crate) allocating: bool,
    /// `_initialize` or `_start` runs: most hostcalls are forbidden.
    pub(crate) initializing: bool,
    pub(crate) contexts: HashMap<u32, Context>,
    pub(crate) last_context: u32,
    /// The effective context; 0 is none.
    pub(crate) current: u32,
    /// The context that the callback is for, whatever the guest has made effective.
    pub(crate) entered: u32,
    pub(crate) callback: Callback,
    pub(crate) call_response: Option<CallResponse>,
    pub(crate) grpc: GrpcView,
    /// What `proxy_get_status` tells; the code outlives the callback, the text does not.
    pub(crate) status: (u32, Cow<'static, str>),
    /// Whatever buffer was set last: Envoy shows it as buffer 8.
    pub(crate) last_buffer: Bytes,
    pub(crate) metrics: Metrics,
    pub(crate) last_http_call: u32,
    pub(crate) last_grpc_call: u32,
    pub(crate) last_grpc_stream: u32,
    pub(crate) last_dns_token: u32,
    /// Properties that contexts have declared.
    pub(crate) declared: HashMap<u32, Vec<(Vec<u8>, Prototype)>>,
    /// Expressions of root contexts.
    pub(crate) expressions: HashMap<u32, Expressions>,
    pub(crate) last_words: VecDeque<String>,
    /// Those of the running callback; kept for an observer.
    said: String,
    /// Reused by hostcalls that build an answer.
    pub(crate) scratch: Vec<u8>,
    pub(crate) hostcalls: u64,
    /// A local reply was sent: whatever the callback answers, iteration stops.
    pub(crate) stop_iteration: bool,
    /// Why the VM failed.
    pub(crate) failed: Option<String>,
    /// The cluster whose call runs upstream filters right now, inside of the hostcall.
    pub(crate) calling: Option<Arc<Cluster>>,
    /// A callback other than a context's creation has been entered from within a hostcall.
    pub(crate) reentered: bool,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    limits: Limits,
    /// By the callback that runs.
    used: Used,
    limiter: Limiter,
}

/// What a context id stands for.
#[derive(Clone)]
pub(crate) enum Context {
    Root { plugin: Arc<Plugin>, state: RootState },
    Stream { root: u32, stream: u64, filter: usize },
}

/// Where a root context is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootState {
    Active,
    /// Returned false from `on_done`; waits for `proxy_done`.
    PendingDone,
    Done,
}

/// Which callback runs, as far as hostcalls care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Callback {
    #[default]
    None,
    RootCreate,
    VmStart,
    Configure,
    Stream,
    Log,
    HttpCallResponse,
    Other,
}

/// Expressions a root context has created, by token.
#[derive(Default)]
pub(crate) struct Expressions {
    pub(crate) next: u32,
    pub(crate) expressions: HashMap<u32, Rc<Expr>>,
}

/// Metrics a VM has defined; ids are its own, stats the process's.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) counters: Vec<Counter>,
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) histograms: Vec<Histogram>,
}

/// A VM as its callbacks are given it: from its thread's turn, or from within one of its hostcalls.
pub(crate) type Entry<'a> = StoreContextMut<'a, VmState>;

/// What a callback came to.
pub(crate) enum Outcome<R> {
    /// The module does not have it.
    Absent,
    Returned(R),
    /// The VM has failed, now or before.
    Failed,
}

/// What a callback returns, as a number if it is one.
pub(crate) trait Answer {
    fn raw(&self) -> Option<u32>;
}

impl Answer for () {
    fn raw(&self) -> Option<u32> {
        None
    }
}

impl Answer for u32 {
    fn raw(&self) -> Option<u32> {
        Some(*self)
    }
}

impl<R> Outcome<R> {
    pub(crate) fn or(self, absent: R) -> Option<R> {
        match self {
            Self::Absent => Some(absent),
            Self::Returned(value) => Some(value),
            Self::Failed => None,
        }
    }
}

impl Vm {
    /// Links and instantiates; runs `_initialize` or `_start`.
    pub(crate) fn start(
        shared: &Shared,
        plugin: &Arc<Plugin>,
        index: usize,
        generation: u64,
    ) -> Result<Self, String> {
        let (fuel, limits) = {
            let shared = shared.borrow();
            let options = shared.engine.options();
            (options.fuel, options.limits.clone())
        };
        let fuel = limits.fuel.or(fuel.then_some(u64::MAX));
        let deadline_ticks = limits.deadline.map(deadline::ticks);
        let module = &plugin.code.module;
        let state = VmState::new(shared.clone(), plugin.clone(), index, generation);
        let mut store = Store::new(module.engine(), state);
        store.limiter(|state| &mut state.limiter);
        allow(&mut store, fuel, deadline_ticks);
        let instance = plugin
            .linked()?
            .instantiate(&mut store)
            .map_err(|e| store.data().describe(&e))
            .map_err(|reason| format!("Failed to load Wasm module: {reason}"))?;
        let exports = Rc::new(Exports::find(&instance, &mut store, plugin)?);
        store.data_mut().exports = Some(exports.clone());
        let mut vm = Self { store, exports, generation, burnt: 0, fuel, deadline_ticks };
        vm.find_memory(&instance)?;
        vm.initialize(&instance)?;
        vm.settle();
        Ok(vm)
    }

    fn find_memory(&mut self, instance: &Instance) -> Result<(), String> {
        let memory =
            instance.exports(&mut self.store).find_map(|export| match export.into_extern() {
                Extern::Memory(memory) => Some(memory),
                _ => None,
            });
        self.store.data_mut().memory = memory;
        // Envoy prefers `malloc`, against the specification.
        for name in ["malloc", "proxy_on_memory_allocate"] {
            if let Ok(function) = instance.get_typed_func::<u32, u32>(&mut self.store, name) {
                self.store.data_mut().allocate = Some(function);
                return Ok(());
            }
        }
        Err("Wasm module is missing malloc/proxy_on_memory_allocate function.".to_owned())
    }

    /// A reactor's `_initialize` (then `main`), else a command's `_start`.
    fn initialize(&mut self, instance: &Instance) -> Result<(), String> {
        let start = |vm: &mut Self, name: &str| -> Result<bool, String> {
            let Some(function) = instance.get_func(&mut vm.store, name) else { return Ok(false) };
            let ty = function.ty(&vm.store);
            let params = vec![wasmtime::Val::I32(0); ty.params().len()];
            let mut results = vec![wasmtime::Val::I32(0); ty.results().len()];
            vm.store.data_mut().initializing = true;
            let called = function.call(&mut vm.store, &params, &mut results);
            vm.store.data_mut().initializing = false;
            let describe = |e| vm.store.data().describe(&e);
            called.map_err(|e| format!("Function: {name} failed: {}", describe(e)))?;
            Ok(true)
        };
        if start(self, "_initialize")? {
            let _ = start(self, "main")? || start(self, "__main_void")?;
        } else {
            start(self, "_start")?;
        }
        Ok(())
    }

    /// Runs a callback for a context. A trap fails the VM for good.
    pub(crate) fn invoke<R: Answer>(
        &mut self,
        context: u32,
        callback: Callback,
        name: &'static str,
        run: impl FnOnce(&mut Entry<'_>, &Exports) -> Option<wasmtime::Result<R>>,
    ) -> Outcome<R> {
        if self.failed().is_some() {
            return Outcome::Failed;
        }
        let state = self.store.data_mut();
        state.current = context;
        state.entered = context;
        state.callback = callback;
        // A reply for another stream than the callback's says nothing about the next callback.
        state.stop_iteration = false;
        state.used = Used::default();
        state.said.clear();
        allow(&mut self.store, self.fuel, self.deadline_ticks);
        let before = self.observe_start(name);
        let result = match self.interruption(name) {
            Some(reason) => Some(Err(wasmtime::Error::msg(reason))),
            None => run(&mut self.store.as_context_mut(), &self.exports),
        };
        self.settle();
        if let (Some(before), Some(result)) = (before, &result) {
            self.observe_end(context, name, before, result);
        }
        let state = self.store.data_mut();
        state.current = 0;
        state.callback = Callback::None;
        match result {
            None => Outcome::Absent,
            // A callback that was entered from within this one may have failed.
            Some(Ok(_)) if state.failed.is_some() => Outcome::Failed,
            Some(Ok(value)) => Outcome::Returned(value),
            Some(Err(error)) => {
                state.fail(name, &error, "");
                Outcome::Failed
            }
        }
    }

    /// Why it failed, if it has.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.store.data().failed.as_deref()
    }

    /// Tells an observer that a callback begins; gives the fuel burnt so far.
    fn observe_start(&self, name: &'static str) -> Option<u64> {
        let state = self.store.data();
        let observer = state.observer.as_ref()?;
        if self.exports.has(name) {
            observer.enter(state.origin(), name);
        }
        Some(self.fuel_consumed())
    }

    /// Why an observer wants no callback, but a trap.
    fn interruption(&self, name: &'static str) -> Option<String> {
        let state = self.store.data();
        let observer = state.observer.as_ref().filter(|_| self.exports.has(name))?;
        observer.interrupt(state.origin(), name)
    }

    /// Tells an observer what a callback took, and how it ended.
    fn observe_end<R: Answer>(
        &mut self,
        context: u32,
        name: &'static str,
        before: u64,
        result: &wasmtime::Result<R>,
    ) {
        let fuel = self.fuel_consumed() - before;
        let returned = result.as_ref().ok().and_then(Answer::raw);
        let end = CallbackEnd { fuel, returned, trapped: result.is_err() };
        let state = self.store.data_mut();
        state.current = context;
        if let Some(observer) = &state.observer {
            if let Err(error) = result {
                observer.trapped(state.origin(), name, &state.trap(error, ""));
            }
            observer.callback(state.origin(), name, end);
        }
    }

    /// Roots that have not been asked to end, the last one first.
    pub(crate) fn active_roots(&self) -> Vec<u32> {
        if self.failed().is_some() {
            return Vec::new();
        }
        let is_active =
            |context: &Context| matches!(context, Context::Root { state: RootState::Active, .. });
        let contexts = self.store.data().contexts.iter();
        let mut roots: Vec<u32> =
            contexts.filter(|(_, context)| is_active(context)).map(|(id, _)| *id).collect();
        roots.sort_unstable_by(|a, b| b.cmp(a));
        roots
    }

    /// Instructions executed since the start, by callbacks that are over.
    pub(crate) fn fuel_consumed(&self) -> u64 {
        self.burnt
    }

    /// Books what the callback has burnt. What is left until the next one begins stays as it is.
    fn settle(&mut self) {
        if let (Some(full), Ok(left)) = (self.fuel, self.store.get_fuel()) {
            self.burnt = self.burnt.saturating_add(full.saturating_sub(left));
            let _ = self.store.set_fuel(full);
        }
    }
}

/// Gives the next callback its full share. Neither can fail: the code was compiled for it.
fn allow(store: &mut Store<VmState>, fuel: Option<u64>, deadline_ticks: Option<u64>) {
    if let Some(fuel) = fuel {
        let _ = store.set_fuel(fuel);
    }
    if let Some(ticks) = deadline_ticks {
        store.set_epoch_deadline(ticks);
    }
}

/// A trap in V8's words first, then wasmtime's own with the guest's stack.
fn describe(error: &wasmtime::Error) -> String {
    use wasmtime::Trap;
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "Uncaught RuntimeError: unreachable",
        Some(Trap::MemoryOutOfBounds) => "Uncaught RuntimeError: memory access out of bounds",
        Some(Trap::IntegerDivisionByZero) => "Uncaught RuntimeError: divide by zero",
        Some(Trap::StackOverflow) => "Uncaught RangeError: Maximum call stack size exceeded",
        Some(Trap::TableOutOfBounds) => "Uncaught RuntimeError: table index is out of bounds",
        _ => "",
    };
    let detail = format!("{error:#}");
    if reason.is_empty() { detail } else { format!("{reason} ({detail})") }
}

impl VmState {
    fn new(shared: Shared, plugin: Arc<Plugin>, index: usize, generation: u64) -> Self {
        let options = shared.borrow().engine.options().clone();
        let limiter = Limiter { memory: options.limits.memory, refused: None };
        Self {
            shared,
            index,
            generation,
            plugin,
            memory: None,
            allocate: None,
            exports: None,
            allocating: false,
            initializing: false,
            contexts: HashMap::new(),
            last_context: 0,
            current: 0,
            entered: 0,
            callback: Callback::None,
            call_response: None,
            grpc: GrpcView::default(),
            status: (0, Cow::Borrowed("")),
            last_buffer: Bytes::new(),
            metrics: Metrics::default(),
            last_http_call: 0,
            last_grpc_call: 1,
            last_grpc_stream: 2,
            last_dns_token: 1,
            declared: HashMap::new(),
            expressions: HashMap::new(),
            last_words: VecDeque::new(),
            said: String::new(),
            scratch: Vec::new(),
            hostcalls: 0,
            stop_iteration: false,
            failed: None,
            calling: None,
            reentered: false,
            observer: options.observer,
            limits: options.limits,
            used: Used::default(),
            limiter,
        }
    }

    /// Notes what the guest has asked for, to be done when it has returned.
    pub(crate) fn defer(&self, deferred: Deferred) {
        self.shared.borrow_mut().defer(self.index, deferred);
    }

    /// Ids of roots and streams come from one counter.
    pub(crate) fn add_context(&mut self, context: Context) -> u32 {
        self.last_context += 1;
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    /// The root of the effective context, or none.
    pub(crate) fn root_id(&self) -> Option<u32> {
        self.root_of(self.current)
    }

    pub(crate) fn root_of(&self, context: u32) -> Option<u32> {
        match self.contexts.get(&context)? {
            Context::Root { .. } => Some(context),
            Context::Stream { root, .. } => Some(*root),
        }
    }

    /// How the effective context's root has declared a property.
    pub(crate) fn declared_property(&self, path: &[u8]) -> Prototype {
        let declared = self.root_id().and_then(|root| self.declared.get(&root));
        let found = declared.into_iter().flatten().find(|(name, _)| name == path);
        found.map(|(_, prototype)| prototype.clone()).unwrap_or_default()
    }

    /// Forgets a context and what it has declared and created.
    pub(crate) fn remove_context(&mut self, context: u32) {
        self.contexts.remove(&context);
        self.declared.remove(&context);
        self.expressions.remove(&context);
    }

    /// The plugin of the effective context.
    pub(crate) fn current_plugin(&self) -> Option<&Arc<Plugin>> {
        match self.contexts.get(&self.root_id()?)? {
            Context::Root { plugin, .. } => Some(plugin),
            Context::Stream { .. } => None,
        }
    }

    /// Stream and filter of the effective context, if it is a stream context.
    pub(crate) fn current_stream(&self) -> Option<(u64, usize)> {
        match self.contexts.get(&self.current)? {
            Context::Stream { stream, filter, .. } => Some((*stream, *filter)),
            Context::Root { .. } => None,
        }
    }

    /// What a gRPC callback shows to the contexts of its root.
    pub(crate) fn shown_grpc(&self) -> Option<&GrpcView> {
        self.root_id().filter(|root| *root == self.grpc.root).map(|_| &self.grpc)
    }

    /// The same, to be changed.
    pub(crate) fn shown_grpc_mut(&mut self) -> Option<&mut GrpcView> {
        self.root_id().filter(|root| *root == self.grpc.root).map(|_| &mut self.grpc)
    }

    /// Whether the effective context is one of a network filter.
    pub(crate) fn is_connection(&self) -> bool {
        let Some((stream, _)) = self.current_stream() else { return false };
        let mut shared = self.shared.borrow_mut();
        shared.streams.get_mut(&stream).is_some_and(|stream| stream.connection().is_some())
    }

    /// Whether the plugin's configuration can be read as buffer 7.
    pub(crate) fn shows_configuration(&self) -> bool {
        matches!(self.callback, Callback::Configure | Callback::RootCreate)
    }

    /// Who speaks, for an observer.
    pub(crate) fn origin(&self) -> Origin<'_> {
        let plugin = self.current_plugin().unwrap_or(&self.plugin).name();
        let shared = self.shared.borrow();
        let stream = self.current_stream();
        let exchange = stream.and_then(|(stream, _)| shared.exchange_of(stream));
        Origin { worker: shared.worker, plugin, context: self.current, exchange }
    }

    /// Counts a hostcall of the running callback.
    pub(crate) fn use_hostcall(
        &mut self,
        name: &str,
        args: &[u64],
        memory: usize,
    ) -> wasmtime::Result<()> {
        Ok(self.used.hostcall(&self.limits, name, args, memory)?)
    }

    /// Counts bytes that the running callback hands to the host besides its hostcalls' own.
    pub(crate) fn use_bytes(&mut self, count: usize) -> wasmtime::Result<()> {
        Ok(self.used.bytes(&self.limits, count as u64)?)
    }

    /// Why a callback ended as it did: the limit it passed, or the trap, and whether memory was
    /// refused before.
    fn describe(&self, error: &wasmtime::Error) -> String {
        let passed = match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::OutOfFuel) => self.limits.fuel.map(Passed::Fuel),
            Some(wasmtime::Trap::Interrupt) => self.limits.deadline.map(Passed::Deadline),
            _ => error.downcast_ref::<Passed>().copied(),
        };
        let mut text = match passed {
            Some(passed) => format!("{passed} ({error:#})"),
            None => describe(error),
        };
        if let Some(wanted) = self.limiter.refused {
            let most = self.limiter.memory;
            text.push_str(&format!(
                "; before, memory of {wanted} bytes was refused: the limit is {most} (limits.memory)"
            ));
        }
        text
    }

    /// The VM is never called again. `hint` ends the report.
    pub(crate) fn fail(&mut self, callback: &str, error: &wasmtime::Error, hint: &str) {
        let mut what = format!("Function: {callback} failed: {}", self.describe(error));
        let frames = self.plugin.code.debug.frames_of(error);
        if let Some(place) = authors_place(&frames) {
            what.push_str(&format!("\n  at {place}"));
        }
        what.push_str(hint);
        self.allocating = false;
        let name = self.plugin.name();
        let text = format!("wasm plugin {name}: {what}");
        self.shared.borrow().log(LogLevel::Critical, Some(name), &text);
        self.failed = Some(what);
    }

    /// What a trap comes to, for an observer.
    pub(crate) fn trap(&self, error: &wasmtime::Error, hint: &str) -> Trap {
        let frames = self.plugin.code.debug.frames_of(error);
        Trap { reason: self.describe(error) + hint, said: self.said.clone(), frames }
    }

    pub(crate) fn remember(&mut self, line: &str) {
        if self.last_words.len() == LAST_WORDS {
            self.last_words.pop_front();
        }
        self.last_words.push_back(line.to_owned());
        if self.observer.is_some() && self.said.len() < MOST_SAID {
            self.said.push_str(line);
            self.said.push('\n');
        }
    }
}
