//! One thread's state machine: inputs with the clock's time in, outputs queued for the driver.
//!
//! The inputs of exchanges are in `exchange.rs`, those of attempts in `attempt.rs`; here are the
//! VMs, timers, and what hostcalls deferred until their guest had returned.

use crate::listener::HttpStats;
use crate::plugin::Plugin;
use crate::stream::{Filter, FilterKind, WasmFilter};
use crate::thread_state::{Deferred, Shared, ThreadState};
use crate::timer::Timer;
use crate::values::StreamValues;
use crate::vm::{Callback, Context, Outcome, RootState, Vm};
use crate::vm_slot::VmSlot;
use crate::{Engine, LogLevel, Output, StartError, UnixNanos};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// One worker (or the main thread): its VMs, exchanges, attempts and timers.
///
/// Drive it like this: feed an input, then take [`Worker::poll_output`] until it is `None`, then
/// sleep until [`Worker::next_deadline`] and call [`Worker::on_deadline`]. Inputs for ids that are
/// over are ignored, so a driver need not care about races between cancelling and receiving.
pub struct Worker {
    pub(crate) engine: Arc<Engine>,
    pub(crate) shared: Shared,
    pub(crate) vms: Vec<VmSlot>,
    downstream: Vec<Rc<[Template]>>,
    upstream: Vec<Rc<[Template]>>,
}

/// A filter of a configured chain.
pub(crate) enum Template {
    Wasm { plugin: Arc<Plugin>, vm: usize },
    HeaderMutation(Arc<crate::native_filter::HeaderMutation>),
    LocalRateLimit(Arc<crate::native_filter::LocalRateLimit>),
}

impl Worker {
    /// `None` is the main thread.
    pub(crate) fn start(engine: &Arc<Engine>, index: Option<u32>) -> Result<Self, StartError> {
        let mut worker = Self::bare(engine, index);
        for plugin in engine.plugins() {
            if !(plugin.singleton && index.is_some()) {
                worker.add_plugin(plugin)?;
            }
        }
        worker.downstream = worker.chains(engine.downstream_filters());
        worker.upstream = worker.chains(engine.upstream_filters());
        let upstream_vms = worker.upstream.iter().map(|chain| {
            let vms = chain.iter().filter_map(|template| match template {
                Template::Wasm { vm, .. } => Some(*vm),
                _ => None,
            });
            vms.collect()
        });
        worker.shared.borrow_mut().upstream_vms = upstream_vms.collect();
        worker.run_deferred();
        Ok(worker)
    }

    /// One plugin's trial run, as Envoy makes it before it accepts a configuration. The VM is
    /// dropped without done or delete; what it wrote to shared data stays.
    pub(crate) fn canary(engine: &Arc<Engine>, plugin: &Arc<Plugin>) -> Result<(), StartError> {
        Self::bare(engine, None).add_plugin(plugin)
    }

    fn bare(engine: &Arc<Engine>, index: Option<u32>) -> Self {
        let shared = Rc::new(RefCell::new(ThreadState::new(engine, index)));
        let (vms, downstream, upstream) = (Vec::new(), Vec::new(), Vec::new());
        Self { engine: engine.clone(), shared, vms, downstream, upstream }
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

    /// Tears down root contexts: done, delete. The worker takes no more input.
    pub fn shutdown(&mut self) {
        for index in 0..self.vms.len() {
            let Some(vm) = self.vm(index) else { continue };
            let contexts = &vm.store.data().contexts;
            let mut roots: Vec<u32> = contexts
                .iter()
                .filter(|(_, context)| matches!(context, Context::Root { .. }))
                .map(|(id, _)| *id)
                .collect();
            roots.sort_unstable();
            for root in roots {
                self.end_root(index, root);
            }
        }
    }

    /// Instructions executed by all VMs of this worker; 0 unless `EngineOptions::fuel`.
    #[must_use]
    pub fn fuel_consumed(&self) -> u64 {
        self.vms.iter().filter_map(|slot| slot.vm.as_ref()).map(Vm::fuel_consumed).sum()
    }

    /// Hostcalls made by all VMs of this worker so far.
    #[must_use]
    pub fn hostcall_count(&self) -> u64 {
        let vms = self.vms.iter().filter_map(|slot| slot.vm.as_ref());
        vms.map(|vm| vm.store.data().hostcalls).sum()
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
        let slot = self.vms.iter().find(|slot| slot.serves(plugin))?;
        slot.vm.as_ref()?.failed.as_deref()
    }

    /// Does what hostcalls have asked for, now that no guest runs.
    pub(crate) fn run_deferred(&mut self) {
        loop {
            let batch = std::mem::take(&mut self.shared.borrow_mut().deferred);
            if batch.is_empty() {
                return;
            }
            for deferred in batch {
                self.perform(deferred);
            }
        }
    }

    fn perform(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Continue { stream, filter, way } => {
                self.forget_body(stream, way, filter);
                self.resume(stream, way, filter);
            }
            Deferred::Reset { stream } => self.reset_stream(stream),
            Deferred::Reply { stream, reply } => self.local_reply(stream, reply),
            Deferred::StartCall { call } => self.start_call(call),
            Deferred::FlushGrpc { call } => self.flush_grpc(call),
            Deferred::CancelAttempt { attempt } => self.cancel_attempt(attempt),
            Deferred::GrpcClosed { call, root, code, message } => {
                self.grpc_closed(call, root, code, message);
            }
            Deferred::DeleteRoot { vm, root } => self.delete_root(vm, root),
        }
    }

    fn reset_stream(&mut self, id: u64) {
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
        if vm.failed.is_some() {
            return;
        }
        let _ = vm.invoke(root, Callback::Other, "proxy_on_tick", |store, exports| {
            exports.tick.as_ref().map(|f| f.call(store, root))
        });
        // The next tick counts from the end of this one.
        let mut shared = self.shared.borrow_mut();
        if let Some(tick) = shared.ticks.get(&(index, root)).copied() {
            shared.set_tick(index, root, generation, tick.period_ms);
        }
    }

    /// Wakes roots whose queues have got something.
    pub(crate) fn receive_posts(&mut self) {
        loop {
            let post = self.shared.borrow().inbox.pop();
            let Some(ready) = post else { return };
            if let Some(vm) = self.vm(ready.vm) {
                let _ = vm.invoke(
                    ready.root,
                    Callback::Other,
                    "proxy_on_queue_ready",
                    |store, exports| {
                        exports
                            .queue_ready
                            .as_ref()
                            .map(|f| f.call(store, (ready.root, ready.token)))
                    },
                );
            }
            self.run_deferred();
        }
    }

    fn end_root(&mut self, index: usize, root: u32) {
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

    fn delete_root(&mut self, index: usize, root: u32) {
        let Some(vm) = self.vm(index) else { return };
        let _ = vm.invoke(root, Callback::Log, "proxy_on_delete", |store, exports| {
            exports.delete.as_ref().map(|f| f.call(store, root))
        });
        vm.store.data_mut().contexts.remove(&root);
        self.drop_grpc_of(index, root);
        self.shared.borrow_mut().set_tick(index, root, 0, 0);
    }

    pub(crate) fn vm(&mut self, index: usize) -> Option<&mut Vm> {
        self.vms.get_mut(index)?.vm.as_mut()
    }

    pub(crate) fn downstream_chain(&self, listener: usize) -> Rc<[Template]> {
        self.downstream.get(listener).cloned().unwrap_or_else(|| Rc::new([]))
    }

    pub(crate) fn upstream_chain(&self, cluster: usize) -> Rc<[Template]> {
        self.upstream.get(cluster).cloned().unwrap_or_else(|| Rc::new([]))
    }

    /// A stream's filters. A plugin that is open when failed, and has failed, is left out; one
    /// that reloads gets its new VM here.
    pub(crate) fn filters_of(&mut self, chain: Rc<[Template]>) -> Vec<Filter> {
        let mut filters = Vec::with_capacity(chain.len());
        for template in chain.iter() {
            let kind = match template {
                Template::Wasm { plugin, vm } => {
                    let Some(wasm) = self.wasm_of(plugin, *vm) else { continue };
                    FilterKind::Wasm(wasm)
                }
                Template::HeaderMutation(filter) => FilterKind::HeaderMutation(filter.clone()),
                Template::LocalRateLimit(filter) => {
                    FilterKind::LocalRateLimit(filter.clone(), None)
                }
            };
            filters.push(Filter::new(kind));
        }
        filters
    }

    fn wasm_of(&mut self, plugin: &Arc<Plugin>, index: usize) -> Option<WasmFilter> {
        self.reload_if_due(index, plugin);
        let slot = self.vms.get(index)?;
        let alive = slot.vm.as_ref().is_some_and(|vm| vm.failed.is_none());
        if !alive && plugin.is_open() {
            return None;
        }
        Some(WasmFilter {
            plugin: plugin.clone(),
            vm: index,
            generation: slot.vm.as_ref().map_or(0, |vm| vm.generation),
            root: slot.root_of(plugin).unwrap_or(0),
            context: None,
            failure_replied: false,
        })
    }

    fn chains(&self, chains: &[Vec<crate::engine::ChainFilter>]) -> Vec<Rc<[Template]>> {
        use crate::engine::ChainFilter;
        let template = |filter: &ChainFilter| match filter {
            ChainFilter::Wasm(plugin) => {
                let vm = self.vms.iter().position(|slot| slot.key() == plugin.vm_key)?;
                Some(Template::Wasm { plugin: plugin.clone(), vm })
            }
            ChainFilter::HeaderMutation(filter) => Some(Template::HeaderMutation(filter.clone())),
            ChainFilter::LocalRateLimit(filter) => Some(Template::LocalRateLimit(filter.clone())),
        };
        chains.iter().map(|chain| chain.iter().filter_map(template).collect()).collect()
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
