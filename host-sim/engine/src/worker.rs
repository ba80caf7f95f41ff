//! One thread's state machine: inputs with the clock's time in, outputs queued for the driver.
//!
//! The inputs of exchanges are in `exchange.rs`, those of attempts in `attempt.rs`; here are the
//! VMs, timers, and what hostcalls deferred until their guest had returned.

use crate::engine::ChainFilter;
use crate::inbox::Post;
use crate::listener::HttpStats;
use crate::plugin_slot::run_canary;
use crate::queue::QueueReady;
use crate::stream::{Filter, FilterKind, WasmFilter};
use crate::thread_state::{Deferred, Shared, ThreadState};
use crate::timer::Timer;
use crate::values::StreamValues;
use crate::vm::{Callback, Context, Entry, Outcome, RootState, Vm};
use crate::vm_slot::{Place, PluginHandle, VmSlot};
use crate::{Engine, LogLevel, Output, StartError, UnixNanos};
use host_sim_abi::PeerType;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// One worker (or the main thread): its VMs, exchanges, attempts and timers.
///
/// Drive it like this: feed an input, then take [`Worker::poll_output`] until it is `None`, then
/// sleep until [`Worker::next_deadline`] and call [`Worker::on_deadline`]. Inputs for ids that are
/// over are ignored, so a driver need not care about races between cancelling and receiving.
pub type Worker = Turn<'static>;

/// A worker's turn. The `'static` one is all there is of a worker; another one is taken from within
/// a hostcall: see `reentry.rs`.
pub struct Turn<'g> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) shared: Shared,
    pub(crate) vms: Vec<VmSlot>,
    pub(crate) handles: Vec<Option<PluginHandle>>,
    pub(crate) places: Vec<Place>,
    /// The main thread's handles that an update has replaced, while workers make it.
    pub(crate) retiring: Vec<usize>,
    /// What VMs that are no more have used.
    pub(crate) gone: Usage,
    /// The guest whose hostcall this turn is taken from.
    pub(crate) guest: Option<Entry<'g>>,
    /// Whose callback has run last.
    pub(crate) called: Option<usize>,
    /// What guests are to be told when the one has returned whose hostcall this turn is taken from.
    pub(crate) late: Vec<(usize, Deferred)>,
    /// Calls may enter VMs: there is an upstream filter that is a plugin.
    pub(crate) enters: bool,
}

/// Sums over VMs.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) fuel: u64,
    pub(crate) hostcalls: u64,
}

impl Turn<'_> {
    /// `None` is the main thread.
    pub(crate) fn start(engine: &Arc<Engine>, index: Option<u32>) -> Result<Self, StartError> {
        let mut worker = Self::bare(engine, index);
        engine.directory().enter(index, &worker.shared.borrow().inbox);
        for (at, slot) in engine.slots().iter().enumerate() {
            if slot.singleton && index.is_some() {
                continue;
            }
            let plugin = slot.current();
            if let (Some(plugin), None) = (&plugin, index) {
                run_canary(engine, plugin)?;
            }
            worker.fill_place(at, plugin.as_ref());
        }
        worker.run_deferred();
        if index.is_none() {
            engine.start_discovery()?;
            worker.receive_posts();
        }
        Ok(worker)
    }

    /// A thread without plugins.
    pub(crate) fn bare(engine: &Arc<Engine>, index: Option<u32>) -> Self {
        Self {
            engine: engine.clone(),
            shared: Rc::new(RefCell::new(ThreadState::new(engine, index))),
            vms: Vec::new(),
            handles: Vec::new(),
            places: Vec::new(),
            retiring: Vec::new(),
            gone: Usage::default(),
            guest: None,
            called: None,
            late: Vec::new(),
            enters: false,
        }
    }

    /// For each cluster, in which VMs its upstream plugins run now.
    pub(crate) fn note_upstream_vms(&mut self) {
        let engine = self.engine.clone();
        let vm_of = |filter: &ChainFilter| match filter {
            ChainFilter::Wasm(at) => match self.places.get(*at)? {
                Place::Filled { handle, .. } => Some(self.handles.get(*handle)?.as_ref()?.vm),
                Place::Missing | Place::Absent => None,
            },
            _ => None,
        };
        let chains = engine.upstream_filters().iter();
        let vms: Vec<Vec<usize>> =
            chains.map(|chain| chain.iter().filter_map(vm_of).collect()).collect();
        self.enters = vms.iter().any(|vms| !vms.is_empty());
        self.shared.borrow_mut().upstream_vms = vms;
    }

    /// The engine this worker belongs to.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Called, from any thread, when something for this worker has arrived from another one:
    /// [`Worker::next_deadline`] is then now. A driver that polls needs none.
    pub fn set_waker(&mut self, waker: impl Fn() + Send + Sync + 'static) {
        self.shared.borrow().inbox.set_waker(Box::new(waker));
    }

    /// When [`Worker::on_deadline`] is due next: a tick, a timeout, a retry.
    pub fn next_deadline(&mut self) -> Option<UnixNanos> {
        let shared = self.shared.borrow();
        if shared.inbox.is_empty() { shared.timers.next() } else { Some(shared.now()) }
    }

    /// Runs everything that is due by the engine's clock.
    pub fn on_deadline(&mut self) {
        self.receive_posts();
        let now = self.shared.borrow().now();
        loop {
            let due = self.shared.borrow_mut().timers.pop_due(now);
            let Some(timer) = due else { break };
            match timer {
                Timer::Tick { vm, root, generation } => self.tick(vm, root, generation),
                Timer::RouteTimeout { exchange } => self.on_route_timeout(exchange),
                Timer::PerTryTimeout { exchange } => self.on_per_try_timeout(exchange),
                Timer::Retry { exchange } => self.on_retry(exchange),
                Timer::StreamIdle { exchange } => self.on_stream_idle(exchange),
                Timer::RequestTimeout { exchange } => self.on_request_timeout(exchange),
                Timer::MaxStreamDuration { exchange } => self.on_max_stream_duration(exchange),
                Timer::ConnectionIdle { connection } => self.on_connection_idle(connection),
                Timer::ConnectionLongest { connection } => self.on_connection_longest(connection),
                Timer::CallTimeout { call } => self.on_call_timeout(call),
                Timer::GrpcTimeout { call } => self.on_grpc_timeout(call),
            }
            self.run_deferred();
        }
        self.receive_posts();
    }

    /// The next instruction, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.borrow_mut().outputs.pop_front()
    }

    /// Closes connections with network filters, then ends the root contexts, those of the last
    /// filter first: done, delete. A root that answers "not yet" is not waited for. The worker
    /// takes no more input.
    pub fn shutdown(&mut self) {
        self.close_all_connections();
        self.retire();
        let engine = self.engine.clone();
        let places = std::mem::take(&mut self.places);
        // A singleton service goes with the process, behind everything else.
        let places: Vec<_> = places.into_iter().zip(engine.slots()).rev().collect();
        let (singletons, others): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(_, slot)| slot.singleton);
        for (place, _) in others.into_iter().chain(singletons) {
            if let Place::Filled { handle, .. } = place {
                self.release(handle);
            }
        }
        // What streams still hold.
        for index in 0..self.vms.len() {
            for root in self.vm(index).map(|vm| vm.active_roots()).unwrap_or_default() {
                self.end_root(index, root);
            }
        }
    }

    /// Instructions executed by all VMs of this worker; 0 unless `EngineOptions::fuel`.
    #[must_use]
    pub fn fuel_consumed(&self) -> u64 {
        let vms = self.vms.iter().filter_map(|slot| slot.vm.as_ref());
        self.gone.fuel + vms.map(Vm::fuel_consumed).sum::<u64>()
    }

    /// Hostcalls made by all VMs of this worker so far.
    #[must_use]
    pub fn hostcall_count(&self) -> u64 {
        let vms = self.vms.iter().filter_map(|slot| slot.vm.as_ref());
        self.gone.hostcalls + vms.map(|vm| vm.store.data().hostcalls).sum::<u64>()
    }

    /// Linear memory of all VMs of this worker, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let vms = self.vms.iter().filter_map(|slot| slot.vm.as_ref());
        vms.filter_map(|vm| Some(vm.store.data().memory?.data_size(&vm.store))).sum()
    }

    /// Why a plugin's VM on this worker has failed, if it has.
    #[must_use]
    pub fn failure(&self, plugin: &str) -> Option<&str> {
        let handle = self.places.iter().find_map(|place| match place {
            Place::Filled { handle, .. } => {
                self.handles.get(*handle)?.as_ref().filter(|found| found.plugin.name() == plugin)
            }
            Place::Missing | Place::Absent => None,
        })?;
        self.vms.get(handle.vm)?.vm.as_ref()?.failed()
    }

    /// Does what hostcalls have asked for, now that their guests have returned. From within a
    /// hostcall of a guest that was called again, what it had asked for before counts: Envoy keeps
    /// one list a VM, and empties it behind each callback.
    pub(crate) fn run_deferred(&mut self) {
        loop {
            let due = |(vm, _): &mut (usize, Deferred)| {
                let runs = self.vms.get(*vm).is_some_and(|slot| slot.runs);
                !runs || self.called == Some(*vm)
            };
            let batch: Vec<_> = self.shared.borrow_mut().deferred.extract_if(.., due).collect();
            if batch.is_empty() {
                return;
            }
            for (_, deferred) in batch {
                self.perform(deferred);
            }
        }
    }

    fn perform(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Continue { stream, .. } | Deferred::Reset { stream }
                if self.is_bare(stream) => {}
            Deferred::Continue { stream, filter, .. } if self.is_connection(stream) => {
                self.resume_connection(stream, filter);
            }
            Deferred::Continue { stream, filter, way } => {
                self.forget_body(stream, way, filter);
                self.resume(stream, way, filter);
            }
            Deferred::Reset { stream } => self.reset_stream(stream),
            Deferred::Reply { stream, reply } => self.local_reply(stream, reply),
            Deferred::StartCall { call } => self.start_call(call),
            Deferred::DnsFailed { vm, generation, root, token } => {
                self.dns_failed(vm, generation, root, token);
            }
            Deferred::FlushGrpc { call } => self.flush_grpc(call),
            Deferred::CancelAttempt { attempt } => self.cancel_attempt(attempt),
            Deferred::GrpcClosed { call, root, code, message } => {
                self.grpc_closed(call, root, code, message);
            }
            Deferred::DeleteRoot { vm, root } => self.delete_root(vm, root),
        }
    }

    fn reset_stream(&mut self, id: u64) {
        if self.is_connection(id) {
            return self.close_connection(id, PeerType::Local, false);
        }
        let attempt = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let attempt = stream.attempt();
            let sent = attempt.as_ref().is_some_and(|a| a.sent && !a.response_ended);
            let is_attempt = attempt.is_some();
            if sent {
                shared.outputs.push_back(Output::CancelAttempt { attempt: crate::AttemptId(id) });
            }
            is_attempt
        };
        if attempt {
            let broken = crate::UpstreamFailure {
                kind: crate::UpstreamFailureKind::ResetBeforeHeaders,
                detail: String::new(),
            };
            self.upstream_failed(crate::AttemptId(id), broken);
        } else {
            self.reset_exchange(id);
        }
    }

    fn tick(&mut self, index: usize, root: u32, generation: u64) {
        let Some(vm) = self.vm(index).filter(|vm| vm.generation == generation) else { return };
        if vm.failed().is_some() {
            return;
        }
        let _ = self.invoke(index, root, Callback::Other, "proxy_on_tick", |store, exports| {
            exports.tick.as_ref().map(|f| f.call(store, root))
        });
        // The next tick counts from the end of this one.
        let mut shared = self.shared.borrow_mut();
        if let Some(tick) = shared.ticks.get(&(index, root)).copied() {
            shared.set_tick(index, root, generation, tick.period_ms);
        }
    }

    /// Does what other threads, or this one's last turn, have posted.
    pub(crate) fn receive_posts(&mut self) {
        loop {
            let post = self.shared.borrow().inbox.pop();
            match post {
                None => return,
                Some(Post::Queue(ready)) => self.queue_ready(ready),
                Some(Post::Update(rollout)) => self.follow(&rollout),
                Some(Post::Retire) => self.retire(),
            }
            self.run_deferred();
        }
    }

    /// Wakes the root that registered a queue last, if it is still there.
    fn queue_ready(&mut self, ready: QueueReady) {
        let (root, token) = (ready.root, ready.token);
        let vm = self.vm(ready.vm).filter(|vm| vm.generation == ready.generation);
        if vm.is_none_or(|vm| !vm.store.data().contexts.contains_key(&root)) {
            return;
        }
        let name = "proxy_on_queue_ready";
        let _ = self.invoke(ready.vm, root, Callback::Other, name, |store, exports| {
            exports.queue_ready.as_ref().map(|f| f.call(store, (root, token)))
        });
    }

    /// Asks a root to end. One that answers "not yet" waits for its `proxy_done`.
    pub(crate) fn end_root(&mut self, index: usize, root: u32) {
        let Some(vm) = self.vm(index) else { return };
        let outcome = vm.invoke(root, Callback::Log, "proxy_on_done", |store, exports| {
            exports.done.as_ref().map(|f| f.call(store, root))
        });
        if let Outcome::Returned(0) = outcome {
            if let Some(Context::Root { state, .. }) = vm.store.data_mut().contexts.get_mut(&root) {
                *state = RootState::PendingDone;
            }
        } else {
            self.delete_root(index, root);
        }
        self.run_deferred();
    }

    /// Deletes a root; its ticks stop, its calls are cancelled.
    fn delete_root(&mut self, index: usize, root: u32) {
        let Some(vm) = self.vm(index) else { return };
        let _ = vm.invoke(root, Callback::Log, "proxy_on_delete", |store, exports| {
            exports.delete.as_ref().map(|f| f.call(store, root))
        });
        let generation = vm.generation;
        vm.store.data_mut().remove_context(root);
        self.shared.borrow_mut().stop_tick(index, root);
        self.cancel_calls(index, generation, Some(root));
        self.drop_grpc_of(index, Some(root));
    }

    /// A VM is gone: nothing of it may reach its successor.
    pub(crate) fn forget_vm(&mut self, index: usize, generation: u64) {
        self.shared.borrow_mut().stop_ticks(index);
        self.cancel_calls(index, generation, None);
        self.drop_grpc_of(index, None);
    }

    fn dns_failed(&mut self, index: usize, generation: u64, root: u32, token: u32) {
        let Some(vm) = self.vm(index).filter(|vm| vm.generation == generation) else { return };
        let answer = crate::hostcalls::dns::encode(&[]);
        let len = answer.len() as u32;
        vm.store.data_mut().last_buffer = answer;
        let _ = vm.invoke(root, Callback::Other, "envoy_on_resolve_dns", |store, exports| {
            exports.resolve_dns.as_ref().map(|f| f.call(store, (root, token, len)))
        });
    }

    /// A VM that nobody runs.
    pub(crate) fn vm(&mut self, index: usize) -> Option<&mut Vm> {
        self.vms.get_mut(index)?.vm.as_mut()
    }

    pub(crate) fn downstream_filters(&mut self, listener: usize) -> Vec<Filter> {
        let engine = self.engine.clone();
        self.filters_of(engine.downstream_filters().get(listener))
    }

    pub(crate) fn upstream_filters(&mut self, cluster: usize) -> Vec<Filter> {
        let engine = self.engine.clone();
        self.filters_of(engine.upstream_filters().get(cluster))
    }

    pub(crate) fn network_filters(&mut self, listener: usize) -> Vec<Filter> {
        let engine = self.engine.clone();
        self.filters_of(engine.network_filters().get(listener))
    }

    /// A stream's filters, whose plugins it holds until [`Worker::release_filters`]. A plugin that
    /// is open when failed, and has failed, is left out; one that reloads gets its new VM here.
    fn filters_of(&mut self, chain: Option<&Vec<ChainFilter>>) -> Vec<Filter> {
        let chain = chain.map(Vec::as_slice).unwrap_or_default();
        let mut filters = Vec::with_capacity(chain.len());
        let mut missing = false;
        for filter in chain {
            let kind = match filter {
                // Envoy answers for the first one that waits to be discovered, and skips the rest.
                ChainFilter::Wasm(at) if matches!(self.places.get(*at), Some(Place::Missing)) => {
                    if std::mem::replace(&mut missing, true) {
                        continue;
                    }
                    FilterKind::MissingConfig
                }
                ChainFilter::Wasm(at) => {
                    let Some(wasm) = self.wasm_of(*at) else { continue };
                    FilterKind::Wasm(wasm)
                }
                ChainFilter::HeaderMutation(filter) => FilterKind::HeaderMutation(filter.clone()),
                ChainFilter::StatefulSession(filter) => FilterKind::StatefulSession(filter.clone()),
                ChainFilter::LocalRateLimit(filter) => {
                    FilterKind::LocalRateLimit(filter.clone(), None)
                }
            };
            filters.push(Filter::new(kind));
        }
        filters
    }

    /// A stream is gone: roots that only it has held end.
    pub(crate) fn release_filters(&mut self, filters: &[Filter]) {
        for filter in filters {
            if let FilterKind::Wasm(wasm) = &filter.kind {
                self.release(wasm.handle);
            }
        }
        self.run_deferred();
    }

    fn wasm_of(&mut self, at: usize) -> Option<WasmFilter> {
        self.reload_if_due(at);
        let Place::Filled { handle, .. } = *self.places.get(at)? else { return None };
        let held = self.handles.get(handle)?.as_ref()?;
        let plugin = held.plugin.clone();
        if plugin.is_open() && !self.is_alive(held) {
            return None;
        }
        let (vm, generation, root) = (held.vm, held.generation, held.root);
        self.hold_again(handle);
        let (context, failure_replied) = (None, false);
        Some(WasmFilter { plugin, handle, vm, generation, root, context, failure_replied })
    }

    pub(crate) fn http_stats(&self, listener: usize) -> Option<&HttpStats> {
        self.engine.listener(listener)?.http.as_ref()
    }

    pub(crate) fn write_access_logs(&self, id: u64, listener: usize) {
        let Some(compiled) = self.engine.listener(listener) else { return };
        if compiled.access_logs.is_empty() {
            return;
        }
        let shared = self.shared.borrow();
        let Some(stream) = shared.streams.get(&id) else { return };
        let values = StreamValues::new(&self.engine, stream);
        for log in &compiled.access_logs {
            self.engine.options().access_log.write(&log.target, &log.formatter.line(&values));
        }
    }

    pub(crate) fn log(&self, level: LogLevel, plugin: &str, message: &str) {
        self.shared.borrow().log(level, Some(plugin), message);
    }
}
