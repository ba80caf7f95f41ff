//! What is under test: the short form of a bootstrap.

use super::step::Address;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The short form of a bootstrap: one listener, one route to the cluster `backend`, which has the
/// scenario's endpoints.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// Plugins of the listener, in order.
    pub filters: Vec<FilterSpec>,
    /// Plugins of the cluster's upstream chain, in order.
    #[serde(default)]
    pub upstream_filters: Vec<FilterSpec>,
    /// Network plugins of a second listener, which carries bytes to the same cluster; there is none
    /// without them.
    #[serde(default)]
    pub network_filters: Vec<FilterSpec>,
    /// More clusters, for the plugins' own calls.
    #[serde(default)]
    pub clusters: BTreeMap<String, ClusterSpec>,
    /// Retries of the route. Default 0.
    #[serde(default)]
    pub retries: u32,
    /// Timeout of the route, as protobuf writes it. Default `5s`.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// Whether the cluster obeys the steering header. Default true.
    #[serde(default = "default_true")]
    pub override_host: bool,
    /// Filters of Envoy's own between the plugins and the router, as a bootstrap has them.
    #[serde(default)]
    pub native_filters: Vec<Value>,
    /// Fields of the cluster `backend`, as a bootstrap has them. They replace what stands there.
    #[serde(default)]
    pub backend: Map<String, Value>,
    /// Fields of the route action, the same way; `null` takes one away.
    #[serde(default)]
    pub route: Map<String, Value>,
    /// The proxy itself, as a bootstrap has it.
    #[serde(default)]
    pub node: Map<String, Value>,
}

/// A cluster: its endpoints, or more.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClusterSpec {
    /// Its endpoints, perhaps none.
    Endpoints(Vec<Address>),
    /// Endpoints and how to talk to them.
    Full(ClusterOptions),
}

/// A cluster with options.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterOptions {
    /// Its endpoints, perhaps none.
    pub endpoints: Vec<Address>,
    /// Whether they speak HTTP/2, as gRPC needs. Default false.
    #[serde(default)]
    pub http2: bool,
}

impl ClusterSpec {
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        let (Self::Endpoints(list) | Self::Full(ClusterOptions { endpoints: list, .. })) = self;
        list.iter().map(|address| address.0).collect()
    }

    pub(crate) const fn http2(&self) -> bool {
        matches!(self, Self::Full(ClusterOptions { http2: true, .. }))
    }
}

/// One plugin.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    /// Name of a module of the suite, or path of any module.
    pub module: String,
    /// Name of the plugin; that of the module by default.
    pub name: Option<String>,
    /// Scope of shared data. Default `weir`.
    #[serde(default = "default_vm_id")]
    pub vm_id: String,
    /// Configuration of the VM; plugins whose VMs differ in it do not share one.
    pub vm_configuration: Option<String>,
    /// What a failed VM means for requests. Default `FAIL_CLOSED`.
    pub failure_policy: Option<FailurePolicy>,
    /// Hostcalls and callbacks that the host keeps from it, such as `proxy_get_shared_data`.
    #[serde(default)]
    pub denied_capabilities: Vec<String>,
    /// Whether Pause in a headers callback lets body callbacks come. Default false.
    #[serde(default)]
    pub allow_on_headers_stop_iteration: bool,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Configuration: a document, which the plugin gets as JSON, or a string as it is.
    #[serde(default)]
    pub configuration: Value,
}

/// Envoy's `FailurePolicy`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Requests get 503.
    #[serde(rename = "FAIL_CLOSED")]
    Closed,
    /// Requests pass without the plugin.
    #[serde(rename = "FAIL_OPEN")]
    Open,
    /// The VM is made anew, not sooner than a second after the last time.
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
}

impl FailurePolicy {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "FAIL_CLOSED",
            Self::Open => "FAIL_OPEN",
            Self::Reload => "FAIL_RELOAD",
        }
    }
}

fn default_true() -> bool {
    true
}

fn default_timeout() -> String {
    "5s".to_owned()
}

fn default_vm_id() -> String {
    "weir".to_owned()
}
