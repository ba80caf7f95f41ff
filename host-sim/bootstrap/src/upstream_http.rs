//! `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`: how a cluster speaks HTTP.

use crate::filter::upstream_chain;
use crate::http::{COMMON_OPTIONS, HTTP1_OPTIONS, HTTP2_OPTIONS};
use crate::reader::{Message, Reader};
use crate::{CommonHttpOptions, Http2Options, HttpFilter};

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpstreamHttp {
    /// What connections to endpoints speak.
    pub protocol: UpstreamProtocol,
    /// HTTP/2 settings.
    pub http2: Http2Options,
    /// Settings of every HTTP version.
    pub common: CommonHttpOptions,
    /// The upstream filter chain, ending in the upstream codec; empty = none configured.
    pub http_filters: Vec<HttpFilter>,
}

/// What connections to endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 (default).
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// `use_downstream_protocol_config`: what the client speaks.
    SameAsDownstream,
}

pub(crate) const UPSTREAM_HTTP: Message<UpstreamHttp> =
    Message { name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", read: upstream_http };

const EXPLICIT: Message<Protocol> = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    read: explicit,
};

const SAME_AS_DOWNSTREAM: Message<Protocol> = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
    read: same_as_downstream,
};

type Protocol = (UpstreamProtocol, Http2Options);

fn upstream_http(message: &mut Reader<'_>) -> Option<UpstreamHttp> {
    let kinds = ["explicit_http_config", "use_downstream_protocol_config", "auto_config"];
    message.one_of(&kinds, true);
    let explicit = message.message("explicit_http_config", EXPLICIT);
    let same = message.message("use_downstream_protocol_config", SAME_AS_DOWNSTREAM);
    let common = message.message("common_http_protocol_options", COMMON_OPTIONS);
    if common.is_some_and(|common| !is_simulated(&common)) {
        let text = "of a cluster, host-sim simulates 'idle_timeout' and \
                    'max_requests_per_connection' only";
        message.problem_at("common_http_protocol_options", text);
    }
    let http_filters = upstream_chain(message);
    let (protocol, http2) = explicit.or(same)?;
    Some(UpstreamHttp { protocol, http2, common: common.unwrap_or_default(), http_filters })
}

/// What connections to endpoints heed.
fn is_simulated(common: &CommonHttpOptions) -> bool {
    let CommonHttpOptions { idle_timeout, max_requests_per_connection, .. } = *common;
    *common
        == CommonHttpOptions {
            idle_timeout,
            max_requests_per_connection,
            ..CommonHttpOptions::default()
        }
}

fn explicit(message: &mut Reader<'_>) -> Option<Protocol> {
    let protocols = ["http_protocol_options", "http2_protocol_options", "http3_protocol_options"];
    message.one_of(&protocols, true);
    let http1 = message.message("http_protocol_options", HTTP1_OPTIONS);
    let http2 = message.message("http2_protocol_options", HTTP2_OPTIONS);
    let http1 = http1.map(|()| (UpstreamProtocol::Http1, Http2Options::default()));
    http1.or(http2.map(|options| (UpstreamProtocol::Http2, options)))
}

fn same_as_downstream(message: &mut Reader<'_>) -> Option<Protocol> {
    message.message("http_protocol_options", HTTP1_OPTIONS);
    let http2 = message.message("http2_protocol_options", HTTP2_OPTIONS);
    Some((UpstreamProtocol::SameAsDownstream, http2.unwrap_or_default()))
}
