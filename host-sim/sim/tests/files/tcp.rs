//! Connections that carry bytes.

use crate::{Folder, tells};

const NETWORK: &str = r#"
  (func (export "proxy_on_new_connection") (param i32) (result i32)
    (call $log {new connection}) (i32.const 0))
  (func (export "proxy_on_downstream_data") (param i32) (param $len i32) (param i32) (result i32)
    (call $log {downstream}) (i32.const 0))
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
    (call $log {upstream}) (i32.const 0))
"#;

#[test]
fn bytes_go_through_a_network_plugin_and_back() {
    let folder = Folder::with([("network", NETWORK)]);
    let scenario = r#"
scenario: an endpoint that greets, one connection that ends and one that breaks
suite: {filters: [], network_filters: [{module: network.wasm, name: network}]}
endpoints: {127.0.0.1:9001: {}}
tcp_endpoints:
  127.0.0.1:9001: {greeting: 'hello ', reaction: answer, data: {text: world}, latency: 2ms}
steps:
- tcp:
  - {open: first, from: 192.0.2.1}
  - {send: first, data: ping, after: 10ms}
  - {half_close: first, after: 10ms}
  advance: 1ms
- advance: 20ms
  expect:
    tcp: {first: {received: hello world, ended: true}}
    tcp_received: {127.0.0.1:9001: [{bytes: ping, ended: true}]}
    log_order: [new connection, upstream, downstream]
- tcp_endpoints: {127.0.0.1:9001: {reaction: refuse}}
  tcp: [{open: second}, {send: second, data: lost}]
- advance: 1s
  expect: {tcp: {second: {received: '', closed: true}}}
- tcp_endpoints: {127.0.0.1:9001: {}}
  tcp: [{open: third}, {abort: third, after: 5ms}]
- advance: 1s
  expect: {tcp: {third: {closed: true}}, callbacks: {proxy_on_new_connection: 0}}
"#;
    folder.holds(scenario);
    let text = folder.fails(&scenario.replace("hello world, ended: true", "bye, ended: false"));
    tells(
        &text,
        &[
            "connection first: received: expected \"bye\", got \"hello world\"",
            "connection first: ended: expected false, got true",
        ],
    );
}

/// Says how long its root's configuration is, when a connection comes and when it sends.
const CONFIGURED: &str = r#"
  (func $at (param i32) (result i32)
    (i32.add (i32.const 1024) (i32.mul (local.get 0) (i32.const 4))))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32)
    (i32.store (call $at (local.get $context)) (i32.load (call $at (local.get $parent)))))
  (func (export "proxy_on_configure") (param $root i32) (param $len i32) (result i32)
    (i32.store (call $at (local.get $root)) (local.get $len))
    (i32.lt_u (local.get $len) (i32.const 10)))
  (func (export "proxy_on_new_connection") (param i32) (result i32)
    (call $log {new}) (call $say (i32.load (call $at (local.get 0)))) (i32.const 0))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (call $log {data}) (call $say (i32.load (call $at (local.get 0)))) (i32.const 0))
"#;

#[test]
fn a_network_plugin_gets_another_configuration_and_connections_keep_theirs() {
    Folder::with([("network", CONFIGURED)]).holds(
        r"
scenario: an update of a network plugin by its name
suite: {filters: [], network_filters: [{module: network.wasm, name: network, configuration: {}}]}
endpoints: {127.0.0.1:9001: {}}
tcp_endpoints: {127.0.0.1:9001: {}}
steps:
- tcp: [{open: old}]
  expect: {log_order: ['new', ': 2$']}
- update: {network: {a: 1}}
  tcp: [{send: old, data: x}, {open: new}, {send: new, data: y}]
  advance: 10ms
- advance: 10ms
  expect: {log_order: ['data', ': 2$', 'new', ': 7$', 'data', ': 7$']}
- update: {network: {too: long}}
  expect: {update_rejected: network}
- tcp: [{open: third}]
  advance: 10ms
- expect: {log_order: ['new', ': 7$']}
",
    );
}
