//! Bootstraps for tests, as text: what a user would write.

use host_sim_bootstrap::Bootstrap;
use std::fmt::Write;
use std::net::SocketAddr;

/// One listener `main`, one cluster `backend`, an admin endpoint.
#[derive(Clone, Default)]
pub(crate) struct File {
    /// Endpoints of the cluster, in order.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Speak HTTP/2 to them.
    pub(crate) upstream_http2: bool,
    /// `UpstreamTlsContext`, as one flow mapping.
    pub(crate) upstream_tls: Option<String>,
    /// `DownstreamTlsContext`, as one flow mapping.
    pub(crate) downstream_tls: Option<String>,
    /// More fields of the route action, as flow-mapping text.
    pub(crate) route: String,
    /// HTTP filters before the router, as flow mappings.
    pub(crate) filters: Vec<String>,
    /// More fields of the cluster, a line each.
    pub(crate) cluster: Vec<String>,
    /// Network filters before the connection manager or the TCP proxy, as flow mappings.
    pub(crate) network: Vec<String>,
    /// A TCP proxy instead of the connection manager: its fields, as flow-mapping text.
    pub(crate) tcp: Option<String>,
    /// More fields of the connection manager, a line each.
    pub(crate) manager: Vec<String>,
}

const ANY: &str = "type.googleapis.com";

impl File {
    pub(crate) fn to(endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { endpoints: endpoints.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn parse(&self) -> Bootstrap {
        let text = self.text();
        Bootstrap::from_yaml(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "admin: {address: {socket_address: &any {address: 127.0.0.1, port_value: 0}}}\n",
        );
        text.push_str("static_resources:\n  listeners:\n  - name: main\n    address: {socket_address: *any}\n    filter_chains:\n    - filters:\n");
        for filter in &self.network {
            writeln!(text, "      - {filter}").unwrap();
        }
        match &self.tcp {
            Some(fields) => writeln!(text, "      - {{name: tcp, typed_config: {{\"@type\": {ANY}/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: main, {fields}}}}}").unwrap(),
            None => self.write_manager(&mut text),
        }
        if let Some(tls) = &self.downstream_tls {
            writeln!(text, "      transport_socket: {{name: tls, typed_config: {{\"@type\": {ANY}/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {tls}}}}}").unwrap();
        }
        self.write_cluster(&mut text);
        text
    }

    fn write_manager(&self, text: &mut String) {
        text.push_str("      - name: http\n        typed_config:\n");
        writeln!(text, "          \"@type\": {ANY}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager").unwrap();
        text.push_str("          stat_prefix: main\n");
        for line in &self.manager {
            writeln!(text, "          {line}").unwrap();
        }
        writeln!(text, "          route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: backend{}}}}}]}}]}}", self.route).unwrap();
        text.push_str("          http_filters:\n");
        for filter in &self.filters {
            writeln!(text, "          - {filter}").unwrap();
        }
        writeln!(text, "          - {{name: router, typed_config: {{\"@type\": {ANY}/envoy.extensions.filters.http.router.v3.Router}}}}").unwrap();
    }

    fn write_cluster(&self, text: &mut String) {
        text.push_str(
            "  clusters:\n  - name: backend\n    type: STATIC\n    connect_timeout: 5s\n",
        );
        for line in &self.cluster {
            writeln!(text, "    {line}").unwrap();
        }
        if self.upstream_http2 {
            writeln!(text, "    typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{\"@type\": {ANY}/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}").unwrap();
        }
        if let Some(tls) = &self.upstream_tls {
            writeln!(text, "    transport_socket: {{name: tls, typed_config: {{\"@type\": {ANY}/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, {tls}}}}}").unwrap();
        }
        text.push_str("    load_assignment:\n      cluster_name: backend\n      endpoints:\n      - lb_endpoints:\n");
        for endpoint in &self.endpoints {
            writeln!(text, "        - {{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}", endpoint.ip(), endpoint.port()).unwrap();
        }
    }
}
