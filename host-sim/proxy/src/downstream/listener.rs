//! What a listener's connections have in common.

use super::stats::DownstreamStats;
use crate::ProxyError;
use crate::tls::ServerTls;
use host_sim_bootstrap::{CodecType, CommonHttpOptions, Http2Options, Listener};
use host_sim_engine::Engine;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Runs hyper's tasks on the thread they came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// hyper's server for both HTTP versions.
pub(super) type Codec = auto::Builder<LocalExecutor>;

/// A listener as all workers share it.
#[derive(Clone)]
pub(crate) struct ListenerSettings {
    /// Its number in the file, by which the engine knows it.
    index: usize,
    name: Arc<str>,
    /// Connections pass network filters, or carry bytes.
    network: bool,
    tls: Option<ServerTls>,
    /// Absent where connections carry bytes.
    codec: Option<CodecType>,
    common: CommonHttpOptions,
    http2: Http2Options,
    stats: DownstreamStats,
}

/// A listener as one worker runs it.
pub(crate) struct WorkerListener {
    pub(super) index: usize,
    pub(super) network: bool,
    pub(super) local: SocketAddr,
    pub(super) tls: Option<ServerTls>,
    pub(super) common: CommonHttpOptions,
    pub(super) stats: DownstreamStats,
    codec: Option<CodecType>,
    builder: Codec,
    next_connection: Cell<u64>,
}

impl ListenerSettings {
    /// Reads the certificates and names the stats.
    pub(crate) fn new(
        index: usize,
        listener: &Listener,
        address: SocketAddr,
        engine: &Engine,
        base: Option<&Path>,
    ) -> Result<Self, ProxyError> {
        let http = listener.http();
        Ok(Self {
            index,
            network: http.is_none() || !listener.network_filters.is_empty(),
            name: Arc::from(listener.name.as_str()),
            tls: ServerTls::of(listener, base)?,
            codec: http.map(|http| http.codec),
            common: http.map(|http| http.common).unwrap_or_default(),
            http2: http.map(|http| http.http2).unwrap_or_default(),
            stats: DownstreamStats::new(
                engine.stats(),
                address,
                http.map(|http| http.stat_prefix.as_str()),
            ),
        })
    }

    /// Its name in the file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The listener on one worker.
    pub(crate) fn on_worker(&self, worker: u32, local: SocketAddr) -> WorkerListener {
        WorkerListener {
            index: self.index,
            network: self.network,
            local,
            tls: self.tls.clone(),
            common: self.common,
            stats: self.stats.clone(),
            codec: self.codec,
            builder: builder(&self.common, &self.http2),
            // Unique over workers and listeners, and never 0.
            next_connection: Cell::new((u64::from(worker) << 48 | (self.index as u64) << 40) + 1),
        }
    }
}

impl WorkerListener {
    /// A number no other connection has.
    pub(super) fn connection_id(&self) -> u64 {
        self.next_connection.replace(self.next_connection.get() + 1)
    }

    /// Whether connections end in HTTP.
    pub(super) fn is_http(&self) -> bool {
        self.codec.is_some()
    }

    /// The codec for a connection on which ALPN agreed on `protocol`.
    pub(super) fn codec(&self, protocol: Option<&[u8]>) -> Codec {
        let builder = self.builder.clone();
        match (self.codec.unwrap_or_default(), protocol) {
            (CodecType::Http1, _) | (CodecType::Auto, Some(b"http/1.1")) => builder.http1_only(),
            (CodecType::Http2, _) | (CodecType::Auto, Some(b"h2")) => builder.http2_only(),
            // The connection's first bytes tell.
            (CodecType::Auto, _) => builder,
        }
    }
}

fn builder(common: &CommonHttpOptions, http2: &Http2Options) -> Codec {
    let mut builder = Codec::new(LocalExecutor);
    let max_headers = usize::try_from(common.max_headers_count).unwrap_or(usize::MAX);
    let mut http1 = builder.http1();
    // No limit on the time a request head takes, as Envoy has none unless it is told so; the idle
    // timeout bounds it.
    http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEADER_BYTES);
    if common.max_headers_count != CommonHttpOptions::default().max_headers_count {
        http1.max_headers(max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(http2.max_concurrent_streams.unwrap_or(MAX_CONCURRENT_STREAMS))
        .initial_stream_window_size(http2.initial_stream_window_size.unwrap_or(STREAM_WINDOW))
        .initial_connection_window_size(
            http2.initial_connection_window_size.unwrap_or(CONNECTION_WINDOW),
        );
    builder
}

/// Longest head of a request; a longer one is answered 431. Envoy's default.
const MAX_HEADER_BYTES: usize = 60 * 1024;

/// Streams on one connection. Envoy's default.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// Bytes of a request body that may be in flight. Envoy's default.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;

/// Bytes of all request bodies of a connection that may be in flight. Envoy's default.
const CONNECTION_WINDOW: u32 = 24 * 1024 * 1024;
