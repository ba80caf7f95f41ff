//! `envoy.config.bootstrap.v3.Bootstrap`: the whole file, and what must hold across its parts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Locality;
use crate::address::ADDRESS;
use crate::cluster::CLUSTER;
use crate::listener::LISTENER;
use crate::metadata::LOCALITY;
use crate::reader::{Message, Reader, read_document};
use crate::stats_tag::{STATS_CONFIG, StatsTag};
use crate::wasm::WASM_SERVICE;
use crate::{
    Address, Cluster, ClusterSpecifier, HttpFilter, HttpFilterConfig, Listener, RouteAction,
    WasmService,
};
use crate::{Problem, Problems, document};

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
    /// `node.locality`.
    pub locality: Locality,
}

impl Bootstrap {
    /// Reads a bootstrap in YAML or JSON. Code, certificates and other files that it names are not
    /// opened.
    pub fn from_yaml(text: &str) -> Result<Self, Problems> {
        let document = document::parse(text).map_err(Problems)?;
        read_document(&document, BOOTSTRAP).map_err(Problems)
    }

    /// Reads a bootstrap from a file.
    pub fn from_file(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            Problems(vec![Problem { path: String::new(), message }])
        })?;
        Self::from_yaml(&text)
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }
}

const BOOTSTRAP: Message<Bootstrap> =
    Message { name: "envoy.config.bootstrap.v3.Bootstrap", read: bootstrap };

const STATIC_RESOURCES: Message<StaticResources> =
    Message { name: "envoy.config.bootstrap.v3.Bootstrap.StaticResources", read: static_resources };

const ADMIN: Message<Option<Address>> = Message {
    name: "envoy.config.bootstrap.v3.Admin",
    read: |message| {
        let address = message.message("address", ADDRESS);
        if let Some(address) = address.as_ref().filter(|found| found.to_socket_addr().is_none()) {
            message.problem_at("address", format!("'{}' is no IP address", address.host));
        }
        Some(address)
    },
};

const NODE: Message<Node> = Message { name: "envoy.config.core.v3.Node", read: node };

const EXTENSION: Message<WasmService> = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    read: |message| {
        message.required_text("name");
        message.extension("typed_config", &[WASM_SERVICE])
    },
};

/// `static_resources`, before it is folded into the bootstrap.
#[derive(Default)]
struct StaticResources {
    listeners: Vec<Listener>,
    clusters: Vec<Cluster>,
}

fn bootstrap(message: &mut Reader<'_>) -> Option<Bootstrap> {
    // Stats are read when they are asked for; nothing is flushed.
    message.positive_duration("stats_flush_interval");
    let node = message.message("node", NODE);
    let admin = message.message("admin", ADMIN);
    let stats = message.message("stats_config", STATS_CONFIG);
    let resources = message.message("static_resources", STATIC_RESOURCES).unwrap_or_default();
    check_node(message, node.as_ref(), &resources);
    let (stats_tags, use_all_default_tags) =
        stats.map_or((Vec::new(), true), |stats| (stats.tags, stats.use_all_default_tags));
    Some(Bootstrap {
        node: node.unwrap_or_default(),
        admin: admin.flatten(),
        stats_tags,
        use_all_default_tags,
        listeners: resources.listeners,
        clusters: resources.clusters,
        wasm_services: message.list("bootstrap_extensions", EXTENSION),
    })
}

fn static_resources(message: &mut Reader<'_>) -> Option<StaticResources> {
    let listeners = message.list("listeners", LISTENER);
    let clusters = message.list("clusters", CLUSTER);
    check_unique(message, "listeners", listeners.iter().map(|listener| listener.name.as_str()));
    check_unique(message, "clusters", clusters.iter().map(|cluster| cluster.name.as_str()));
    // An unreadable cluster has no name yet: routes to it are not its own fault.
    if message.is_sound("clusters") {
        let names = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        for listener in &listeners {
            check_routes(message, listener, &names);
        }
    }
    Some(StaticResources { listeners, clusters })
}

/// As Envoy: whoever subscribes to anything says who he is.
fn check_node(message: &Reader<'_>, node: Option<&Node>, resources: &StaticResources) {
    let discovers = |filter: &HttpFilter| matches!(filter.config, HttpFilterConfig::Discovered(_));
    let listeners = resources.listeners.iter().filter_map(Listener::http);
    let filters = listeners.flat_map(|manager| &manager.http_filters);
    let mut filters =
        filters.chain(resources.clusters.iter().flat_map(|cluster| &cluster.http.http_filters));
    let named = node.is_some_and(|node| !node.id.is_empty() && !node.cluster.is_empty());
    if !named && filters.any(discovers) {
        message.problem("'node' needs an 'id' and a 'cluster' where there is 'config_discovery'");
    }
}

fn check_unique<'n>(message: &Reader<'_>, field: &str, names: impl Iterator<Item = &'n str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            message.problem_at(field, format!("name '{name}' is given twice"));
        }
    }
}

/// As Envoy's `validate_clusters`, whose default is true for a static route table.
fn check_routes(message: &Reader<'_>, listener: &Listener, clusters: &BTreeSet<&str>) {
    let hosts = listener.http().map(|http| &http.route_config.virtual_hosts);
    let routes = hosts.into_iter().flatten().flat_map(|host| &host.routes);
    for route in routes {
        if let RouteAction::Forward(forward) = &route.action
            && let ClusterSpecifier::Name(name) = &forward.cluster
            && !clusters.contains(name.as_str())
        {
            let text = format!("listener '{}' routes to unknown cluster '{name}'", listener.name);
            message.problem_at("listeners", text);
        }
    }
}

fn node(message: &mut Reader<'_>) -> Option<Node> {
    message.accept(&["user_agent_name"]);
    Some(Node {
        id: message.text("id"),
        cluster: message.text("cluster"),
        metadata: message.json_object("metadata").unwrap_or_default(),
        locality: message.message("locality", LOCALITY).unwrap_or_default(),
    })
}
