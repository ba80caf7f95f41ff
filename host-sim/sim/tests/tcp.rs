//! Connections that carry bytes, in the simulator: clients, scripted endpoints, a plugin between.

use base64::Engine as _;
use host_sim::{Connect, Host, HostOptions, Request, TcpBehaviour, TcpReaction, TcpReceived};
use host_sim_bootstrap::Bootstrap;
use std::net::SocketAddr;
use std::time::Duration;

/// Puts `<` before what a client sends and `>` before what it gets.
const MARKS: &str = r#"(module
  (import "env" "proxy_set_buffer_bytes"
    (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "<>")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (if (local.get 1) (then (drop (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 1)))))
    (i32.const 0))
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
    (if (local.get 1) (then (drop (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0)
      (i32.const 1) (i32.const 1)))))
    (i32.const 0)))"#;

const ENDPOINT: ([u8; 4], u16) = ([127, 0, 0, 1], 9001);

fn endpoint() -> SocketAddr {
    ENDPOINT.into()
}

fn bootstrap(http: bool) -> String {
    let code = base64::engine::general_purpose::STANDARD.encode(wat::parse_str(MARKS).unwrap());
    let network = "type.googleapis.com/envoy.extensions.filters.network";
    let end = if http {
        format!(
            r#"{{name: h, typed_config: {{"@type": {network}.http_connection_manager.v3.HttpConnectionManager, stat_prefix: x, route_config: {{virtual_hosts: []}}, http_filters: [{{name: r, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}"#
        )
    } else {
        format!(
            r#"{{name: tcp, typed_config: {{"@type": {network}.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: backend}}}}"#
        )
    };
    format!(
        r#"
static_resources:
  listeners:
  - name: bytes
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - {{name: w, typed_config: {{"@type": {network}.wasm.v3.Wasm, config: {{name: marks, vm_config: {{code: {{local: {{inline_bytes: "{code}"}}}}}}}}}}}}
      - {end}
  clusters:
  - name: backend
    connect_timeout: 1s
    load_assignment:
      cluster_name: backend
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 9001}}}}}}}}]}}]
"#
    )
}

fn start() -> Host {
    let bootstrap = Bootstrap::from_yaml(&bootstrap(false)).unwrap_or_else(|p| panic!("{p}"));
    Host::start(bootstrap, HostOptions { workers: 2, ..HostOptions::default() }).unwrap()
}

fn reacting(reaction: TcpReaction) -> TcpBehaviour {
    TcpBehaviour { reaction, ..TcpBehaviour::default() }
}

const A_WHILE: Duration = Duration::from_millis(10);

#[test]
fn an_echo_takes_its_time_and_each_half_closes_for_itself() {
    let mut host = start();
    let id = host.connect(&Connect::to("bytes").on_worker(1)).unwrap();
    host.send_bytes(id, "hi");
    assert!(host.received_bytes(endpoint()).is_empty(), "a connection takes a millisecond");
    host.advance(Duration::from_millis(1));
    assert_eq!(host.received_bytes(endpoint())[0].bytes, b"<hi");
    assert_eq!(host.connection(id).unwrap().received, b"");
    host.advance(Duration::from_millis(1));
    assert_eq!(host.connection(id).unwrap().received, b"><hi");
    host.half_close(id);
    assert!(!host.connection(id).unwrap().ended);
    host.advance(A_WHILE);
    let seen = host.connection(id).unwrap();
    assert!(seen.ended && seen.closed && !seen.reset, "{seen:?}");
    let received = &host.received_bytes(endpoint())[0];
    let at = Duration::from_millis(1);
    let expected = TcpReceived { at, bytes: b"<hi".to_vec(), ended: true, reset: false };
    assert_eq!(*received, expected);
}

#[test]
fn endpoints_do_what_they_are_told() {
    // The reaction to "x", what the client gets, whether it is closed, whether with a reset.
    for (reaction, got, closed, reset) in [
        (TcpReaction::Echo, "><x", false, false),
        (TcpReaction::Answer(b"yes".to_vec()), ">yes", false, false),
        (TcpReaction::AnswerAndClose(b"yes".to_vec()), ">yes", false, false),
        (TcpReaction::Swallow, "", false, false),
        (TcpReaction::Close, "", false, false),
        (TcpReaction::Reset, "", true, true),
        (TcpReaction::Refuse, "", true, false),
    ] {
        let mut host = start();
        host.behave_tcp(endpoint(), reacting(reaction.clone()));
        let id = host.connect(&Connect::new()).unwrap();
        host.send_bytes(id, "x");
        host.advance(A_WHILE);
        let seen = host.connection(id).unwrap();
        assert_eq!(seen.received, got.as_bytes(), "{reaction:?}");
        assert_eq!((seen.closed, seen.reset), (closed, reset), "{reaction:?}");
        let ends = matches!(
            reaction,
            TcpReaction::AnswerAndClose(_) | TcpReaction::Close | TcpReaction::Refuse
        );
        assert_eq!(seen.ended, ends, "{reaction:?}");
    }
}

#[test]
fn an_endpoint_that_greets_is_heard_first_and_one_that_is_not_there_in_time_is_given_up() {
    let mut host = start();
    let greeting = b"220 ready".to_vec();
    host.behave_tcp(endpoint(), TcpBehaviour { greeting, ..reacting(TcpReaction::Swallow) });
    let id = host.connect(&Connect::new()).unwrap();
    host.advance(A_WHILE);
    assert_eq!(host.connection(id).unwrap().received, b">220 ready");

    host.behave_tcp(endpoint(), reacting(TcpReaction::Unreachable));
    let id = host.connect(&Connect::new()).unwrap();
    host.advance(Duration::from_millis(999));
    assert!(!host.connection(id).unwrap().closed);
    host.advance(Duration::from_millis(1));
    assert!(host.connection(id).unwrap().closed);
}

#[test]
fn a_client_that_resets_is_gone_and_its_endpoint_hears_of_it() {
    let mut host = start();
    let id = host.connect(&Connect::new()).unwrap();
    host.advance(A_WHILE);
    host.abort(id);
    host.send_bytes(id, "nobody there");
    host.advance(A_WHILE);
    let received = &host.received_bytes(endpoint())[0];
    assert!(received.reset && received.bytes.is_empty(), "{received:?}");
    assert!(host.connection(id).unwrap().closed);
}

#[test]
fn a_listener_that_is_not_there_takes_no_connection() {
    assert!(start().connect(&Connect::to("elsewhere")).is_none());
}

#[test]
fn what_a_network_filter_makes_of_http_is_what_both_ends_get() {
    let bootstrap = Bootstrap::from_yaml(&bootstrap(true)).unwrap_or_else(|p| panic!("{p}"));
    let mut host = Host::start(bootstrap, HostOptions::default()).unwrap();
    // Marked, it is no request; the answer that says so is marked too, and no response.
    let id = host.send(&Request::get("/"));
    assert!(host.settle(A_WHILE));
    let reply = host.reply(id).unwrap();
    assert_eq!((reply.status, reply.reset), (0, true));
}
