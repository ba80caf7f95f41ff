//! HTTP filters, downstream and upstream: `type_url` selects, the name is only a name.

use crate::{HeaderMutations, LocalRateLimit, PluginConfig};

/// One entry of an `http_filters` list.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpFilter {
    /// The entry's name.
    pub name: String,
    /// What it is and how it is configured.
    pub config: HttpFilterConfig,
}

/// The HTTP filters host-sim simulates.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpFilterConfig {
    /// `envoy.filters.http.wasm`.
    Wasm(Box<PluginConfig>),
    /// `envoy.filters.http.header_mutation`.
    HeaderMutation(HeaderMutations),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRateLimit(LocalRateLimit),
    /// `envoy.filters.http.router`: terminal filter of a downstream chain, always its last.
    Router(Router),
    /// `envoy.filters.http.upstream_codec`: terminal filter of an upstream chain, always its last.
    UpstreamCodec,
}

/// `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Router {
    /// Do not add `x-envoy-*` headers to requests and responses. Default false.
    pub suppress_envoy_headers: bool,
}
