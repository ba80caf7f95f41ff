//! `HttpConnectionManager`.

use std::time::Duration;

use crate::access_log::ACCESS_LOG;
use crate::filter::downstream_chain;
use crate::reader::{Message, Reader};
use crate::route::ROUTE_CONFIG;
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

pub(crate) const HTTP_CONNECTION_MANAGER: Message<HttpConnectionManager> = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    read: http_connection_manager,
};

pub(crate) const COMMON_OPTIONS: Message<CommonHttpOptions> =
    Message { name: "envoy.config.core.v3.HttpProtocolOptions", read: common_options };

pub(crate) const HTTP1_OPTIONS: Message<()> =
    Message { name: "envoy.config.core.v3.Http1ProtocolOptions", read: |_| Some(()) };

pub(crate) const HTTP2_OPTIONS: Message<Http2Options> =
    Message { name: "envoy.config.core.v3.Http2ProtocolOptions", read: http2_options };

fn http_connection_manager(message: &mut Reader<'_>) -> Option<HttpConnectionManager> {
    let codecs = [
        ("AUTO", 0, Some(CodecType::Auto)),
        ("HTTP1", 1, Some(CodecType::Http1)),
        ("HTTP2", 2, Some(CodecType::Http2)),
        ("HTTP3", 3, None),
    ];
    message.one_of(&["route_config", "rds", "scoped_routes"], true);
    message.message("http_protocol_options", HTTP1_OPTIONS);
    let stat_prefix = message.required_text("stat_prefix");
    let codec = message.choice("codec_type", &codecs);
    let route_config = message.message("route_config", ROUTE_CONFIG);
    let http_filters = downstream_chain(message);
    let access_logs = message.list("access_log", ACCESS_LOG);
    let server_name = message.text("server_name");
    let http2 = message.message("http2_protocol_options", HTTP2_OPTIONS);
    let common = message.message("common_http_protocol_options", COMMON_OPTIONS);
    if message.integer("xff_num_trusted_hops", 0..=u32::MAX).is_some_and(|hops| hops > 0) {
        let text = "host-sim trusts no proxy in front of it; only 0 is simulated";
        message.problem_at("xff_num_trusted_hops", text);
    }
    // Between Envoy's two GOAWAY frames; the codec here sends the second after one round trip.
    message.accept(&["drain_timeout"]);
    let five_minutes = Some(Duration::from_secs(300));
    Some(HttpConnectionManager {
        http_filters,
        access_logs,
        use_remote_address: message.flag("use_remote_address", false),
        skip_xff_append: message.flag("skip_xff_append", false),
        generate_request_id: message.flag("generate_request_id", true),
        preserve_external_request_id: message.flag("preserve_external_request_id", false),
        always_set_request_id_in_response: message.flag("always_set_request_id_in_response", false),
        server_name: if server_name.is_empty() { "envoy".to_owned() } else { server_name },
        http2: http2.unwrap_or_default(),
        common: common.unwrap_or_default(),
        request_timeout: message.limit("request_timeout", None),
        stream_idle_timeout: message.limit("stream_idle_timeout", five_minutes),
        // Last, so that every field has been read, and its problems are known, before giving up.
        stat_prefix: stat_prefix?,
        codec: codec?,
        route_config: route_config?,
    })
}

fn common_options(message: &mut Reader<'_>) -> Option<CommonHttpOptions> {
    let defaults = CommonHttpOptions::default();
    let max_headers_count = message.integer("max_headers_count", 1..=u32::MAX);
    Some(CommonHttpOptions {
        idle_timeout: message.limit("idle_timeout", defaults.idle_timeout),
        max_connection_duration: message.limit("max_connection_duration", None),
        max_stream_duration: message.limit("max_stream_duration", None),
        max_requests_per_connection: message
            .integer("max_requests_per_connection", 0..=u32::MAX)
            .filter(|max| *max > 0),
        max_headers_count: max_headers_count.unwrap_or(defaults.max_headers_count),
    })
}

fn http2_options(message: &mut Reader<'_>) -> Option<Http2Options> {
    const WINDOW: std::ops::RangeInclusive<u32> = 65_535..=2_147_483_647;
    Some(Http2Options {
        max_concurrent_streams: message.integer("max_concurrent_streams", 1..=2_147_483_647),
        initial_stream_window_size: message.integer("initial_stream_window_size", WINDOW),
        initial_connection_window_size: message.integer("initial_connection_window_size", WINDOW),
    })
}
