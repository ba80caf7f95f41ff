//! The bootstrap file that both hosts run.

use crate::listeners::{Listener, Plugin, listener, plugin};
use crate::probe;
use host_sim_abi::AbiVersion;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";

/// The program of a root, by listener and letter.
pub(crate) type Roots<'a> = &'a dyn Fn(&str, char) -> usize;

/// The cluster with a plugin among its upstream filters, and that plugin's letter.
pub(crate) const FILTERED: (&str, char) = ("filtered", 'u');

/// Plugins without a listener: name, and whether there is one for all workers.
const SERVICES: [(&str, bool); 2] = [("service", false), ("singleton", true)];

/// The file, as JSON, which is YAML, with the listeners and services of these names. The modules are
/// written beside it.
pub(crate) fn bootstrap(
    directory: &Path,
    names: &BTreeSet<&str>,
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
    let config = |host: &str, plugin: &Plugin| plugin_config(host, plugin, &modules, roots);
    let filter = |host: &str, plugin: &Plugin, kind: &str| {
        json!({
            "name": format!("{host}_{}", plugin.letter),
            "typed_config": {
                "@type": format!("{EXTENSIONS}.filters.{kind}.wasm.v3.Wasm"),
                "config": config(host, plugin),
            },
        })
    };
    let service = |name: &str| SERVICES.iter().find(|(service, _)| *service == name);
    let listeners: Vec<_> = names
        .iter()
        .filter(|name| **name != FILTERED.0 && service(name).is_none())
        .map(|name| {
            let listener = listener(name);
            let kind = if listener.tcp.is_some() { "network" } else { "http" };
            let filters = listener.plugins.iter().map(|plugin| filter(name, plugin, kind));
            match listener.tcp {
                Some(cluster) => tcp_listener(&listener, filters.collect(), cluster),
                None => http_listener(&listener.name, filters.collect(), clusters),
            }
        })
        .collect();
    let services: Vec<_> = names
        .iter()
        .filter_map(|name| service(name))
        .map(|(name, singleton)| {
            json!({
                "name": "envoy.bootstrap.wasm",
                "typed_config": {
                    "@type": format!("{EXTENSIONS}.wasm.v3.WasmService"),
                    "singleton": singleton,
                    "config": config(name, &plugin('s', name)),
                },
            })
        })
        .collect();
    let mut clusters: Vec<_> = clusters.iter().map(|(name, at)| cluster(name, Some(*at))).collect();
    clusters.push(cluster("nobody", None));
    let (name, letter) = FILTERED;
    if let Some(cluster) = clusters.iter_mut().find(|cluster| cluster["name"] == name) {
        cluster["typed_extension_protocol_options"][HTTP_OPTIONS]["http_filters"] = json!([
            filter(name, &plugin(letter, name), "http"),
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {
                    "@type": format!("{EXTENSIONS}.filters.http.upstream_codec.v3.UpstreamCodec"),
                },
            },
        ]);
    }
    let document = json!({
        "node": {"id": "conform", "cluster": "conform-cluster", "metadata": {"key": "value"}},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "bootstrap_extensions": services,
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    Ok(format!("{document:#}"))
}

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// `PluginConfig` of a plugin of that listener, cluster or service.
fn plugin_config(
    host: &str,
    plugin: &Plugin,
    modules: &[(AbiVersion, PathBuf)],
    roots: Roots<'_>,
) -> Value {
    let letter = plugin.letter;
    let module = modules.iter().find(|(version, _)| *version == plugin.version);
    let mut config = json!({
        "name": format!("{host}_{letter}"),
        "vm_config": {
            "vm_id": plugin.vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module.map(|(_, path)| path)}},
            "configuration": {"@type": STRING, "value": "of the VM"},
            "environment_variables": {"key_values": {"A": "b"}},
        },
        "configuration": {
            "@type": STRING,
            "value": probe::configuration(roots(host, letter), letter),
        },
    });
    for (field, value) in plugin.more.as_object().into_iter().flatten() {
        config[field] = value.clone();
    }
    config
}

fn tcp_listener(listener: &Listener, mut filters: Vec<Value>, cluster: &str) -> Value {
    filters.push(json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": listener.name,
            "cluster": cluster,
        },
    }));
    json!({
        "name": listener.name,
        "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [{"filters": filters}],
    })
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
            HTTP_OPTIONS: {
                "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
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
