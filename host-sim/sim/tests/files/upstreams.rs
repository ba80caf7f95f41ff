//! Scripted endpoints: every way to fail, as the plugin's own call and as the client see it.

use crate::{Folder, tells};

/// Calls the cluster `auth` for each request, says what came, and lets the request pass then.
fn caller() -> String {
    let headers =
        host_sim_guest::encoded(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    format!(
        r#"
  (global $stream (mut i32) (i32.const 0))
  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (local $status i32)
    (global.set $stream (local.get $id))
    (local.set $status (call $http_call {{auth}} {{{headers}}} {{body}}
      (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 4104)))
    (if (local.get $status)
      (then (call $log {{refused}}) (call $say (local.get $status)) (return (i32.const 0))))
    (i32.const 1))
  (func (export "proxy_on_http_call_response") (param i32 i32) (param $headers i32) (param i32 i32)
    (call $say (local.get $headers))
    (if (local.get $headers) (then
      (drop (call $header (i32.const 6) {{:status}} (i32.const 4096) (i32.const 4100)))
      (call $say_value)))
    (drop (call $effective (global.get $stream)))
    (drop (call $continue (i32.const 0))))
"#
    )
}

#[test]
fn a_plugin_s_call_fails_in_every_way_and_the_request_is_answered() {
    let caller = caller();
    let folder = Folder::with([("caller", caller.as_str())]);
    // What the endpoint does, and what the plugin says: number of headers, status.
    for (answer, said) in [
        ("{status: 204}", "[' 204$']"),
        ("{fail: refuse}", "[' 3$', ' 503$']"),
        ("{fail: connect_timeout}", "[' 3$', ' 50[34]$']"),
        ("{fail: reset}", "[' 3$', ' 503$']"),
        ("{fail: reset_stream}", "[' 3$', ' 503$']"),
        ("{fail: protocol_error}", "[' 3$', ' 50[23]$']"),
        ("{fail: hang}", "[' 3$', ' 504$']"),
        ("{latency: 5s}", "[' 3$', ' 504$']"),
        ("{fail: reset_mid_stream, body: cut}", "[' 0$']"),
        ("{body: [slow, {text: er, after: 100ms}]}", "[' 200$']"),
    ] {
        folder.holds(&format!(
            "
scenario: \"the call's endpoint does {answer}\"
suite:
  filters: [{{module: caller.wasm, name: caller}}]
  clusters: {{auth: [127.0.0.1:9100]}}
endpoints:
  127.0.0.1:9001: {{}}
  127.0.0.1:9100: {{answer: {answer}}}
steps:
- send: {{path: /with-call}}
  expect:
    statuses: {{200: 1}}
    log_order: {said}
    calls:
    - kind: http
      plugin: caller
      cluster: auth
      headers: {{':path': /check, ':authority': auth}}
      body: body
      answered: ok
      count: 1
    - {{kind: grpc, count: 0}}
    callback_order: [proxy_on_request_headers, proxy_on_http_call_response]
"
        ));
    }
}

#[test]
fn a_cluster_without_endpoints_refuses_the_call_at_once() {
    let caller = caller();
    Folder::with([("caller", caller.as_str())]).holds(
        "
scenario: no endpoints
suite:
  filters: [{module: caller.wasm}]
  clusters: {auth: {endpoints: [], http2: true}}
endpoints: {127.0.0.1:9001: {}}
steps:
- send: {}
  expect:
    statuses: {200: 1}
    log_order: [refused, ' 10$']
    calls: [{answered: internal_failure}]
    upstream: [{endpoint: 127.0.0.1:9001, count: 1}]
",
    );
}

#[test]
fn the_client_sees_the_endpoint_s_failures() {
    let folder = Folder::with([]);
    for (answer, reply) in [
        ("{fail: refuse}", "{status: 503, body: {contains: upstream connect error}}"),
        ("{fail: reset}", "{status: 503}"),
        ("{fail: hang}", "{status: 504, milliseconds: '>= 5000'}"),
        ("{fail: reset_mid_stream, body: half}", "{status: 200, body: half, reset: true}"),
        (
            "{fail: reset_mid_stream, body: [ha, {text: lf, after: 1s}]}",
            "{status: 200, body: half, reset: true, milliseconds: '>= 1000'}",
        ),
    ] {
        folder.holds(&format!(
            "
scenario: \"the endpoint does {answer}\"
suite: {{filters: []}}
endpoints: {{127.0.0.1:9001: {{answer: {answer}}}}}
steps: [{{send: {{}}, expect: {{reply: {reply}}}}}]
"
        ));
    }
}

#[test]
fn a_grpc_service_answers_in_frames_with_its_status() {
    Folder::with([]).holds(
        r#"
scenario: gRPC through the proxy
suite: {filters: []}
endpoints:
  127.0.0.1:9001:
    answer: {grpc: {messages: [hi, {hex: '00'}], metadata: {x-m: '1'}, trailing_metadata: {x-t: '2'}}}
    paths:
      /s/Denied: {grpc: {status: 7, message: no way, trailers_only: true}}
steps:
- send: {method: POST, path: /s/Fine, headers: {content-type: application/grpc}, body: {hex: '0000000000'}}
  expect:
    reply:
      status: 200
      headers: {x-m: '1', content-type: application/grpc}
      body: {hex: '00 00000002 6869 00 00000001 00'}
      trailers: {grpc-status: '0', x-t: '2'}
- send: {method: POST, path: /s/Denied, headers: {content-type: application/grpc}}
  expect: {reply: {headers: {grpc-status: '7', grpc-message: no way}}}
"#,
    );
}

/// Two routes, to clusters whose endpoints are names, and the client's address in the access log.
const NAMED: &str = r#"
static_resources:
  listeners:
    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}
    filter_chains:
      filters:
        name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          access_log:
            name: out
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                text_format_source: {inline_string: "from %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n"}
          route_config:
            virtual_hosts:
              name: all
              domains: "*"
              routes:
              - {match: {path: /shop}, route: {cluster: shop}}
              - {match: {prefix: /}, route: {cluster: own}}
          http_filters:
            name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: shop
    type: STRICT_DNS
    load_assignment: {cluster_name: shop, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {address: shop.test, port_value: 80}}}}}}
  - name: own
    type: LOGICAL_DNS
    load_assignment: {cluster_name: own, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {address: localhost, port_value: 9001}}}}}}
"#;

#[test]
fn the_scenario_says_what_dns_says() {
    let folder = Folder::with([]);
    folder.write("envoy.yaml", NAMED);
    let scenario = r"
scenario: a name with two addresses, and the one name that needs none
bootstrap: envoy.yaml
names: {shop.test: [10.1.0.1, '2001:db8::1']}
steps:
- send: {path: /shop, count: 4}
  expect: {statuses: {200: 4}, received: {'10.1.0.1:80': 2, '[2001:db8::1]:80': 2}}
- send: {from: '2001:db8::7'}
  expect:
    received: {127.0.0.1:9001: 1}
    access_log: ['^from 2001:db8::7$']
";
    folder.holds(scenario);
    folder.holds(
        r"
scenario: a name that DNS does not know
bootstrap: envoy.yaml
names: {shop.test: []}
steps: [{send: {path: /shop}, expect: {reply: {status: 503, body: no healthy upstream}}}]
",
    );
    for (names, told) in [
        ("", "cluster shop: 'shop.test' has no address; write 'names: {shop.test: [127.0.0.1]}'"),
        ("names: {shop.test: [], ship.test: []}", "no cluster has an endpoint called 'ship.test'"),
    ] {
        let with = format!(
            "scenario: x\nbootstrap: envoy.yaml\n{names}\nsteps: [{{send: {{}}, expect: {{traps: 0}}}}]\n"
        );
        let report = folder.run("scenario.yaml", &with);
        assert_eq!(report.exit_code(), 2, "{names}");
        tells(&report.render(host_sim::Format::Text), &[told]);
    }
}
