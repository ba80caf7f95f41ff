//! Connections that carry bytes: the client's side of them, and the endpoints'.

use super::Host;
use super::drive::{LOCAL_END, REFUSAL_LATENCY, What};
use crate::request::CLIENT;
use crate::tcp::{Connect, TcpBehaviour, TcpConnection, TcpId, TcpReaction, TcpReceived};
use bytes::Bytes;
use host_sim_engine::{
    ConnectionId, Downstream, Output, Protocol, UpstreamFailure, UpstreamFailureKind, UpstreamLink,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything about TCP.
#[derive(Default)]
pub(super) struct Tcp {
    opened: Vec<Opened>,
    by_connection: BTreeMap<(usize, ConnectionId), TcpId>,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
    upstreams: BTreeMap<(usize, ConnectionId), Upstream>,
}

struct Opened {
    worker: usize,
    connection: ConnectionId,
    seen: TcpConnection,
}

#[derive(Default)]
struct Endpoint {
    behaviour: Arc<TcpBehaviour>,
    received: Vec<TcpReceived>,
}

/// An upstream connection, or the wish for one.
struct Upstream {
    endpoint: SocketAddr,
    behaviour: Arc<TcpBehaviour>,
    /// Its number among the endpoint's connections, once there is one.
    number: Option<usize>,
    /// The endpoint has closed its half.
    ended: bool,
}

impl Host {
    /// What an endpoint does with connections from now on; it echoes by default.
    pub fn behave_tcp(&mut self, endpoint: SocketAddr, behaviour: TcpBehaviour) {
        self.tcp.endpoints.entry(endpoint).or_default().behaviour = Arc::new(behaviour);
    }

    /// Connects a client now. `None` when there is no such listener, or it ends in HTTP.
    pub fn connect(&mut self, connect: &Connect) -> Option<TcpId> {
        let listeners = self.engine.bootstrap().listeners.iter();
        let index = listeners.into_iter().position(|listener| {
            let named = connect.listener.as_ref().is_none_or(|name| *name == listener.name);
            named && listener.tcp().is_some()
        })?;
        let worker = connect.worker.unwrap_or(0) % self.workers();
        let id = TcpId(self.tcp.opened.len());
        let info = Downstream {
            remote: SocketAddr::new(connect.source.unwrap_or(CLIENT), 40_000),
            local: SocketAddr::from(([127, 0, 0, 1], 10_000)),
            tls: connect.tls.clone(),
            protocol: Protocol::Http11,
            connection_id: id.0 as u64,
        };
        let connection = self.workers[worker].open_connection(index, info);
        let seen = TcpConnection::default();
        self.tcp.opened.push(Opened { worker, connection, seen });
        self.tcp.by_connection.insert((worker, connection), id);
        self.drain(worker);
        Some(id)
    }

    /// Sends bytes from a client now.
    pub fn send_bytes(&mut self, id: TcpId, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.on_open(id, |worker, connection| worker.connection_data(connection, bytes, false));
    }

    /// Closes a client's half now: it still receives.
    pub fn half_close(&mut self, id: TcpId) {
        self.on_open(id, |worker, connection| {
            worker.connection_data(connection, Bytes::new(), true);
        });
    }

    /// Resets a connection from the client's side now.
    pub fn abort(&mut self, id: TcpId) {
        self.on_open(id, |worker, connection| worker.connection_reset(connection));
        if let Some(opened) = self.tcp.opened.get_mut(id.0) {
            opened.seen.closed = true;
        }
    }

    /// A connection, as its client sees it.
    pub fn connection(&self, id: TcpId) -> Option<&TcpConnection> {
        self.tcp.opened.get(id.0).map(|opened| &opened.seen)
    }

    /// The connections that an endpoint has had, oldest first.
    pub fn received_bytes(&self, endpoint: SocketAddr) -> &[TcpReceived] {
        self.tcp.endpoints.get(&endpoint).map_or(&[], |endpoint| &endpoint.received)
    }

    fn on_open(&mut self, id: TcpId, run: impl FnOnce(&mut host_sim_engine::Worker, ConnectionId)) {
        let Some(opened) = self.tcp.opened.get(id.0).filter(|opened| !opened.seen.closed) else {
            return;
        };
        let (worker, connection) = (opened.worker, opened.connection);
        run(&mut self.workers[worker], connection);
        self.drain(worker);
    }

    /// Carries out what a worker asks for of a connection.
    pub(super) fn carry_out_tcp(&mut self, worker: usize, output: Output) {
        match output {
            Output::ConnectUpstream { connection, endpoint, connect_timeout, .. } => {
                let behaviour = self.tcp.endpoints.entry(endpoint).or_default().behaviour.clone();
                let (after, what) = match behaviour.reaction {
                    TcpReaction::Refuse => (REFUSAL_LATENCY, What::TcpRefused(connection)),
                    TcpReaction::Unreachable => (connect_timeout, What::TcpTimedOut(connection)),
                    _ if behaviour.latency >= connect_timeout => {
                        (connect_timeout, What::TcpTimedOut(connection))
                    }
                    _ => (behaviour.latency, What::TcpConnected(connection)),
                };
                let upstream = Upstream { endpoint, behaviour, number: None, ended: false };
                self.tcp.upstreams.insert((worker, connection), upstream);
                self.schedule(after, worker, what);
            }
            Output::UpstreamBytes { connection, data, end_stream } => {
                self.upstream_receives(worker, connection, &data, end_stream);
            }
            Output::DownstreamBytes { connection, data, end_stream } => {
                if let Some(seen) = self.seen(worker, connection) {
                    seen.received.extend_from_slice(&data);
                    seen.ended |= end_stream;
                }
            }
            Output::CloseUpstream { connection, reset } => {
                if let Some(upstream) = self.tcp.upstreams.remove(&(worker, connection))
                    && let Some(received) = self.record(&upstream)
                {
                    received.ended = true;
                    received.reset = reset;
                }
            }
            Output::CloseDownstream { connection, reset } => {
                if let Some(seen) = self.seen(worker, connection) {
                    seen.ended |= !reset;
                    seen.closed = true;
                    seen.reset = reset;
                }
                self.tcp.by_connection.remove(&(worker, connection));
            }
            // Of requests behind network filters: carried out in `behind.rs`.
            _ => {}
        }
    }

    /// The connection that an endpoint was asked for is there.
    pub(super) fn tcp_connected(&mut self, worker: usize, connection: ConnectionId) {
        let at = self.clock.elapsed();
        let Some(upstream) = self.tcp.upstreams.get_mut(&(worker, connection)) else { return };
        let endpoint = self.tcp.endpoints.entry(upstream.endpoint).or_default();
        upstream.number = Some(endpoint.received.len());
        endpoint.received.push(TcpReceived { at, ..TcpReceived::default() });
        let behaviour = upstream.behaviour.clone();
        self.workers[worker].upstream_connected(connection, UpstreamLink::plain(LOCAL_END));
        let closes = behaviour.reaction == TcpReaction::Close;
        if closes || !behaviour.greeting.is_empty() {
            self.upstream_sends(worker, connection, behaviour.greeting.clone(), closes);
        }
    }

    /// There is no connection to be had.
    pub(super) fn tcp_failed(&mut self, worker: usize, connection: ConnectionId, refused: bool) {
        if self.tcp.upstreams.remove(&(worker, connection)).is_none() {
            return;
        }
        let failure = if refused {
            let detail = "Connection refused".to_owned();
            UpstreamFailure { kind: UpstreamFailureKind::ConnectFailure, detail }
        } else {
            let detail = "connection timeout".to_owned();
            UpstreamFailure { kind: UpstreamFailureKind::ConnectTimeout, detail }
        };
        self.workers[worker].upstream_connect_failed(connection, failure);
    }

    /// An endpoint sends, if the connection still lives.
    pub(super) fn upstream_sends(
        &mut self,
        worker: usize,
        connection: ConnectionId,
        bytes: Vec<u8>,
        end_stream: bool,
    ) {
        let Some(upstream) = self.tcp.upstreams.get_mut(&(worker, connection)) else { return };
        if upstream.ended {
            return;
        }
        upstream.ended = end_stream;
        self.workers[worker].connection_upstream_data(connection, bytes.into(), end_stream);
    }

    /// An endpoint resets, if the connection still lives.
    pub(super) fn upstream_resets(&mut self, worker: usize, connection: ConnectionId) {
        if self.tcp.upstreams.remove(&(worker, connection)).is_some() {
            self.workers[worker].connection_upstream_reset(connection);
        }
    }

    fn upstream_receives(
        &mut self,
        worker: usize,
        connection: ConnectionId,
        data: &Bytes,
        end_stream: bool,
    ) {
        let Some(upstream) = self.tcp.upstreams.get(&(worker, connection)) else { return };
        let behaviour = upstream.behaviour.clone();
        let (endpoint, number) = (upstream.endpoint, upstream.number);
        let endpoint = self.tcp.endpoints.get_mut(&endpoint);
        let record = endpoint.zip(number).and_then(|(e, number)| e.received.get_mut(number));
        if let Some(record) = record {
            record.bytes.extend_from_slice(data);
            record.ended |= end_stream;
        }
        let something = !data.is_empty();
        let (answer, closes) = match &behaviour.reaction {
            TcpReaction::Echo => (data.to_vec(), end_stream),
            TcpReaction::Answer(answer) if something => (answer.clone(), end_stream),
            TcpReaction::AnswerAndClose(answer) if something => (answer.clone(), true),
            TcpReaction::Reset if something => {
                return self.schedule(behaviour.latency, worker, What::TcpResets(connection));
            }
            _ => (Vec::new(), end_stream),
        };
        if closes || !answer.is_empty() {
            let what = What::TcpSends(connection, answer, closes);
            self.schedule(behaviour.latency, worker, what);
        }
    }

    fn seen(&mut self, worker: usize, connection: ConnectionId) -> Option<&mut TcpConnection> {
        let id = self.tcp.by_connection.get(&(worker, connection))?;
        self.tcp.opened.get_mut(id.0).map(|opened| &mut opened.seen)
    }

    fn record(&mut self, upstream: &Upstream) -> Option<&mut TcpReceived> {
        let endpoint = self.tcp.endpoints.get_mut(&upstream.endpoint)?;
        endpoint.received.get_mut(upstream.number?)
    }
}
