//! What a plugin knows of its connection, and leaves for whoever comes after it.

use super::{GO_ON, PAUSE, Tcp, client, plugin, setup, start};
use crate::rig::{Plugin, Setup};
use host_sim_engine::Output;

/// Logs the named properties, each as its status or its bytes.
fn properties(names: &[&str]) -> String {
    let mut body = String::new();
    for name in names {
        let path = name.replace('.', "\0");
        body += &format!(
            r#"(if (i32.eqz (call $property {{{path}}} (i32.const 4096) (i32.const 4100)))
              (then (call $say_value)) (else (call $log {{-}})))"#
        );
    }
    body
}

#[test]
fn properties_are_the_connections_own() {
    let names = [
        "source.address",
        "destination.address",
        "upstream.address",
        "upstream.local_address",
        "xds.cluster_name",
        "connection.requested_server_name",
        "connection.tls_version",
        "upstream.transport_failure_reason",
        "request.path",
        "request.protocol",
        "response.code",
        "xds.route_name",
        "plugin_name",
        "metadata",
    ];
    let body = format!("{} (i32.const 0)", properties(&names));
    let mut rig = start(&[plugin("a", &body, &body, GO_ON)]);
    let id = rig.open_linked();
    let new = rig.trace();
    assert_eq!(
        new[2..],
        [
            "a: 10.0.0.1:4000",
            "a: 127.0.0.1:8080",
            "a: -",
            "a: -",
            "a: -",
            "a: ",
            "a: -",
            "a: ",
            "a: -",
            "a: -",
            "a: -",
            "a: -",
            "a: a",
            "a: ",
        ]
    );
    rig.send(id, "ping");
    let down = rig.trace();
    assert_eq!(
        down[1..7],
        [
            "a: 10.0.0.1:4000",
            "a: 127.0.0.1:8080",
            "a: 127.0.0.1:9001",
            "a: 127.0.0.1:5000",
            "a: backend",
            "a: ",
        ]
    );
}

#[test]
fn a_property_that_a_plugin_sets_is_seen_by_the_next_one() {
    let set = r#"(drop (call $set_property {foo} {bar})) (i32.const 0)"#;
    let get = format!("{} (i32.const 0)", properties(&["foo"]));
    let mut rig = start(&[plugin("a", set, GO_ON, GO_ON), plugin("b", &get, GO_ON, GO_ON)]);
    rig.open();
    assert_eq!(rig.trace()[4], "b: bar");
}

#[test]
fn a_plugin_names_the_cluster_in_filter_state() {
    // SetEnvoyFilterStateArguments: path = 1, value = 2.
    let args = "\u{a}\u{17}envoy.tcp_proxy.cluster\u{12}\u{7}backend";
    let set = format!(
        r#"(call $say (call $foreign {{set_envoy_filter_state}} {{{args}}}
             (i32.const 4096) (i32.const 4100))) (i32.const 0)"#
    );
    let mut rig = setup(&[plugin("a", &set, GO_ON, GO_ON)], "cluster: empty").start();
    rig.open();
    assert_eq!(rig.seen().events, ["connect"]);
}

#[test]
fn a_callback_that_is_not_allowed_is_not_called_and_a_hostcall_answers_10() {
    let resume = "(call $say (call $continue (i32.const 2))) (i32.const 0)";
    let allowed = "capability_restriction_config: {allowed_capabilities: {malloc: {}, \
                   proxy_log: {}, proxy_on_context_create: {}, proxy_on_downstream_data: {}, \
                   proxy_on_delete: {}}}";
    let mut rig = start(&[plugin("a", PAUSE, resume, PAUSE).more(allowed)]);
    let id = rig.open_linked();
    rig.send(id, "x");
    rig.receive(id, "y");
    let seen = rig.seen();
    assert_eq!((seen.client.as_str(), seen.upstream.as_str()), ("y", "x"));
    rig.worker.connection_reset(id);
    let trace = rig.trace();
    assert!(trace[2].ends_with("capability: proxy_continue_stream 10"), "{trace:?}");
    assert_eq!([&trace[0], &trace[1], &trace[3]], ["a: create", "a: down 1 0", "a: delete"]);
    assert_eq!(trace.len(), 5, "the access log, and nothing else: {trace:?}");
}

#[test]
fn http_behind_network_filters_sees_what_they_let_through_and_their_filter_state() {
    let set = r#"(drop (call $set_property {foo} {bar})) (i32.const 0)"#;
    let network = plugin("a", set, GO_ON, GO_ON);
    let get = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             {} (i32.const 0))"#,
        properties(&["foo"])
    );
    let http = Plugin::new("h", &get);
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let chain = format!(
        r#"{}, {{name: h, typed_config: {{"@type": {manager}, stat_prefix: x,
        access_log: [{{name: l, typed_config: {{"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}}}],
        route_config: {{virtual_hosts: [{{name: a, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}]}},
        http_filters: [{}, {{name: r, typed_config: {{"@type": {router}}}}}]}}}}"#,
        network.filter().replace("filters.http.wasm", "filters.network.wasm"),
        http.filter(),
    );
    let mut rig = Setup { chain: Some(chain), ..Setup::default() }.start();
    rig.log();
    let id = rig.open();
    assert!(matches!(rig.worker.poll_output(), Some(Output::ServeHttp { .. })));
    assert!(rig.worker.reads_downstream(id), "HTTP needs no upstream to be read");
    rig.send(id, "GET");
    assert_eq!(rig.seen().upstream, "GET");
    assert_eq!(rig.trace(), ["a: create", "a: new", "a: down 3 0"]);
    let exchange = rig.worker.start_exchange(0, client());
    rig.worker.request_headers(exchange, crate::rig::request("GET", "/"), true);
    assert_eq!(rig.trace(), ["h: bar"]);
    // A client that closes its half has closed all of it, and no filter is told of an end.
    rig.attempt();
    rig.end(id);
    assert_eq!(rig.seen().events, ["upstream close", "close"]);
    let ending = ["a: closed 2", "a: done", "a: log", "a: delete"];
    assert_eq!(rig.trace(), ending, "no access log: that is the request's");
}
