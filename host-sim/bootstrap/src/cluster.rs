//! `envoy.config.cluster.v3.Cluster`.

use std::time::Duration;

use crate::circuit_breakers::CIRCUIT_BREAKERS;
use crate::endpoint::LOAD_ASSIGNMENT;
use crate::http::HTTP2_OPTIONS;
use crate::load_balancing::{LEAST_REQUEST_LB_CONFIG, LOAD_BALANCING_POLICY};
use crate::metadata::{Metadata, metadata_of};
use crate::reader::{Message, Reader};
use crate::transport_socket::UPSTREAM;
use crate::upstream_http::UPSTREAM_HTTP;
use crate::{
    CircuitBreakers, Endpoint, LoadBalancingPolicy, SelectionMethod, UpstreamHttp,
    UpstreamProtocol, UpstreamTls,
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
    /// Which addresses of a name count. Default AUTO.
    pub dns_lookup_family: DnsLookupFamily,
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
    /// `metadata`, for plugins.
    pub metadata: Metadata,
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

/// `dns_lookup_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsLookupFamily {
    /// IPv6 addresses, or else IPv4 (default).
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 addresses, or else IPv6.
    V4Preferred,
    /// Both.
    All,
}

pub(crate) const CLUSTER: Message<Cluster> =
    Message { name: "envoy.config.cluster.v3.Cluster", read: cluster };

const ORIGINAL_DST_LB_CONFIG: Message<Option<String>> =
    Message { name: "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig", read: original_dst };

const COMMON_LB_CONFIG: Message<f64> =
    Message { name: "envoy.config.cluster.v3.Cluster.CommonLbConfig", read: common_lb_config };

const PERCENT: Message<f64> = Message {
    name: "envoy.type.v3.Percent",
    read: |message| Some(message.number("value", 0.0..=100.0).unwrap_or(0.0)),
};

/// Envoy's default, in percent.
const HEALTHY_PANIC_THRESHOLD: f64 = 50.0;

/// The one key of `typed_extension_protocol_options` that an HTTP cluster has.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn cluster(message: &mut Reader<'_>) -> Option<Cluster> {
    message.not_yet(&["health_checks", "outlier_detection"]);
    // About warming and removal of hosts, of which there is neither.
    message.accept(&["wait_for_warm_on_init", "ignore_health_on_host_removal", "cleanup_interval"]);
    let name = message.required_text("name");
    let stat_name = message.text("alt_stat_name");
    let discovery = discovery(message);
    let load_balancing = load_balancing(message);
    let endpoints = message.message("load_assignment", LOAD_ASSIGNMENT).unwrap_or_default();
    let options = protocol_options(message);
    let breakers = message.message("circuit_breakers", CIRCUIT_BREAKERS);
    let panic = message.message("common_lb_config", COMMON_LB_CONFIG);
    let connect_timeout = message.positive_duration("connect_timeout");
    let tls = message.message("transport_socket", UPSTREAM);
    let dns_lookup_family = dns_lookup_family(message);
    let metadata = metadata_of(message);
    let (name, discovery, load_balancing) = (name?, discovery?, load_balancing?);
    let cluster = Cluster {
        stat_name: if stat_name.is_empty() { name.clone() } else { stat_name },
        name,
        discovery,
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
        dns_lookup_family,
        endpoints,
        load_balancing,
        circuit_breakers: breakers.unwrap_or_default(),
        healthy_panic_threshold_percent: panic.unwrap_or(HEALTHY_PANIC_THRESHOLD),
        http: options,
        tls: tls.flatten(),
        metadata,
    };
    check(message, &cluster);
    Some(cluster)
}

/// What Envoy checks across fields.
fn check(message: &Reader<'_>, cluster: &Cluster) {
    let provided = cluster.load_balancing == LoadBalancingPolicy::ClusterProvided;
    let original = matches!(cluster.discovery, Discovery::OriginalDst { .. });
    if original && !provided {
        message.problem_at("lb_policy", "a cluster of type ORIGINAL_DST needs CLUSTER_PROVIDED");
    }
    if provided && !original {
        message.problem_at("lb_policy", "CLUSTER_PROVIDED needs a cluster of type ORIGINAL_DST");
    }
    if original && !cluster.endpoints.is_empty() {
        message.problem_at("load_assignment", "a cluster of type ORIGINAL_DST has no endpoints");
    }
    if matches!(cluster.discovery, Discovery::LogicalDns { .. }) && cluster.endpoints.len() != 1 {
        message.problem_at("load_assignment", "a LOGICAL_DNS cluster has exactly one endpoint");
    }
    let hosts = cluster.endpoints.iter().map(|endpoint| &endpoint.address);
    if cluster.discovery == Discovery::Static {
        for address in hosts.filter(|address| address.to_socket_addr().is_none()) {
            let mend = "set 'type' to STRICT_DNS or LOGICAL_DNS";
            let text = format!("'{}' is no IP address; {mend}", address.host);
            message.problem_at("load_assignment", text);
        }
    }
}

fn discovery(message: &mut Reader<'_>) -> Option<Discovery> {
    const REFRESH: Duration = Duration::from_secs(5);
    let types = [
        ("STATIC", 0, Some(0)),
        ("STRICT_DNS", 1, Some(1)),
        ("LOGICAL_DNS", 2, Some(2)),
        ("EDS", 3, None),
        ("ORIGINAL_DST", 4, Some(4)),
    ];
    let kind = message.choice("type", &types);
    let refresh_rate = message.positive_duration("dns_refresh_rate").unwrap_or(REFRESH);
    let header = message.message("original_dst_lb_config", ORIGINAL_DST_LB_CONFIG).flatten();
    Some(match kind? {
        1 => Discovery::StrictDns { refresh_rate },
        2 => Discovery::LogicalDns { refresh_rate },
        4 => Discovery::OriginalDst { header },
        _ => Discovery::Static,
    })
}

fn dns_lookup_family(message: &mut Reader<'_>) -> DnsLookupFamily {
    let families = [
        ("AUTO", 0, Some(DnsLookupFamily::Auto)),
        ("V4_ONLY", 1, Some(DnsLookupFamily::V4Only)),
        ("V6_ONLY", 2, Some(DnsLookupFamily::V6Only)),
        ("V4_PREFERRED", 3, Some(DnsLookupFamily::V4Preferred)),
        ("ALL", 4, Some(DnsLookupFamily::All)),
    ];
    message.choice("dns_lookup_family", &families).unwrap_or_default()
}

/// `load_balancing_policy` wins over the older `lb_policy`, as in Envoy.
fn load_balancing(message: &mut Reader<'_>) -> Option<LoadBalancingPolicy> {
    #[derive(Clone, Copy)]
    enum Named {
        RoundRobin,
        LeastRequest,
        Random,
        ClusterProvided,
        Extension,
    }
    let policies = [
        ("ROUND_ROBIN", 0, Some(Named::RoundRobin)),
        ("LEAST_REQUEST", 1, Some(Named::LeastRequest)),
        ("RING_HASH", 2, None),
        ("RANDOM", 3, Some(Named::Random)),
        ("MAGLEV", 5, None),
        ("CLUSTER_PROVIDED", 6, Some(Named::ClusterProvided)),
        ("LOAD_BALANCING_POLICY_CONFIG", 7, Some(Named::Extension)),
    ];
    let named = message.choice("lb_policy", &policies);
    let least_request = message.message("least_request_lb_config", LEAST_REQUEST_LB_CONFIG);
    if message.has("load_balancing_policy") {
        return message.message("load_balancing_policy", LOAD_BALANCING_POLICY);
    }
    Some(match named? {
        Named::RoundRobin => LoadBalancingPolicy::RoundRobin,
        Named::LeastRequest => least_request.unwrap_or(LoadBalancingPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            selection_method: SelectionMethod::NChoices,
        }),
        Named::Random => LoadBalancingPolicy::Random,
        Named::ClusterProvided => LoadBalancingPolicy::ClusterProvided,
        Named::Extension => {
            message.problem("field 'load_balancing_policy' is required by 'lb_policy'");
            return None;
        }
    })
}

fn protocol_options(message: &mut Reader<'_>) -> UpstreamHttp {
    let field = "typed_extension_protocol_options";
    let mut options = None;
    for (key, read) in message.any_map(field, &[UPSTREAM_HTTP]) {
        if key != HTTP_OPTIONS {
            let text = format!("the key must be '{HTTP_OPTIONS}'");
            message.problem_at(&format!("{field}[{key:?}]"), text);
        }
        options = Some(read);
    }
    // The older spelling, which Envoy still takes and which counts for nothing beside the newer one.
    let http2 = message.message("http2_protocol_options", HTTP2_OPTIONS);
    let protocol = UpstreamProtocol::Http2;
    let older = http2.map(|http2| UpstreamHttp { protocol, http2, ..UpstreamHttp::default() });
    options.or(older).unwrap_or_default()
}

fn original_dst(message: &mut Reader<'_>) -> Option<Option<String>> {
    let name = message.header_name("http_header_name");
    let name = name.unwrap_or_else(|| "x-envoy-original-dst-host".to_owned());
    Some(message.flag("use_http_header", false).then_some(name))
}

fn common_lb_config(message: &mut Reader<'_>) -> Option<f64> {
    let threshold = message.message("healthy_panic_threshold", PERCENT);
    Some(threshold.unwrap_or(HEALTHY_PANIC_THRESHOLD))
}
