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
//! is one area of Envoy's API; each message is one short function over a small cursor that remembers which fields were read.

mod access_log;
mod address;
mod cluster;
mod filter;
mod header;
mod http;
mod listener;
mod load_balancing;
mod problem;
mod rate_limit;
mod route;
mod tls;
mod wasm;

pub use access_log::{AccessLog, AccessLogFormat, AccessLogSink};
pub use address::Address;
pub use cluster::{
    CircuitBreakers, Cluster, Discovery, Endpoint, HealthStatus, Thresholds, UpstreamHttp,
    UpstreamProtocol,
};
pub use filter::{HttpFilter, HttpFilterConfig, Router};
pub use header::{
    AppendAction, HeaderMatch, HeaderMatcher, HeaderMutation, HeaderMutations, HeaderTransforms,
    HeaderValueOption, Pattern,
};
pub use http::{CodecType, CommonHttpOptions, Http2Options, HttpConnectionManager};
pub use listener::Listener;
pub use load_balancing::{LoadBalancingPolicy, OverrideSource, SelectionMethod};
pub use problem::{Problem, Problems};
pub use rate_limit::{FractionalPercent, LocalRateLimit, TokenBucket};
pub use route::{
    ClusterSpecifier, DirectResponse, Forward, PathMatch, RetryBackOff, RetryPolicy, Route,
    RouteAction, RouteConfig, RouteMatch, VirtualHost,
};
pub use tls::{Certificate, DataSource, DownstreamTls, TlsVersion, UpstreamTls};
pub use wasm::{
    Configuration, ConfigurationKind, Environment, FailurePolicy, PluginConfig, VmConfig,
    WasmService,
};

/// `envoy.config.bootstrap.v3.Bootstrap`, as far as host-sim simulates it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bootstrap {
    /// Who this proxy says it is.
    pub node: Node,
    /// Where the admin endpoint listens; absent = no admin endpoint.
    pub admin: Option<Address>,
    /// Tag extraction rules, in order; Envoy's built-in rules come after them.
    pub stats_tags: Vec<StatsTag>,
    /// Whether Envoy's built-in tag rules apply. Default true.
    pub use_all_default_tags: bool,
    /// In file order; an engine names listeners by their index here.
    pub listeners: Vec<Listener>,
    /// In file order; names are unique.
    pub clusters: Vec<Cluster>,
    /// `bootstrap_extensions` of type `WasmService`.
    pub wasm_services: Vec<WasmService>,
}

/// `envoy.config.core.v3.Node`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.metadata`, as JSON; plugins read it as the attribute `xds.node.metadata`.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// One `stats_config.stats_tags` entry.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsTag {
    /// The label's name.
    pub name: String,
    /// How the label gets its value.
    pub source: StatsTagSource,
}

/// Where a tag's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum StatsTagSource {
    /// Group 1 of the match is cut out of the name; group 2, or else group 1, is the value.
    Regex(Pattern),
    /// The same value on every stat.
    Fixed(String),
    /// Neither given: Envoy's built-in rule of that name.
    BuiltIn,
}
