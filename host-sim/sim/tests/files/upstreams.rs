//! Scripted endpoints: every way to fail, as the plugin's own call and as the client see it.

use crate::Folder;
use crate::guest::CALL_HEADERS;

/// Calls the cluster `auth` for each request, says what came, and lets the request pass then.
fn caller() -> String {
    format!(
        r#"
  (global $stream (mut i32) (i32.const 0))
  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (local $status i32)
    (global.set $stream (local.get $id))
    (local.set $status (call $http_call {{auth}} {{{CALL_HEADERS}}} {{body}}
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
