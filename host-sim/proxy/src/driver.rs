//! One thread's engine worker, and the carrying out of what it asks.

use crate::body_queue::BodyQueue;
use crate::tcp::{ServeHttp, Sides};
use crate::upstream::{Attempt, AttemptSlot, Upstreams};
use crate::{header_map, timer::Rearm};
use host_sim_engine::{
    AttemptId, ConnectionId, Downstream, EngineOptions, ExchangeId, Headers, LogLevel, LogRecord,
    Output, UnixNanos, Worker,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// The engine's worker of this thread and everything in flight on it.
pub(crate) struct Driver {
    worker: RefCell<Worker>,
    index: Option<u32>,
    /// The engine's clock and logs, at hand while the worker is borrowed.
    options: EngineOptions,
    exchanges: RefCell<HashMap<ExchangeId, ExchangeSlot>>,
    attempts: RefCell<HashMap<AttemptId, AttemptSlot>>,
    connections: RefCell<HashMap<ConnectionId, Sides>>,
    upstreams: Upstreams,
    rearm: Rearm,
    /// Another thread has posted something.
    posted: Arc<Notify>,
}

/// The response of an exchange, on its way to the codec.
struct ExchangeSlot {
    head: Option<oneshot::Sender<Head>>,
    body: Rc<BodyQueue>,
}

/// A response's head and whether it is all of the response.
pub(crate) struct Head {
    pub(crate) headers: Headers,
    pub(crate) end_stream: bool,
}

/// What the codec of a new exchange reads.
pub(crate) struct Exchange {
    pub(crate) id: ExchangeId,
    pub(crate) head: oneshot::Receiver<Head>,
    pub(crate) body: Rc<BodyQueue>,
}

impl Driver {
    pub(crate) fn new(mut worker: Worker, index: Option<u32>, upstreams: Upstreams) -> Rc<Self> {
        let posted = Arc::new(Notify::new());
        let waker = posted.clone();
        worker.set_waker(move || waker.notify_one());
        Rc::new(Self {
            posted,
            options: worker.engine().options().clone(),
            worker: RefCell::new(worker),
            index,
            exchanges: RefCell::default(),
            attempts: RefCell::default(),
            connections: RefCell::default(),
            upstreams,
            rearm: Rearm::default(),
        })
    }

    /// Begins an exchange with its request headers.
    pub(crate) fn start_exchange(
        self: &Rc<Self>,
        listener: usize,
        info: Downstream,
        headers: Headers,
        end_stream: bool,
    ) -> Exchange {
        let (sender, head) = oneshot::channel();
        let body = Rc::new(BodyQueue::default());
        let mut id = ExchangeId(0);
        self.input(|worker| {
            id = worker.start_exchange(listener, info);
            let slot = ExchangeSlot { head: Some(sender), body: body.clone() };
            self.exchanges.borrow_mut().insert(id, slot);
            worker.request_headers(id, headers, end_stream);
        });
        Exchange { id, head, body }
    }

    /// Begins a connection that network filters see. `http` serves it when they let it through, if
    /// it ends in HTTP.
    pub(crate) fn open_connection(
        self: &Rc<Self>,
        listener: usize,
        info: Downstream,
        http: Option<ServeHttp>,
    ) -> (ConnectionId, Sides) {
        let sides = Sides::serving(http);
        let mut id = ConnectionId(0);
        self.feed(|worker| {
            id = worker.open_connection(listener, info);
            self.connections.borrow_mut().insert(id, sides.clone());
        });
        (id, sides)
    }

    /// Nothing more is sent for this connection.
    pub(crate) fn forget_connection(&self, id: ConnectionId) {
        self.connections.borrow_mut().remove(&id);
    }

    /// Whether a connection's bytes would reach its filters now.
    pub(crate) fn reads_downstream(&self, id: ConnectionId) -> bool {
        self.worker.borrow().reads_downstream(id)
    }

    /// Whether an upstream's bytes would reach the filters now.
    pub(crate) fn reads_upstream(&self, id: ConnectionId) -> bool {
        self.worker.borrow().reads_upstream(id)
    }

    /// As [`Driver::input`], for what no queue of a body can come of.
    pub(crate) fn feed(self: &Rc<Self>, feed: impl FnOnce(&mut Worker)) {
        self.input(feed);
    }

    /// Feeds the worker and carries out what follows. Returns a queue that grew too long, for the
    /// feeder to wait on.
    pub(crate) fn input(self: &Rc<Self>, feed: impl FnOnce(&mut Worker)) -> Option<Rc<BodyQueue>> {
        let mut worker = self.worker.borrow_mut();
        feed(&mut worker);
        let mut congested = None;
        while let Some(output) = worker.poll_output() {
            congested = self.carry_out(output).or(congested);
        }
        self.rearm.consider(worker.next_deadline());
        congested
    }

    /// When the worker wants to be called next.
    pub(crate) fn next_deadline(&self) -> Option<UnixNanos> {
        self.worker.borrow_mut().next_deadline()
    }

    /// The engine's clock.
    pub(crate) fn now(&self) -> UnixNanos {
        self.options.clock.now()
    }

    /// Tells the timer of earlier deadlines.
    pub(crate) fn rearm(&self) -> &Rearm {
        &self.rearm
    }

    /// Waits until another thread has posted something for the worker.
    pub(crate) async fn posted(&self) {
        self.posted.notified().await;
    }

    /// Connections to endpoints.
    pub(crate) fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Nothing more will be sent for this exchange.
    pub(crate) fn forget_exchange(&self, id: ExchangeId) {
        self.exchanges.borrow_mut().remove(&id);
    }

    /// Nothing more will be received for this attempt.
    pub(crate) fn forget_attempt(&self, id: AttemptId) {
        let slot = self.attempts.borrow_mut().remove(&id);
        if let Some(slot) = slot {
            slot.finish();
        }
    }

    /// Tears down the root contexts.
    pub(crate) fn shutdown(self: &Rc<Self>) {
        self.input(Worker::shutdown);
    }

    /// Writes to the application log.
    pub(crate) fn log(&self, level: LogLevel, message: &str) {
        if level >= self.options.log.level() {
            let time = self.now();
            let record = LogRecord { time, level, worker: self.index, plugin: None, message };
            self.options.log.log(&record);
        }
    }

    /// Never calls the worker, which is borrowed.
    fn carry_out(self: &Rc<Self>, output: Output) -> Option<Rc<BodyQueue>> {
        match output {
            Output::StartAttempt {
                attempt: id,
                cluster,
                endpoint,
                headers,
                end_stream,
                connect_timeout,
            } => {
                let attempt = Attempt { id, cluster, endpoint, headers, connect_timeout };
                self.start_attempt(attempt, end_stream);
                None
            }
            Output::AttemptData { attempt, data, end_stream } => {
                let attempts = self.attempts.borrow();
                let body = attempts.get(&attempt)?.body()?;
                body.push_data(data, end_stream).then(|| body.clone())
            }
            Output::AttemptTrailers { attempt, trailers } => {
                let attempts = self.attempts.borrow();
                attempts.get(&attempt)?.body()?.push_trailers(header_map::trailer_map(trailers));
                None
            }
            Output::CancelAttempt { attempt } => {
                self.attempts.borrow_mut().remove(&attempt)?.cancel();
                None
            }
            Output::ResponseHeaders { exchange, headers, end_stream } => {
                self.response_headers(exchange, Head { headers, end_stream });
                None
            }
            Output::ResponseData { exchange, data, end_stream } => {
                let body = self.exchanges.borrow().get(&exchange)?.body.clone();
                if end_stream {
                    self.forget_exchange(exchange);
                }
                body.push_data(data, end_stream).then_some(body)
            }
            Output::ResponseTrailers { exchange, trailers } => {
                self.response_trailers(exchange, trailers);
                None
            }
            Output::ResetExchange { exchange } => {
                // Without a head the codec sees its sender dropped.
                self.exchanges.borrow_mut().remove(&exchange)?.body.abort();
                None
            }
            other => {
                self.carry_out_bytes(other);
                None
            }
        }
    }

    /// What concerns a connection with network filters.
    fn carry_out_bytes(self: &Rc<Self>, output: Output) {
        let sides = |id: ConnectionId| self.connections.borrow().get(&id).cloned();
        match output {
            Output::ConnectUpstream { connection, cluster, endpoint, connect_timeout } => {
                if let Some(sides) = sides(connection) {
                    sides.connect(self, connection, cluster, endpoint, connect_timeout);
                }
            }
            Output::ServeHttp { connection } => {
                if let Some(sides) = sides(connection) {
                    sides.serve_http(self, connection);
                }
            }
            Output::UpstreamBytes { connection, data, end_stream } => {
                if let Some(sides) = sides(connection) {
                    sides.to_upstream(data, end_stream);
                }
            }
            Output::DownstreamBytes { connection, data, end_stream } => {
                if let Some(sides) = sides(connection) {
                    sides.to_client(data, end_stream);
                }
            }
            Output::CloseUpstream { connection, reset } => {
                if let Some(sides) = sides(connection) {
                    sides.close_upstream(reset);
                }
            }
            Output::CloseDownstream { connection, reset } => {
                if let Some(sides) = sides(connection) {
                    sides.close_client(reset);
                }
            }
            // Of exchanges and attempts: carried out above.
            _ => {}
        }
    }

    fn start_attempt(self: &Rc<Self>, attempt: Attempt, end_stream: bool) {
        let id = attempt.id;
        let slot = attempt.spawn(self, end_stream);
        self.attempts.borrow_mut().insert(id, slot);
    }

    fn response_trailers(&self, id: ExchangeId, trailers: Headers) {
        if let Some(slot) = self.exchanges.borrow_mut().remove(&id) {
            slot.body.push_trailers(header_map::trailer_map(trailers));
        }
    }

    fn response_headers(&self, id: ExchangeId, head: Head) {
        let mut exchanges = self.exchanges.borrow_mut();
        let Some(slot) = exchanges.get_mut(&id) else { return };
        let end_stream = head.end_stream;
        if end_stream {
            slot.body.push_data(bytes::Bytes::new(), true);
        }
        if let Some(sender) = slot.head.take() {
            // A codec that is gone has told the worker, or is about to.
            let _ = sender.send(head);
        }
        if end_stream {
            exchanges.remove(&id);
        }
    }
}
