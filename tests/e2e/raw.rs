//! Bootstraps around hand-written modules: listeners with plugins, one cluster `backend`.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// Type of a plugin as an HTTP filter.
pub(crate) const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// A plugin's `typed_config`. `more` are fields of the plugin's configuration, `vm` of its VM's.
pub(crate) fn plugin(
    name: &str,
    module: &Path,
    configuration: &str,
    more: &Value,
    vm: &Value,
) -> Value {
    let mut vm_config = json!({
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": module}},
    });
    let mut config = json!({
        "name": name,
        "root_id": name,
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": configuration,
        },
    });
    merge(&mut vm_config, vm);
    merge(&mut config, more);
    config["vm_config"] = vm_config;
    json!({"@type": WASM, "config": config})
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

/// A listener with these filters before the router.
pub(crate) fn listener(name: &str, filters: &[Value]) -> Value {
    let mut filters = filters.to_vec();
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }}));
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "stream_idle_timeout": "60s",
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": "backend"}},
                ]}]},
                "http_filters": filters,
            },
        }]}],
    })
}

/// The same listener, where a request that stands still for so long gets a 504 instead of a minute.
pub(crate) fn with_idle_timeout(mut listener: Value, time: &str) -> Value {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["stream_idle_timeout"] = json!(time);
    listener
}

/// A bootstrap with these listeners.
pub(crate) fn bootstrap(listeners: &[Value], backend: SocketAddr) -> String {
    json!({
        "node": {"id": "node", "cluster": "tests"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "backend",
                "type": "STATIC",
                "connect_timeout": "60s",
                "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {
                        "address": backend.ip().to_string(), "port_value": backend.port(),
                    }}}},
                ]}]},
            }],
        },
    })
    .to_string()
}
