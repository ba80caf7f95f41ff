//! The short form of a bootstrap, for scenarios about plugins rather than about proxies.

use crate::capability;
use crate::scenario::suite::{FilterSpec, SuiteSpec};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const TYPES: &str = "type.googleapis.com";
const STEERING_HEADER: &str = "x-gateway-destination-endpoint";

/// Writes the bootstrap that `suite` stands for: one listener, one route `backend`, one cluster
/// `backend` with `override_host` over round robin, in front of these endpoints.
pub(crate) fn bootstrap(
    suite: &SuiteSpec,
    endpoints: &[SocketAddr],
    base: &Path,
) -> Result<String, String> {
    let mut filters = Vec::new();
    for spec in &suite.filters {
        filters.push(extension("filters.http.wasm.v3.Wasm", plugin(spec, base)?));
    }
    filters.extend(suite.native_filters.iter().cloned());
    filters.push(extension("filters.http.router.v3.Router", json!({})));
    let mut upstream = vec![extension(
        "filters.http.header_mutation.v3.HeaderMutation",
        json!({"mutations": {"request_mutations": [{"remove": STEERING_HEADER}]}}),
    )];
    for spec in &suite.upstream_filters {
        upstream.push(extension("filters.http.wasm.v3.Wasm", plugin(spec, base)?));
    }
    upstream.push(extension("filters.http.upstream_codec.v3.UpstreamCodec", json!({})));
    let mut route = json!({
        "name": "backend",
        "match": {"prefix": "/"},
        "route": {
            "cluster": "backend",
            "timeout": suite.timeout,
            "retry_policy": retry_policy(suite.retries),
        },
    });
    replace(&mut route["route"], &suite.route);
    let manager = extension(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "scenario",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": filters,
        }),
    );
    let mut listeners = vec![listener("scenario", 10_000, &[manager])];
    if !suite.network_filters.is_empty() {
        let mut filters = Vec::new();
        for spec in &suite.network_filters {
            filters.push(extension("filters.network.wasm.v3.Wasm", plugin(spec, base)?));
        }
        let proxy = json!({"stat_prefix": "tcp", "cluster": "backend"});
        filters.push(extension("filters.network.tcp_proxy.v3.TcpProxy", proxy));
        listeners.push(listener("tcp", 10_001, &filters));
    }
    let mut clusters = vec![cluster(endpoints, &upstream, suite.override_host)];
    if let Some(backend) = clusters.first_mut() {
        replace(backend, &suite.backend);
    }
    for (name, spec) in &suite.clusters {
        let mut cluster = json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": assignment(name, &spec.endpoints()),
        });
        if spec.http2() {
            let http = json!({"explicit_http_config": {"http2_protocol_options": {}}});
            cluster["typed_extension_protocol_options"] = protocol_options(http);
        }
        clusters.push(cluster);
    }
    let document = json!({"node": suite.node, "static_resources": {
        "listeners": listeners,
        "clusters": clusters,
    }});
    Ok(document.to_string())
}

/// Puts fields in the place of those that are there.
fn replace(object: &mut Value, fields: &Map<String, Value>) {
    let Some(object) = object.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
}

fn cluster(endpoints: &[SocketAddr], upstream_filters: &[Value], override_host: bool) -> Value {
    let policy = |name: &str, config: Value| json!({"policies": [{"typed_extension_config": extension(name, config)}]});
    let fallback = policy("load_balancing_policies.round_robin.v3.RoundRobin", json!({}));
    let balancing = if override_host {
        policy(
            "load_balancing_policies.override_host.v3.OverrideHost",
            json!({
                "override_host_sources": [{"header": STEERING_HEADER}],
                "fallback_policy": fallback,
            }),
        )
    } else {
        fallback
    };
    json!({
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_balancing_policy": balancing,
        "load_assignment": assignment("backend", endpoints),
        "typed_extension_protocol_options": protocol_options(json!({
            "explicit_http_config": {"http_protocol_options": {}},
            "http_filters": upstream_filters,
        })),
    })
}

fn protocol_options(mut config: Value) -> Value {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    config["@type"] = json!(format!("{TYPES}/{name}"));
    json!({name: config})
}

fn listener(name: &str, port: u16, filters: &[Value]) -> Value {
    json!({
        "name": name,
        "address": address(SocketAddr::from(([127, 0, 0, 1], port))),
        "filter_chains": [{"filters": filters}],
    })
}

fn assignment(cluster: &str, endpoints: &[SocketAddr]) -> Value {
    let members: Vec<_> = endpoints
        .iter()
        .map(|endpoint| json!({"endpoint": {"address": address(*endpoint)}}))
        .collect();
    json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": members}]})
}

fn retry_policy(retries: u32) -> Value {
    let predicate = json!({
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {
            "@type": format!("{TYPES}/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
        },
    });
    json!({
        "retry_on": "connect-failure,refused-stream,reset,gateway-error",
        "num_retries": retries,
        "retry_host_predicate": [predicate],
        "host_selection_retry_max_attempts": 5,
    })
}

/// A plugin's configuration as it gets it: a string as it is, a document as JSON.
pub(crate) fn configuration(document: &Value) -> String {
    match document {
        Value::String(raw) => raw.clone(),
        Value::Null => String::new(),
        document => document.to_string(),
    }
}

/// `{"config": PluginConfig}`, the same for every kind of plugin.
fn plugin(spec: &FilterSpec, base: &Path) -> Result<Value, String> {
    let file = find_module(&spec.module, base)?;
    let text = |text: &str| json!({"@type": format!("{TYPES}/google.protobuf.StringValue"), "value": text});
    let configuration = configuration(&spec.configuration);
    let mut config = json!({
        "name": spec.name.as_deref().unwrap_or(&spec.module),
        "vm_config": {
            "vm_id": spec.vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": file}},
        },
        "configuration": text(&configuration),
    });
    if let Some(policy) = spec.failure_policy {
        config["failure_policy"] = json!(policy.as_str());
    }
    if let Some(configuration) = &spec.vm_configuration {
        config["vm_config"]["configuration"] = text(configuration);
    }
    if spec.allow_on_headers_stop_iteration {
        config["allow_on_headers_stop_iteration"] = json!(true);
    }
    if !spec.environment.is_empty() {
        config["vm_config"]["environment_variables"] = json!({"key_values": spec.environment});
    }
    if !spec.denied_capabilities.is_empty() {
        let allowed = capability::all_but(&spec.denied_capabilities)?;
        let allowed: Map<_, _> =
            allowed.into_iter().map(|name| (name.to_owned(), json!({}))).collect();
        config["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
    }
    Ok(json!({"config": config}))
}

/// A module named with a path is looked up beside the scenario; a bare name is one of the suite's,
/// in `$WEIR_DIST` or in a `dist` folder above the scenario.
pub(crate) fn find_module(module: &str, base: &Path) -> Result<PathBuf, String> {
    if Path::new(module).extension().is_some() {
        let path = base.join(module);
        return if path.exists() { Ok(path) } else { Err(format!("no module {}", path.display())) };
    }
    let file = format!("{}.wasm", module.replace('-', "_"));
    let own = std::env::var_os("WEIR_DIST").map(PathBuf::from);
    let base = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    let above = base.ancestors().map(|folder| folder.join("dist"));
    let mut candidates = own.into_iter().chain(above).map(|folder| folder.join(&file));
    candidates
        .find(|path| path.exists())
        .ok_or_else(|| format!("no module {file} in $WEIR_DIST or a dist folder: run 'make wasm'"))
}

/// `{"name": "envoy...", "typed_config": {"@type": ..., ...}}`.
fn extension(kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("{TYPES}/envoy.extensions.{kind}"));
    let name = kind.split(".v3.").next().unwrap_or(kind);
    json!({"name": format!("envoy.{name}"), "typed_config": config})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
