//! The bootstrap most tests want: one listener, some HTTP filters, and clusters of one endpoint.
//!
//! It is Envoy's YAML without a key that a test does not need, so that what a test adds (`admin`,
//! `node`) can be put before it as text.

use std::net::SocketAddr;

/// Where filters' types begin.
const KINDS: &str = "type.googleapis.com/envoy.extensions.filters";

/// An entry of `http_filters`: the plugin `name` from `code`, which is a data source as Envoy
/// writes it (`filename: p.wasm`, `inline_bytes: ...`).
pub fn filter(name: &str, code: &str) -> String {
    format!(
        "{{name: {name}, typed_config: {{\"@type\": {KINDS}.http.wasm.v3.Wasm, config: {{name: {name}, \
         vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{{code}}}}}}}}}}}}}"
    )
}

/// A listener `main` on port 0 with these entries of `http_filters` before the router, and clusters
/// by name and endpoint. Every request goes to the cluster `backend`.
pub fn bootstrap<F: AsRef<str>>(filters: &[F], clusters: &[(&str, SocketAddr)]) -> String {
    let address =
        |ip: &str, port| format!("{{socket_address: {{address: {ip}, port_value: {port}}}}}");
    let filters: String =
        filters.iter().map(|filter| format!("\n          - {}", filter.as_ref())).collect();
    let cluster = |(name, endpoint): &(&str, SocketAddr)| {
        let endpoint = address(&endpoint.ip().to_string(), endpoint.port());
        format!(
            "\n  - {{name: {name}, load_assignment: {{cluster_name: {name}, \
             endpoints: [{{lb_endpoints: [{{endpoint: {{address: {endpoint}}}}}]}}]}}}}"
        )
    };
    let clusters: String = clusters.iter().map(cluster).collect();
    format!(
        r#"
static_resources:
  listeners:
  - name: main
    address: {any}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": {KINDS}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}]}}
          http_filters:{filters}
          - {{name: router, typed_config: {{"@type": {KINDS}.http.router.v3.Router}}}}
  clusters:{clusters}
"#,
        any = address("127.0.0.1", 0),
    )
}
