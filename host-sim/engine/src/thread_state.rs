//! What the worker and the hostcalls of its VMs both touch, behind one `RefCell`.
//!
//! The worker owns the VMs, the hostcalls see only their own VM: everything between them is here.
//! The rule that keeps the cell from ever being borrowed twice: nobody calls a guest while holding
//! a borrow.

use crate::buffer::Buffer;
use crate::filter_state::{Entry, FilterState, Prototype};
use crate::grpc::{Grpc, GrpcId};
use crate::host_selection::Selector;
use crate::http_call::Pending;
use crate::inbox::Inbox;
use crate::reentry::Lent;
use crate::rng::Rng;
use crate::stream::{LocalReply, Owner, Role, Stream, Way};
use crate::timer::{Timer, TimerId, Timers};
use crate::{Engine, ExchangeId, Headers, LogLevel, LogRecord, Output, UnixNanos};
use bytes::Bytes;
use hashbrown::HashMap;
use host_sim_abi::MapType;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Handle of a [`ThreadState`].
pub(crate) type Shared = Rc<RefCell<ThreadState>>;

/// See the module.
pub(crate) struct ThreadState {
    pub(crate) engine: Arc<Engine>,
    /// `None` on the main thread.
    pub(crate) worker: Option<u32>,
    pub(crate) streams: HashMap<u64, Stream>,
    pub(crate) calls: HashMap<u64, Call>,
    pub(crate) grpc: HashMap<GrpcId, Grpc>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) timers: Timers,
    /// Tick period and timer of a VM's root contexts.
    pub(crate) ticks: HashMap<(usize, u32), Tick>,
    /// Each with the VM that asked for it.
    pub(crate) deferred: Vec<(usize, Deferred)>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) rng: Rng,
    pub(crate) next_id: u64,
    /// Filter state that outlives its stream, by the connection's number.
    pub(crate) connections: HashMap<u64, FilterState>,
    /// For each cluster, the VMs its upstream chain runs in: a call of it enters them at once.
    pub(crate) upstream_vms: Vec<Vec<usize>>,
    /// What a worker has, while one of its guests runs: see `reentry.rs`.
    pub(crate) lent: Option<Lent>,
    /// One balancer a cluster.
    pub(crate) selectors: Vec<Selector>,
}

/// A root context's tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub(crate) period_ms: u32,
    pub(crate) timer: Option<TimerId>,
}

/// What a hostcall asked for that could re-enter a guest: done when the guest has returned.
pub(crate) enum Deferred {
    Continue {
        stream: u64,
        filter: usize,
        way: Way,
    },
    Reset {
        stream: u64,
    },
    Reply {
        stream: u64,
        reply: LocalReply,
    },
    StartCall {
        call: u64,
    },
    /// A name that nobody knows.
    DnsFailed {
        vm: usize,
        generation: u64,
        root: u32,
        token: u32,
    },
    /// What a guest said on a gRPC call or stream.
    FlushGrpc {
        call: GrpcId,
    },
    /// A gRPC call or stream that the guest has forgotten.
    CancelAttempt {
        attempt: u64,
    },
    /// The late close of a gRPC call that never began.
    GrpcClosed {
        call: GrpcId,
        root: u32,
        code: u32,
        message: String,
    },
    /// A root said that it is done at last.
    DeleteRoot {
        vm: usize,
        root: u32,
    },
}

/// A plugin's HTTP call in flight.
pub(crate) struct Call {
    pub(crate) vm: usize,
    pub(crate) generation: u64,
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) attempt: u64,
    pub(crate) timer: Option<TimerId>,
    pub(crate) started: UnixNanos,
    /// Until the guest has returned.
    pub(crate) pending: Option<Pending>,
    pub(crate) response: CallResponse,
}

/// What `on_http_call_response` may read.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallResponse {
    pub(crate) headers: Option<Headers>,
    pub(crate) body: Buffer,
    pub(crate) trailers: Option<Headers>,
}

impl ThreadState {
    pub(crate) fn new(engine: &Arc<Engine>, worker: Option<u32>) -> Self {
        let options = engine.options();
        let mut rng = Rng::new(options.seed, worker, options.observer.clone());
        let clusters = engine.clusters().iter();
        let selectors = clusters.map(|cluster| Selector::new(cluster, &mut rng)).collect();
        Self {
            engine: engine.clone(),
            worker,
            streams: HashMap::new(),
            calls: HashMap::new(),
            grpc: HashMap::new(),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            ticks: HashMap::new(),
            deferred: Vec::new(),
            inbox: Arc::default(),
            rng,
            next_id: 0,
            connections: HashMap::new(),
            upstream_vms: Vec::new(),
            lent: None,
            selectors,
        }
    }

    pub(crate) fn now(&self) -> UnixNanos {
        self.engine.options().clock.now()
    }

    /// The wall clock that plugins read.
    pub(crate) fn wall(&self) -> UnixNanos {
        self.engine.options().clock.wall()
    }

    /// An id for a stream or call; never reused.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether lines of this level go anywhere.
    pub(crate) fn logs(&self, level: LogLevel) -> bool {
        level >= self.engine.options().log.level()
    }

    pub(crate) fn log(&self, level: LogLevel, plugin: Option<&str>, message: &str) {
        if self.logs(level) {
            let time = self.now();
            let record = LogRecord { time, level, worker: self.worker, plugin, message };
            self.engine.options().log.log(&record);
        }
    }

    pub(crate) fn cancel_timer(&mut self, timer: Option<TimerId>) {
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
    }

    /// Sets, moves (from now) or stops the tick of a root context.
    pub(crate) fn set_tick(&mut self, vm: usize, root: u32, generation: u64, period_ms: u32) {
        if let Some(old) = self.ticks.remove(&(vm, root)) {
            self.cancel_timer(old.timer);
        }
        let timer = (period_ms > 0).then(|| {
            let at = self.now() + std::time::Duration::from_millis(period_ms.into());
            self.timers.set(at, Timer::Tick { vm, root, generation })
        });
        self.ticks.insert((vm, root), Tick { period_ms, timer });
    }

    /// A root context is no more.
    pub(crate) fn stop_tick(&mut self, vm: usize, root: u32) {
        if let Some(tick) = self.ticks.remove(&(vm, root)) {
            self.cancel_timer(tick.timer);
        }
    }

    /// A VM is no more.
    pub(crate) fn stop_ticks(&mut self, vm: usize) {
        let gone: Vec<_> = self.ticks.extract_if(|(of, _), _| *of == vm).collect();
        gone.into_iter().for_each(|(_, tick)| self.cancel_timer(tick.timer));
    }

    /// Notes what a VM's guest has asked for.
    pub(crate) fn defer(&mut self, vm: usize, deferred: Deferred) {
        self.deferred.push((vm, deferred));
    }

    /// Sets an object of filter state.
    pub(crate) fn set_filter_state(&mut self, stream: u64, key: &[u8], entry: Entry) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        if !found.filter_state.set(key, entry) {
            let key = String::from_utf8_lossy(key);
            let text = format!("filter state {key} was set before with another life span");
            return self.log(LogLevel::Error, None, &text);
        }
        self.keep_for_connection(stream);
    }

    /// Sets a property; false if it is read-only.
    pub(crate) fn set_property(
        &mut self,
        stream: u64,
        key: &[u8],
        value: Bytes,
        declared: &Prototype,
    ) -> bool {
        let Some(found) = self.streams.get_mut(&stream) else { return false };
        let written = found.filter_state.set_property(key, value, declared);
        if written && declared.connection {
            self.keep_for_connection(stream);
        }
        written
    }

    /// What lives as long as the connection is there for its next stream.
    fn keep_for_connection(&mut self, stream: u64) {
        let Some(found) = self.streams.get(&stream) else { return };
        let connection = match &found.role {
            Role::Exchange(exchange) => exchange.downstream.connection_id,
            Role::Connection(connection) => connection.downstream.connection_id,
            Role::Attempt(_) => return,
        };
        let kept = found.filter_state.of_connection();
        if !kept.is_empty() {
            self.connections.insert(connection, kept);
        }
    }

    /// The stream that owns the request headers: attempts of an exchange share the exchange's.
    pub(crate) fn request_owner(&self, stream: u64) -> u64 {
        match self.streams.get(&stream).map(|stream| &stream.role) {
            Some(Role::Attempt(attempt)) => match attempt.owner {
                Owner::Exchange(exchange) => exchange,
                Owner::Call(_) | Owner::Grpc(_) => stream,
            },
            _ => stream,
        }
    }

    /// The exchange a stream is part of: itself, or the one that makes the attempt.
    pub(crate) fn exchange_of(&self, stream: u64) -> Option<ExchangeId> {
        match &self.streams.get(&stream)?.role {
            Role::Exchange(_) => Some(ExchangeId(stream)),
            Role::Attempt(attempt) => match attempt.owner {
                Owner::Exchange(exchange) => Some(ExchangeId(exchange)),
                Owner::Call(_) | Owner::Grpc(_) => None,
            },
            Role::Connection(_) => None,
        }
    }

    /// A map of a stream, whether or not a filter may see it now.
    pub(crate) fn headers(&mut self, stream: u64, map: MapType) -> Option<&mut Option<Headers>> {
        let owner = match map {
            MapType::HttpRequestHeaders => self.request_owner(stream),
            _ => stream,
        };
        let stream = self.streams.get_mut(&owner)?;
        Some(match map {
            MapType::HttpRequestHeaders => &mut stream.request.headers,
            MapType::HttpRequestTrailers => &mut stream.request.trailers,
            MapType::HttpResponseHeaders => &mut stream.response.headers,
            MapType::HttpResponseTrailers => &mut stream.response.trailers,
            _ => return None,
        })
    }
}
