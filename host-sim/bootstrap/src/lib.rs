//! The subset of Envoy's bootstrap that host-sim runs: typed, strict, with paths in its errors.
//!
//! One file runs everywhere: this crate reads the very YAML (or JSON) that `envoy -c` reads. Envoy's
//! schema is thousands of fields wide and host-sim simulates some of them, so the reader is strict in
//! a way serde is not: a field that Envoy knows and host-sim does not simulate is an error, a field
//! that nobody knows is another error with a "did you mean", and neither is ever a silence. All
//! problems are reported at once, each with the path an editor can jump to.
//!
//! The structs are what an engine wants, not what protobuf has: Envoy's defaults are filled in, a
//! duration of zero that means "off" is `None`, wrappers and one-ofs are options and enums. Each file
//! is one area of Envoy's API; each message is one short function over a small cursor that remembers
//! which fields were read.

mod access_log;
mod address;
mod bootstrap;
mod circuit_breakers;
mod cluster;
mod config_discovery;
mod document;
mod endpoint;
mod filter;
mod header;
mod header_matcher;
mod http;
mod listener;
mod load_balancing;
mod metadata;
mod pattern;
mod problem;
mod rate_limit;
mod reader;
mod retry_policy;
mod route;
mod schema;
mod stateful_session;
mod stats_tag;
mod status_code;
mod tcp_proxy;
mod tls;
mod transport_socket;
mod upstream_http;
mod wasm;
mod well_known;

pub use access_log::{AccessLog, AccessLogFormat, AccessLogSink};
pub use address::Address;
pub use bootstrap::{Bootstrap, Node};
pub use circuit_breakers::{CircuitBreakers, Thresholds};
pub use cluster::{Cluster, Discovery, DnsLookupFamily};
pub use config_discovery::{ConfigDiscovery, Discovered, DiscoveryError, read_discovered};
pub use endpoint::{Endpoint, HealthStatus};
pub use filter::{HttpFilter, HttpFilterConfig};
pub use header::{
    AppendAction, HeaderMutation, HeaderMutations, HeaderTransforms, HeaderValueOption,
};
pub use header_matcher::{HeaderMatch, HeaderMatcher};
pub use http::{CodecType, CommonHttpOptions, Http2Options, HttpConnectionManager};
pub use listener::{Listener, Terminal};
pub use load_balancing::{LoadBalancingPolicy, OverrideSource, SelectionMethod};
pub use metadata::{Locality, Metadata};
pub use pattern::Pattern;
pub use problem::{Problem, Problems};
pub use rate_limit::{FractionalPercent, LocalRateLimit, TokenBucket};
pub use retry_policy::{RETRY_CONDITIONS, RetryBackOff, RetryPolicy};
pub use route::{
    ClusterSpecifier, DirectResponse, Forward, PathMatch, Route, RouteAction, RouteConfig,
    RouteMatch, VirtualHost,
};
pub use stateful_session::StatefulSession;
pub use stats_tag::{StatsTag, StatsTagSource};
pub use tcp_proxy::TcpProxy;
pub use tls::{Certificate, DataSource, DownstreamTls, TlsVersion, UpstreamTls};
pub use upstream_http::{UpstreamHttp, UpstreamProtocol};
pub use wasm::{Environment, FailurePolicy, PluginConfig, VmConfig, WasmService};
pub use well_known::{Configuration, ConfigurationKind};
