//! `envoy.filters.network.tcp_proxy`: bytes to a cluster.

use std::time::Duration;

use crate::AccessLog;
use crate::access_log::ACCESS_LOG;
use crate::reader::{Message, Reader};

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpProxy {
    /// Prefix of its stats: `tcp.<stat_prefix>.`.
    pub stat_prefix: String,
    /// Where connections go: at least one cluster, with its weight. A name without a cluster is no
    /// error, as in Envoy: such connections are closed.
    pub clusters: Vec<(String, u32)>,
    /// No byte in either direction for so long closes the connection. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection lives no longer than. Default none.
    pub max_downstream_connection_duration: Option<Duration>,
    /// Endpoints to try before a connection is given up. Default 1.
    pub max_connect_attempts: u32,
    /// Its access loggers, written when a connection is over.
    pub access_logs: Vec<AccessLog>,
}

pub(crate) const TCP_PROXY: Message<TcpProxy> =
    Message { name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", read: tcp_proxy };

const WEIGHTED_CLUSTERS: Message<Vec<(String, u32)>> = Message {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
    read: |message| {
        let clusters = message.list("clusters", CLUSTER_WEIGHT);
        if clusters.is_empty() && message.is_sound("clusters") {
            message.problem_at("clusters", "needs at least one cluster");
        }
        Some(clusters)
    },
};

const CLUSTER_WEIGHT: Message<(String, u32)> = Message {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    read: |message| {
        let name = message.required_text("name");
        if !message.has("weight") {
            message.problem("field 'weight' is required");
        }
        let weight = message.integer("weight", 1..=u32::MAX);
        Some((name?, weight?))
    },
};

fn tcp_proxy(message: &mut Reader<'_>) -> Option<TcpProxy> {
    let stat_prefix = message.required_text("stat_prefix");
    message.one_of(&["cluster", "weighted_clusters"], true);
    let cluster = message.optional_text("cluster");
    let weighted = message.message("weighted_clusters", WEIGHTED_CLUSTERS);
    let hour = Some(Duration::from_secs(3600));
    let idle_timeout = message.limit("idle_timeout", hour);
    let longest = message.positive_duration("max_downstream_connection_duration");
    Some(TcpProxy {
        clusters: cluster.map(|name| vec![(name, 1)]).or(weighted)?,
        idle_timeout,
        max_downstream_connection_duration: longest,
        max_connect_attempts: message.integer("max_connect_attempts", 1..=u32::MAX).unwrap_or(1),
        access_logs: message.list("access_log", ACCESS_LOG),
        stat_prefix: stat_prefix?,
    })
}
