//! `envoy.config.cluster.v3.Cluster`.

use std::time::Duration;

use crate::{
    Address, CommonHttpOptions, Http2Options, HttpFilter, LoadBalancingPolicy, UpstreamTls,
};

/// A cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// `alt_stat_name`, or else the name: `cluster.<this>.` starts its stats.
    pub stat_name: String,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// Default 5 s.
    pub connect_timeout: Duration,
    /// In file order; host names are resolved by the driver (DNS clusters).
    pub endpoints: Vec<Endpoint>,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancingPolicy,
    /// Concurrency limits.
    pub circuit_breakers: CircuitBreakers,
    /// With fewer healthy endpoints than so many percent, health is ignored. Default 50; 0 = never.
    pub healthy_panic_threshold_percent: f64,
    /// HTTP settings and the upstream filter chain.
    pub http: UpstreamHttp,
    /// `UpstreamTlsContext`; absent = plain text.
    pub tls: Option<UpstreamTls>,
}

/// `type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// IP addresses from the file.
    Static,
    /// Every address of every name is an endpoint.
    StrictDns {
        /// How often names are resolved. Default 5 s.
        refresh_rate: Duration,
    },
    /// The first address of the one name is the endpoint.
    LogicalDns {
        /// How often the name is resolved. Default 5 s.
        refresh_rate: Duration,
    },
    /// The request names the endpoint (filter state or, if set, this header).
    OriginalDst {
        /// `original_dst_lb_config.use_http_header` with its `http_header_name`
        /// (default `x-envoy-original-dst-host`); lower case.
        header: Option<String>,
    },
}

/// One `lb_endpoints` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// `endpoint.hostname`, empty when not given.
    pub hostname: String,
    /// `load_balancing_weight`, at least 1. Default 1.
    pub weight: u32,
    /// As the file says; host-sim has no active health checks yet.
    pub health: HealthStatus,
}

/// `health_status`, folded to what load balancing sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthStatus {
    /// UNKNOWN or HEALTHY.
    #[default]
    Healthy,
    /// DEGRADED: used only when healthy endpoints do not suffice.
    Degraded,
    /// UNHEALTHY, DRAINING or TIMEOUT: not picked, but in panic.
    Unhealthy,
}

/// `circuit_breakers`, per priority of routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitBreakers {
    /// Of ordinary requests.
    pub default: Thresholds,
    /// Of routes with `priority: HIGH`.
    pub high: Thresholds,
}

/// `CircuitBreakers.Thresholds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Connections to all endpoints. Default 1024.
    pub max_connections: u32,
    /// Requests that wait for a connection. Default 1024.
    pub max_pending_requests: u32,
    /// Requests in flight. Default 1024.
    pub max_requests: u32,
    /// Retries in flight. Default 3.
    pub max_retries: u32,
    /// Publish the `remaining_*` gauges. Default false.
    pub track_remaining: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            track_remaining: false,
        }
    }
}

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
