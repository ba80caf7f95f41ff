//! The bootstrap file that both hosts run.

use crate::probe;
use host_sim_abi::AbiVersion;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";

/// A plugin of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// Names it in requests (`x-cell-<letter>`).
    pub(crate) letter: char,
    /// Plugins of one `vm_id` and version share a VM.
    pub(crate) vm_id: &'static str,
    /// Which probe.
    pub(crate) version: AbiVersion,
    /// More fields of `PluginConfig`.
    pub(crate) more: Value,
}

/// A listener.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    pub(crate) plugins: Vec<Plugin>,
}

fn plugin(letter: char, vm_id: &'static str, more: Value) -> Plugin {
    Plugin { letter, vm_id, version: AbiVersion::V0_2_1, more }
}

/// The listeners that cases name.
pub(crate) fn listeners() -> Vec<Listener> {
    let one = |name, plugin| Listener { name, plugins: vec![plugin] };
    let chain = |letter, vm_id| plugin(letter, vm_id, json!({}));
    vec![
        one("main", plugin('a', "main", json!({"root_id": "main_root"}))),
        one("stop", plugin('a', "stop", json!({"allow_on_headers_stop_iteration": true}))),
        Listener {
            name: "chain",
            plugins: vec![chain('a', "chain"), chain('b', "other"), chain('c', "chain")],
        },
        one("closed", plugin('a', "closed", json!({"failure_policy": "FAIL_CLOSED"}))),
        one("open", plugin('a', "open", json!({"failure_policy": "FAIL_OPEN"}))),
        one("legacy", plugin('a', "legacy", json!({"fail_open": true}))),
        one("reload", plugin('a', "reload", json!({"failure_policy": "FAIL_RELOAD"}))),
        one("old", Plugin { version: AbiVersion::V0_1_0, ..plugin('a', "old", json!({})) }),
    ]
}

/// The program of a root, by listener and letter.
pub(crate) type Roots<'a> = &'a dyn Fn(&str, char) -> usize;

/// The file, as JSON, which is YAML. The modules are written beside it.
pub(crate) fn bootstrap(
    directory: &Path,
    clusters: &[(&'static str, SocketAddr)],
    table: &[u8],
    roots: Roots<'_>,
) -> anyhow::Result<String> {
    let mut modules = Vec::new();
    for version in AbiVersion::ALL {
        let path = directory.join(format!("{}.wasm", version.marker()));
        std::fs::write(&path, probe::module(*version, table))?;
        modules.push((*version, path));
    }
    let wasm = |listener: &str, plugin: &Plugin| {
        let letter = plugin.letter;
        let module = modules.iter().find(|(version, _)| *version == plugin.version);
        let name = format!("{listener}_{letter}");
        let mut config = json!({
            "name": name,
            "vm_config": {
                "vm_id": plugin.vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": module.map(|(_, path)| path)}},
                "configuration": {"@type": STRING, "value": "of the VM"},
            },
            "configuration": {
                "@type": STRING,
                "value": probe::configuration(roots(listener, letter), letter),
            },
        });
        for (field, value) in plugin.more.as_object().into_iter().flatten() {
            config[field] = value.clone();
        }
        json!({"name": name, "typed_config": {"@type": WASM, "config": config}})
    };
    let listeners: Vec<_> = listeners()
        .iter()
        .map(|listener| {
            let filters = listener.plugins.iter().map(|plugin| wasm(listener.name, plugin));
            http_listener(listener.name, filters.collect(), clusters)
        })
        .collect();
    let clusters: Vec<_> = clusters.iter().map(|(name, at)| cluster(name, Some(*at))).collect();
    let clusters: Vec<_> = clusters.into_iter().chain([cluster("nobody", None)]).collect();
    let document = json!({
        "node": {"id": "conform", "cluster": "conform-cluster", "metadata": {"key": "value"}},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    Ok(format!("{document:#}"))
}

fn http_listener(
    name: &str,
    mut filters: Vec<Value>,
    clusters: &[(&'static str, SocketAddr)],
) -> Value {
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    // The longest first, because `/echo` is a prefix of `/echo2`.
    let mut names: Vec<_> = clusters.iter().map(|(name, _)| *name).chain(["nobody"]).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let moved = json!({
        "name": "moved",
        "match": {"prefix": "/", "headers": [{"name": "x-moved", "present_match": true}]},
        "route": {"cluster": "echo2"},
    });
    let routes = names.iter().map(|cluster| {
        json!({
            "name": format!("to-{cluster}"),
            "match": {"prefix": format!("/{cluster}")},
            "route": {"cluster": cluster, "timeout": "1s"},
        })
    });
    let routes: Vec<_> = [moved].into_iter().chain(routes).collect();
    json!({
        "name": name,
        "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "route_config": {
                    "name": "routes",
                    "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
                },
                "http_filters": filters,
            },
        }]}],
    })
}

fn cluster(name: &str, endpoint: Option<SocketAddr>) -> Value {
    let endpoints: Vec<_> =
        endpoint.iter().map(|at| json!({"endpoint": {"address": address(*at)}})).collect();
    let protocol =
        if name.ends_with('2') { "http2_protocol_options" } else { "http_protocol_options" };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}},
            },
        },
    })
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    }})
}
