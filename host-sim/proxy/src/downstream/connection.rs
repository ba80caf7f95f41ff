//! One downstream connection from handshake to close.

use super::exchange;
use super::listener::WorkerListener;
use crate::driver::Driver;
use crate::lifecycle::Connections;
use crate::tcp::{self, ServeHttp, Socket};
use host_sim_engine::{LogLevel, TlsInfo};
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// Longest TLS handshake. Envoy has no limit unless told so; ours keeps a client that says nothing
/// from holding a connection for the idle timeout's hour.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection, and what its exchanges need to know of it.
pub(super) struct Connection {
    pub(super) driver: Rc<Driver>,
    pub(super) listener: Rc<WorkerListener>,
    pub(super) remote: SocketAddr,
    pub(super) tls: Option<TlsInfo>,
    pub(super) id: u64,
    activity: Activity,
}

/// How busy a connection is.
pub(super) struct Activity {
    exchanges: Cell<u32>,
    /// Requests so far.
    served: Cell<u32>,
    /// When the last exchange ended.
    since: Cell<Instant>,
    /// The last request that this connection may carry has come.
    exhausted: Notify,
}

/// An exchange that keeps its connection from being idle.
pub(super) struct Busy(Rc<Connection>);

impl Connection {
    pub(super) fn new(
        driver: Rc<Driver>,
        listener: Rc<WorkerListener>,
        remote: SocketAddr,
    ) -> Self {
        let id = listener.connection_id();
        let activity = Activity {
            exchanges: Cell::new(0),
            served: Cell::new(0),
            since: Cell::new(Instant::now()),
            exhausted: Notify::new(),
        };
        Self { driver, listener, remote, tls: None, id, activity }
    }

    /// Serves until either side closes.
    pub(super) async fn serve(mut self, stream: TcpStream, connections: &Rc<Connections>) {
        // Responses are written whole: waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let listener = self.listener.clone();
        let _active = listener.stats.opened(listener.tls.is_some());
        let Some(tls) = &listener.tls else {
            return self.start(stream, None, connections).await;
        };
        let handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
        let handshake = tokio::select! {
            done = handshake => done,
            () = connections.draining() => return,
        };
        let Ok(Ok((stream, agreed))) = handshake else {
            listener.stats.handshake(false);
            return;
        };
        listener.stats.handshake(true);
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        self.tls = Some(agreed);
        self.start(stream, protocol, connections).await;
    }

    /// Serves HTTP at once, or lets network filters see the bytes first.
    async fn start<S>(self, stream: S, protocol: Option<Vec<u8>>, connections: &Rc<Connections>)
    where
        S: Socket + 'static,
    {
        if !self.listener.network {
            return self.run(TokioIo::new(stream), protocol.as_deref(), connections).await;
        }
        let (driver, listener) = (self.driver.clone(), self.listener.clone());
        let info = exchange::downstream(&self, http::Version::HTTP_11);
        let connections = connections.clone();
        let http = listener.is_http().then(|| -> ServeHttp {
            Box::new(move |pipe| {
                tokio::task::spawn_local(async move {
                    self.run(TokioIo::new(pipe), protocol.as_deref(), &connections).await;
                });
            })
        });
        tcp::serve(&driver, listener.index, info, stream, http).await;
    }

    async fn run<I>(self, io: I, protocol: Option<&[u8]>, connections: &Connections)
    where
        I: Read + Write + Unpin + 'static,
    {
        let codec = self.listener.codec(protocol);
        let connection = Rc::new(self);
        let service = service_fn(|request| exchange::serve(connection.clone(), request));
        let mut serving = pin!(codec.serve_connection(io, service));
        let mut draining = pin!(connections.draining());
        let mut retired = pin!(connection.retired());
        let mut ending = false;
        loop {
            // The end first: a response that comes at the same moment has to announce it.
            tokio::select! {
                biased;
                () = draining.as_mut(), if !ending => {}
                () = retired.as_mut(), if !ending => {}
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        connection.driver.log(LogLevel::Debug, &format!("downstream: {error}"));
                    }
                    return;
                }
            }
            // GOAWAY, or `connection: close` on the next response; at once when idle.
            ending = true;
            serving.as_mut().graceful_shutdown();
        }
    }

    /// Counts a request.
    pub(super) fn busy(self: &Rc<Self>) -> Busy {
        let activity = &self.activity;
        activity.exchanges.set(activity.exchanges.get() + 1);
        activity.served.set(activity.served.get().saturating_add(1));
        if self.listener.common.max_requests_per_connection == Some(activity.served.get()) {
            activity.exhausted.notify_one();
        }
        Busy(self.clone())
    }

    /// Whether a request is the first of its connection.
    pub(super) fn is_first(&self) -> bool {
        self.activity.served.get() == 1
    }

    /// Waits until the connection has been idle for too long, has lived long enough, or has
    /// carried all the requests it may.
    async fn retired(&self) {
        let common = &self.listener.common;
        let born = Instant::now();
        let oldest = common.max_connection_duration.map(|limit| born + limit);
        loop {
            let since = self.activity.since.get();
            let is_idle = self.activity.exchanges.get() == 0;
            let idle = common.idle_timeout.map(|limit| {
                // While busy, look again after a full timeout: idleness starts no earlier.
                if is_idle { since + limit } else { Instant::now() + limit }
            });
            let Some(next) = idle.into_iter().chain(oldest).min() else {
                return self.activity.exhausted.notified().await;
            };
            if next <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.activity.exhausted.notified() => return,
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.exchanges.set(activity.exchanges.get().saturating_sub(1));
        activity.since.set(Instant::now());
    }
}
