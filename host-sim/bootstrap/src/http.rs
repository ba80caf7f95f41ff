//! `HttpConnectionManager`.

use std::time::Duration;

use crate::{AccessLog, HttpFilter, RouteConfig};

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConnectionManager {
    /// Prefix of its stats: `http.<stat_prefix>.`.
    pub stat_prefix: String,
    /// What downstream connections speak. Default AUTO.
    pub codec: CodecType,
    /// Its inline route table.
    pub route_config: RouteConfig,
    /// In request order; the last is the router.
    pub http_filters: Vec<HttpFilter>,
    /// Its access loggers.
    pub access_logs: Vec<AccessLog>,
    /// Trust the connection's address, not `x-forwarded-for`. Default false.
    pub use_remote_address: bool,
    /// How many proxies in front are trusted. Default 0.
    pub xff_num_trusted_hops: u32,
    /// Do not append to `x-forwarded-for`. Default false.
    pub skip_xff_append: bool,
    /// Set `x-request-id` when absent. Default true.
    pub generate_request_id: bool,
    /// Keep a client's `x-request-id` even on an edge. Default false.
    pub preserve_external_request_id: bool,
    /// Return `x-request-id`. Default false.
    pub always_set_request_id_in_response: bool,
    /// The `server` header of responses. Default "envoy".
    pub server_name: String,
    /// HTTP/2 settings.
    pub http2: Http2Options,
    /// Settings of every HTTP version.
    pub common: CommonHttpOptions,
    /// Whole request must have arrived within; default none.
    pub request_timeout: Option<Duration>,
    /// No byte in either direction for so long ends the stream. Default 5 min.
    pub stream_idle_timeout: Option<Duration>,
    /// How long a draining connection may live on. Default 5 s.
    pub drain_timeout: Duration,
}

/// `codec_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodecType {
    /// ALPN or the preface decides.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, by prior knowledge on plain text.
    Http2,
}

/// `http2_protocol_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Http2Options {
    /// `max_concurrent_streams`; absent = Envoy's 1024.
    pub max_concurrent_streams: Option<u32>,
    /// `initial_stream_window_size` in bytes; absent = Envoy's 16 MiB.
    pub initial_stream_window_size: Option<u32>,
    /// `initial_connection_window_size` in bytes; absent = Envoy's 24 MiB.
    pub initial_connection_window_size: Option<u32>,
}

/// `common_http_protocol_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommonHttpOptions {
    /// A connection without streams is closed after. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection lives no longer than. Default none.
    pub max_connection_duration: Option<Duration>,
    /// A stream lives no longer than. Default none.
    pub max_stream_duration: Option<Duration>,
    /// A connection carries no more than so many requests. Default none.
    pub max_requests_per_connection: Option<u32>,
    /// A message with more headers is refused. Default 100.
    pub max_headers_count: u32,
}

impl Default for CommonHttpOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_stream_duration: None,
            max_requests_per_connection: None,
            max_headers_count: 100,
        }
    }
}
