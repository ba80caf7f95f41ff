//! A proxy with the suite in it, as an Envoy bootstrap.

use host_sim_rig::certificates::Certificates;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Extension points and their types, as `typed_config` names them.
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";
const STEERING_HEADER: &str = "x-gateway-destination-endpoint";

/// The labels that the modules use.
const LABELS: [&str; 16] = [
    "plugin", "module", "version", "hash", "cluster", "endpoint", "policy", "scope", "route", "to",
    "outcome", "reason", "kind", "mode", "cause", "key",
];

/// Path of a built module, such as `module("token_bucket")`.
///
/// # Panics
///
/// If it was not built: `make wasm` does that, and `make test` calls it.
pub fn module(name: &str) -> PathBuf {
    let dist = std::env::var_os("WEIR_DIST").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dist")),
        PathBuf::from,
    );
    let path = dist.join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run 'make wasm'", path.display());
    path
}

/// Describes a listener, its filters, and one cluster `backend` behind it.
#[derive(Clone, Debug)]
pub struct Suite {
    endpoints: Vec<SocketAddr>,
    filters: Vec<Value>,
    native_filters: Vec<Value>,
    backend: Vec<(String, Value)>,
    others: Vec<Value>,
    node: Value,
    upstream_filters: Vec<Value>,
    upstream_http2: bool,
    services: Vec<(String, SocketAddr)>,
    route: Value,
    tls: Option<Certificates>,
    access_log: Option<PathBuf>,
    reloads: bool,
}

impl Suite {
    /// A plaintext listener without filters, in front of these endpoints.
    pub fn new(endpoints: &[SocketAddr]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            filters: Vec::new(),
            native_filters: Vec::new(),
            backend: Vec::new(),
            others: Vec::new(),
            node: json!({}),
            upstream_filters: Vec::new(),
            upstream_http2: false,
            services: Vec::new(),
            route: route("cluster", "backend"),
            tls: None,
            access_log: None,
            reloads: false,
        }
    }

    /// Adds a module to the chain, with this configuration. All share the `vm_id` "weir".
    pub fn filter(self, name: &str, configuration: Value) -> Self {
        self.raw_filter(name, &configuration.to_string(), "weir")
    }

    /// Adds a module that shares nothing with the others.
    pub fn private_filter(self, name: &str, configuration: Value) -> Self {
        let vm_id = format!("private-{name}");
        self.raw_filter(name, &configuration.to_string(), &vm_id)
    }

    /// Adds a module with configuration bytes as they are.
    pub fn raw_filter(mut self, name: &str, configuration: &str, vm_id: &str) -> Self {
        self.filters.push(wasm(name, name, configuration, vm_id, None));
        self
    }

    /// Adds a module that is not of the suite, with a VM of its own.
    pub fn foreign_filter(mut self, file: &Path, name: &str, configuration: &str) -> Self {
        self.filters.push(filter(name, file, configuration, name, None));
        self
    }

    /// Puts health-signal into the upstream chain, where it sees every attempt.
    pub fn upstream_health_signal(self) -> Self {
        self.upstream_health_signal_of("weir")
    }

    /// The same with a VM that shares nothing with the others.
    pub fn private_upstream_health_signal(self) -> Self {
        self.upstream_health_signal_of("private-health-signal-upstream")
    }

    fn upstream_health_signal_of(mut self, vm_id: &str) -> Self {
        let configuration = json!({
            "name": "health_signal_upstream",
            "position": "upstream",
            "clusters": [{"name": "backend"}],
        });
        self.upstream_filters.push(wasm(
            "health-signal-upstream",
            "health-signal",
            &configuration.to_string(),
            vm_id,
            Some("upstream"),
        ));
        self
    }

    /// Has modules that die come back at once (`FAIL_RELOAD`), and each killed by every connection to a
    /// listener `kill-NAME`, of the names that [`killers`](Self::killers) gives.
    ///
    /// No request can make a module of the suite trap. But a VM is shared by all plugins of one `vm_id`
    /// and one code, and an HTTP plugin that is configured as a network filter too is asked for a
    /// context that it cannot give: that kills the worker's VM, in the middle of whatever it does.
    pub fn reloads(mut self) -> Self {
        self.reloads = true;
        self
    }

    /// The listeners that kill.
    pub fn killers(&self) -> Vec<String> {
        self.modules().map(|module| format!("kill-{}", name(module))).collect()
    }

    fn modules(&self) -> impl Iterator<Item = &Value> {
        let all = self.filters.iter().chain(&self.upstream_filters);
        all.filter(|_| self.reloads)
    }

    /// Speaks HTTP/2 to the endpoints.
    pub fn upstream_http2(mut self) -> Self {
        self.upstream_http2 = true;
        self
    }

    /// Adds a cluster of one gRPC service, for calls of the modules.
    pub fn service(mut self, cluster: &str, address: SocketAddr) -> Self {
        self.services.push((cluster.to_owned(), address));
        self
    }

    /// Retries twice, never at the same endpoint.
    pub fn retries(mut self) -> Self {
        self.route["retry_policy"] = json!({
            "retry_on": "connect-failure,refused-stream,reset,gateway-error",
            "num_retries": 2,
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }],
            "host_selection_retry_max_attempts": 5,
        });
        self
    }

    /// Sends requests to the cluster that this header names.
    pub fn cluster_header(mut self, header: &str) -> Self {
        self.route = route("cluster_header", header);
        self
    }

    /// Sets a field of the route action.
    pub fn route(mut self, field: &str, value: Value) -> Self {
        self.route[field] = value;
        self
    }

    /// Adds a filter of Envoy's own, between the modules and the router.
    pub fn native_filter(mut self, filter: Value) -> Self {
        self.native_filters.push(filter);
        self
    }

    /// Keeps sessions in the steering header: what a module writes there is followed.
    pub fn stateful_session(self) -> Self {
        self.native_filter(json!({
            "name": "envoy.filters.http.stateful_session",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
                "session_state": {
                    "name": "envoy.http.stateful_session.header",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
                        "name": STEERING_HEADER,
                    },
                },
            },
        }))
        .round_robin()
    }

    /// Takes `override_host` from the cluster `backend`.
    pub fn round_robin(self) -> Self {
        self.backend("load_balancing_policy", Value::Null)
            .backend("lb_policy", json!("ROUND_ROBIN"))
    }

    /// Connects to whatever address the filter state names.
    pub fn original_dst(self) -> Self {
        self.backend("load_balancing_policy", Value::Null)
            .backend("load_assignment", Value::Null)
            .backend("lb_policy", json!("CLUSTER_PROVIDED"))
            .backend("type", json!("ORIGINAL_DST"))
    }

    /// Sets a field of the cluster `backend`; `null` takes it away.
    pub fn backend(mut self, field: &str, value: Value) -> Self {
        self.backend.push((field.to_owned(), value));
        self
    }

    /// Puts the proxy into this zone, and each endpoint of `backend` into one.
    pub fn zones(mut self, own: &str, zones: &[&str]) -> Self {
        self.node = json!({"id": "weir", "cluster": "weir", "locality": {"zone": own}});
        let groups: Vec<_> = (self.endpoints.iter().zip(zones))
            .map(|(at, zone)| {
                let endpoint = json!({"endpoint": {"address": address(*at)}});
                json!({"locality": {"zone": zone}, "lb_endpoints": [endpoint]})
            })
            .collect();
        self.backend("load_assignment", json!({"cluster_name": "backend", "endpoints": groups}))
    }

    /// Adds a cluster like `backend`, of these endpoints.
    pub fn cluster_of(mut self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.others.push(cluster(name, endpoints, &[], false));
        self
    }

    /// Terminates TLS with this certificate; offers HTTP/2.
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        self.tls = Some(certificates.clone());
        self
    }

    /// Writes an access log with the filters' state.
    pub fn access_log(mut self, path: PathBuf) -> Self {
        self.access_log = Some(path);
        self
    }

    /// The bootstrap. JSON is YAML.
    pub fn bootstrap(&self) -> String {
        let tags: Vec<_> = LABELS
            .iter()
            .map(|label| json!({"tag_name": label, "regex": format!(r"({label}=\.=(.*?);\.;)")}))
            .collect();
        let mut clusters = vec![self.cluster()];
        clusters.extend(self.others.iter().cloned());
        clusters.extend(self.services.iter().map(|(name, address)| service(name, *address)));
        let mut listeners = vec![self.listener()];
        listeners.extend(self.modules().map(killer));
        let document = json!({
            "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
            "node": self.node,
            "stats_config": {"stats_tags": tags},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        });
        format!("{document:#}")
    }

    fn listener(&self) -> Value {
        let mut filters = self.as_they_fail(&self.filters);
        filters.extend(self.native_filters.iter().cloned());
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }));
        let mut manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "weir",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"name": "backend", "match": {"prefix": "/"}, "route": self.route},
            ]}]},
            "http_filters": filters,
        });
        if let Some(path) = &self.access_log {
            manager["access_log"] = json!([{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": path,
                    "log_format": {"text_format_source": {"inline_string":
                        "%RESPONSE_CODE%|%FILTER_STATE(wasm.weir.token_bucket:PLAIN)%|%FILTER_STATE(wasm.weir.metric_router:PLAIN)%|%FILTER_STATE(wasm.weir.circuit_breaker:PLAIN)%|%FILTER_STATE(wasm.weir.health_signal:PLAIN)%\n"}},
                },
            }]);
        }
        let mut chain = json!({"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]});
        if let Some(certificates) = &self.tls {
            chain["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["h2", "http/1.1"],
                        "tls_certificates": [{
                            "certificate_chain": {"filename": certificates.chain},
                            "private_key": {"filename": certificates.key},
                        }],
                    },
                },
            });
        }
        json!({
            "name": "weir",
            "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
            "filter_chains": [chain],
        })
    }

    /// The modules with what the host does when they die.
    fn as_they_fail(&self, modules: &[Value]) -> Vec<Value> {
        let mut modules = modules.to_vec();
        for module in modules.iter_mut().filter(|_| self.reloads) {
            reload(&mut module["typed_config"]["config"]);
        }
        modules
    }

    fn cluster(&self) -> Value {
        let upstream = self.as_they_fail(&self.upstream_filters);
        let mut cluster = cluster("backend", &self.endpoints, &upstream, self.upstream_http2);
        for (field, value) in &self.backend {
            cluster[field] = value.clone();
        }
        if let Some(fields) = cluster.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        cluster
    }
}

/// A route action, with longer for an answer than a client of a test waits.
fn route(to: &str, name: &str) -> Value {
    json!({to: name, "timeout": "90s"})
}

fn reload(config: &mut Value) {
    config["failure_policy"] = json!("FAIL_RELOAD");
    config["reload_config"] = json!({"backoff": {"base_interval": "0.01s"}});
}

/// The name of a filter.
fn name(filter: &Value) -> &str {
    filter["name"].as_str().unwrap_or_default()
}

/// A listener, each connection of which kills the VM of a module.
fn killer(module: &Value) -> Value {
    let network = "type.googleapis.com/envoy.extensions.filters.network";
    let mut config = module["typed_config"]["config"].clone();
    // Of the same VM, another plugin: it does nothing else.
    let text = config["configuration"]["value"].as_str().unwrap_or_default();
    let mut own: Value = serde_json::from_str(text).unwrap_or_default();
    own["mode"] = json!("off");
    own["name"] = json!("killer");
    config["configuration"]["value"] = json!(own.to_string());
    config["name"] = json!(format!("killer-{}", name(module)));
    reload(&mut config);
    json!({
        "name": format!("kill-{}", name(module)),
        "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [{"filters": [
            {"name": "killer", "typed_config": {
                "@type": format!("{network}.wasm.v3.Wasm"),
                "config": config,
            }},
            {"name": "tcp", "typed_config": {
                "@type": format!("{network}.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "kill",
                "cluster": "backend",
            }},
        ]}],
    })
}

fn cluster(name: &str, endpoints: &[SocketAddr], upstream_filters: &[Value], http2: bool) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|endpoint| json!({"endpoint": {"address": address(*endpoint)}}))
        .collect();
    let mut upstream = vec![json!({
        "name": "strip-steering-header",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [{"remove": STEERING_HEADER}]},
        },
    })];
    let version = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
    upstream.extend(upstream_filters.iter().cloned());
    upstream.push(json!({
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
        }));
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_balancing_policy": {"policies": [{"typed_extension_config": {
            "name": "envoy.load_balancing_policies.override_host",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
                "override_host_sources": [{"header": STEERING_HEADER}],
                "fallback_policy": {"policies": [{"typed_extension_config": {
                    "name": "envoy.load_balancing_policies.round_robin",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"},
                }}]},
            },
        }}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {version: {}},
                "http_filters": upstream,
            },
        },
    })
}

fn service(name: &str, at: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(at)}}]},
        ]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
    })
}

fn wasm(
    name: &str,
    plugin: &str,
    configuration: &str,
    vm_id: &str,
    vm_configuration: Option<&str>,
) -> Value {
    let file = module(&plugin.replace('-', "_"));
    filter(name, &file, configuration, vm_id, vm_configuration)
}

fn filter(
    name: &str,
    file: &Path,
    configuration: &str,
    vm_id: &str,
    vm_configuration: Option<&str>,
) -> Value {
    let mut config = json!({
        "name": name,
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": file}},
        },
        "configuration": {"@type": STRING, "value": configuration},
    });
    if let Some(text) = vm_configuration {
        config["vm_config"]["configuration"] = json!({"@type": STRING, "value": text});
    }
    json!({"name": name, "typed_config": {"@type": WASM, "config": config}})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    }})
}
