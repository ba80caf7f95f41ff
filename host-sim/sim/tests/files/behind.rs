//! Requests on a listener with network filters before its connection manager.

use crate::Folder;

/// A network filter that says how long each read and write is. It turns what begins with `P` into
/// something else, and closes what begins with `D`.
const NETWORK: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_new_connection") (param i32) (result i32)
    (call $log {new connection}) (i32.const 0))
  (func $first (param i32) (result i32)
    (drop (call $buffer (local.get 0) (i32.const 0) (i32.const 8)
      (i32.const 4096) (i32.const 4100)))
    (i32.load8_u (i32.load (i32.const 4096))))
  (func (export "proxy_on_downstream_data") (param i32) (param $len i32) (param i32) (result i32)
    (if (local.get $len) (then
      (call $log {read}) (call $say (local.get $len))
      (if (i32.eq (call $first (i32.const 2)) (i32.const 80))
        (then (drop (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 5) {GET }))))
      (if (i32.eq (call $first (i32.const 2)) (i32.const 68))
        (then (drop (call $close (i32.const 2)))))))
    (i32.const 0))
  (func (export "proxy_on_upstream_data") (param i32) (param $len i32) (param i32) (result i32)
    (if (local.get $len) (then (call $log {written})))
    (i32.const 0))
  (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $log {closed}))
"#;

const FILE: &str = r#"
static_resources:
  listeners:
  - name: edge
    address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
    filter_chains:
    - filters:
      - name: network
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
          config: {name: network, root_id: network, vm_config: {runtime: envoy.wasm.runtime.v8, code: {local: {filename: network.wasm}}}}
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: shop}}]}]}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: shop
    connect_timeout: 1s
    load_assignment: {cluster_name: shop, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9001}}}}]}]}
"#;

#[test]
fn network_filters_see_requests_as_bytes() {
    let folder = Folder::with([("network", NETWORK)]);
    folder.write("envoy.yaml", FILE);
    folder.holds(
        r"
scenario: requests behind a network filter
bootstrap: envoy.yaml
endpoints:
  127.0.0.1:9001: {answer: {body: [hello, {text: ' world', after: 20ms}], trailers: {x-sum: ok}}}
steps:
- send: {path: /first, headers: {x-a: b}}
  expect:
    reply: {status: 200, body: hello world, trailers: {x-sum: ok}, complete: true}
    upstream: [{method: GET, path: /first, headers: {x-a: b, ':authority': weir.test}}]
    log_order: [new connection, read, ': 48$', written, written, closed]
    callbacks: {proxy_on_downstream_data: '>= 1'}
- name: in chunks
  send: {method: OPTIONS, body: [one, {text: two, after: 5ms}], trailers: {x-t: v}}
  expect:
    reply: {status: 200, body: hello world}
    upstream: [{method: OPTIONS, body: onetwo, trailers: {x-t: v}}]
    log_order: [': 67$', ': 8$', ': 8$', ': 13$', written]
- name: with a length
  send: {method: OPTIONS, headers: {content-length: '3'}, body: abc}
  expect: {upstream: [{body: abc, no_headers: [transfer-encoding]}], log_order: [read, read, ': 3$']}
- name: the filter changes the method
  send: {method: POST, path: /x}
  expect: {upstream: [{method: GET, path: /x}]}
- name: the filter closes
  send: {method: DELETE}
  expect: {reply: {status: 0, reset: true}, upstream: [{count: 0}]}
- name: no request at all
  send: {method: 'a b', path: c}
  expect: {statuses: {400: 1}}
- name: a client that leaves
  send: {abort_after: 1us}
  expect: {unfinished: 0, log_order: [new connection, closed]}
",
    );
}
