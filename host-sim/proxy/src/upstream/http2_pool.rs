//! HTTP/2 connections of one endpoint: as few as the streams fit on.

use super::connect::{Dialer, Transport};
use super::failure::{Stage, broken, failure};
use crate::body_queue::RequestBody;
use crate::downstream::LocalExecutor;
use host_sim_bootstrap::Http2Options;
use host_sim_engine::{UpstreamFailure, UpstreamFailureKind, UpstreamLink};
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Streams on a connection before another one is opened: what RFC 9113 recommends servers to allow
/// at least. hyper queues what the peer does not allow yet, and a queued stream would wait for a
/// stranger's response.
const MAX_STREAMS: u32 = 100;

/// Bytes of a response body that may be in flight. Envoy's default.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;

/// Bytes of all response bodies of a connection that may be in flight. Envoy's default.
const CONNECTION_WINDOW: u32 = 24 * 1024 * 1024;

type Waiter = oneshot::Sender<Result<(), UpstreamFailure>>;

/// Multiplexed connections.
#[derive(Default)]
pub(super) struct Http2Pool {
    connections: RefCell<Vec<Rc<Shared>>>,
    /// Who waits for the connection that is being made; `None` when none is.
    connecting: RefCell<Option<Vec<Waiter>>>,
}

struct Shared {
    sender: SendRequest<RequestBody>,
    link: UpstreamLink,
    streams: Cell<u32>,
    requests: Cell<u32>,
    idle_since: Cell<Instant>,
}

/// One stream's place on a connection.
pub(super) struct Http2Stream {
    shared: Rc<Shared>,
    pub(super) sender: SendRequest<RequestBody>,
}

impl Http2Pool {
    /// A place on an open connection.
    pub(super) async fn reuse(&self, max_requests: Option<u32>) -> Option<Http2Stream> {
        let idle = |s: &Rc<Shared>| s.streams.get() == 0;
        if self.connections.borrow().iter().any(idle) {
            // Lets the event loop deliver a close that has already arrived.
            tokio::task::yield_now().await;
        }
        self.place(max_requests)
    }

    /// Waits for a new connection: one at a time, shared by all that wait.
    pub(super) async fn connect(
        self: &Rc<Self>,
        dialer: &Rc<Dialer>,
        options: Http2Options,
        within: Duration,
    ) -> Result<(), UpstreamFailure> {
        let (waiter, done) = oneshot::channel();
        let first = {
            let mut connecting = self.connecting.borrow_mut();
            let first = connecting.is_none();
            connecting.get_or_insert_default().push(waiter);
            first
        };
        if first {
            // On a task of its own: cancelling the attempt that came first must not fail the rest.
            let (pool, dialer) = (self.clone(), dialer.clone());
            tokio::task::spawn_local(async move {
                let outcome = pool.open(&dialer, options, within).await;
                let waiters = pool.connecting.borrow_mut().take();
                for waiter in waiters.into_iter().flatten() {
                    // A waiter that is gone was cancelled.
                    let _ = waiter.send(outcome.clone());
                }
            });
        }
        let lost = |_| failure(UpstreamFailureKind::ConnectFailure, "the worker is stopping");
        done.await.map_err(lost).flatten()
    }

    async fn open(
        &self,
        dialer: &Dialer,
        options: Http2Options,
        within: Duration,
    ) -> Result<(), UpstreamFailure> {
        let active = dialer.stats.opened(true);
        let (io, link) = dialer.dial(within).await?;
        let (sender, connection) = handshake(io, options).await?;
        let shared = Rc::new(Shared {
            sender,
            link,
            streams: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        });
        self.connections.borrow_mut().push(shared);
        tokio::task::spawn_local(async move {
            // What broke it has been reported to the streams on it.
            let _ = connection.await;
            drop(active);
        });
        Ok(())
    }

    fn place(&self, max_requests: Option<u32>) -> Option<Http2Stream> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|shared| !shared.sender.is_closed());
        let found = connections.iter().find(|s| s.streams.get() < MAX_STREAMS)?.clone();
        found.streams.set(found.streams.get() + 1);
        found.requests.set(found.requests.get().saturating_add(1));
        if max_requests.is_some_and(|max| found.requests.get() >= max) {
            // No further stream finds it; it closes after the last one.
            connections.retain(|shared| !Rc::ptr_eq(shared, &found));
        }
        let sender = found.sender.clone();
        Some(Http2Stream { shared: found, sender })
    }

    /// Closes connections that have been idle for `limit`.
    pub(super) fn expire(&self, dialer: &Dialer, limit: Option<Duration>) {
        self.connections.borrow_mut().retain(|shared| {
            let idle = shared.streams.get() == 0;
            let age = shared.idle_since.get().elapsed();
            let expired = idle && limit.is_some_and(|limit| age >= limit);
            if expired {
                dialer.stats.idle_timeout.inc();
            }
            !expired && !shared.sender.is_closed()
        });
    }

    /// Whether there is no connection at all.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty() && self.connecting.borrow().is_none()
    }
}

impl Http2Stream {
    pub(super) fn link(&self) -> &UpstreamLink {
        &self.shared.link
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get().saturating_sub(1));
        self.shared.idle_since.set(Instant::now());
    }
}

type Driven = Connection<Box<dyn Transport>, RequestBody, LocalExecutor>;

async fn handshake(
    io: Box<dyn Transport>,
    options: Http2Options,
) -> Result<(SendRequest<RequestBody>, Driven), UpstreamFailure> {
    Builder::new(LocalExecutor)
        .initial_stream_window_size(options.initial_stream_window_size.unwrap_or(STREAM_WINDOW))
        .initial_connection_window_size(
            options.initial_connection_window_size.unwrap_or(CONNECTION_WINDOW),
        )
        .handshake(io)
        .await
        .map_err(|error| broken(&error, Stage::BeforeHeaders))
}
