//! What a worker asks of its driver, and the ids both use.

use crate::{Cluster, Headers};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One request and its response on one worker. Never reused within a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// One try at one endpoint: of a request, or of a plugin's `proxy_http_call`. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// One downstream connection of a listener with network filters, or with a TCP proxy. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// An instruction to the driver. Outputs of one attempt, exchange or
/// connection come in wire order.
#[derive(Debug)]
pub enum Output {
    /// Get a connection to `endpoint` and send the request's headers.
    StartAttempt {
        /// Names the attempt in what follows, both ways.
        attempt: AttemptId,
        /// TLS, protocol and health settings are in `cluster.config()`.
        cluster: Arc<Cluster>,
        /// The chosen endpoint.
        endpoint: SocketAddr,
        /// With pseudo headers.
        headers: Headers,
        /// No body and no trailers follow.
        end_stream: bool,
        /// Report `UpstreamFailureKind::ConnectTimeout` after this long without a connection.
        connect_timeout: Duration,
    },
    /// More of the request's body.
    AttemptData {
        /// Which attempt.
        attempt: AttemptId,
        /// May be empty when `end_stream` is set.
        data: Bytes,
        /// The request ends here.
        end_stream: bool,
    },
    /// The request's trailers; it ends here.
    AttemptTrailers {
        /// Which attempt.
        attempt: AttemptId,
        /// No pseudo headers.
        trailers: Headers,
    },
    /// Forget the attempt and reset its stream. No input for it is needed any more.
    CancelAttempt {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Send the response's headers downstream.
    ResponseHeaders {
        /// Which exchange.
        exchange: ExchangeId,
        /// With `:status`.
        headers: Headers,
        /// No body and no trailers follow.
        end_stream: bool,
    },
    /// More of the response's body.
    ResponseData {
        /// Which exchange.
        exchange: ExchangeId,
        /// May be empty when `end_stream` is set.
        data: Bytes,
        /// The response ends here.
        end_stream: bool,
    },
    /// The response's trailers; it ends here.
    ResponseTrailers {
        /// Which exchange.
        exchange: ExchangeId,
        /// No pseudo headers.
        trailers: Headers,
    },
    /// Reset the stream (HTTP/1: close the connection). The exchange is over: the worker has
    /// already run its log, so no `downstream_complete` is due.
    ResetExchange {
        /// Which exchange.
        exchange: ExchangeId,
    },
    /// Connect to `endpoint` for a downstream connection, TLS handshake included.
    ConnectUpstream {
        /// Which connection.
        connection: ConnectionId,
        /// TLS settings are in `cluster.config()`.
        cluster: Arc<Cluster>,
        /// The chosen endpoint.
        endpoint: SocketAddr,
        /// Report `UpstreamFailureKind::ConnectTimeout` after this long without a connection.
        connect_timeout: Duration,
    },
    /// Have an HTTP codec serve the connection: what follows as [`Output::UpstreamBytes`] is what
    /// it reads, what it writes goes in as `connection_upstream_data`.
    ServeHttp {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Bytes from the client, for the upstream or the codec.
    UpstreamBytes {
        /// Which connection.
        connection: ConnectionId,
        /// May be empty when `end_stream` is set.
        data: Bytes,
        /// The client has closed its half.
        end_stream: bool,
    },
    /// Bytes for the client.
    DownstreamBytes {
        /// Which connection.
        connection: ConnectionId,
        /// May be empty when `end_stream` is set.
        data: Bytes,
        /// Close our half behind them.
        end_stream: bool,
    },
    /// Close the upstream connection, or give up connecting, or end the codec.
    CloseUpstream {
        /// Which connection.
        connection: ConnectionId,
        /// With a reset, at once; else behind what was sent before.
        reset: bool,
    },
    /// Close the client's connection. It is over: no input for it is needed any more.
    CloseDownstream {
        /// Which connection.
        connection: ConnectionId,
        /// With a reset, at once; else behind what was sent before.
        reset: bool,
    },
}
