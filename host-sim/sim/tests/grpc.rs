//! gRPC services in the simulator: a plugin calls them, and logs what it hears when.

use host_sim::{Behaviour, Failure, GrpcAnswer, GrpcBegin, Host, HostOptions, Request};
use host_sim_bootstrap::Bootstrap;
use std::net::SocketAddr;
use std::time::Duration;

/// Calls `checks` (path `/call`) or opens a stream there and says two messages on it, one now and
/// the last one in a second.
const CLIENT: &str = r#"(module
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_grpc_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream"
    (func $stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $send (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\0a\08\0a\06checks")
  (data (i32.const 32) "Svc")
  (data (i32.const 48) "hi")
  (data (i32.const 64) ":path")
  (data (i32.const 80) "close ")
  (data (i32.const 96) "initial")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func $log (param i32 i32) (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $header (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 128)
      (i32.const 132)))
    (if (i32.eq (i32.load8_u (i32.add (i32.load (i32.const 128)) (i32.const 1))) (i32.const 99))
      (then (drop (call $call (i32.const 0) (i32.const 10) (i32.const 32) (i32.const 3)
        (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 48) (i32.const 2)
        (i32.const 500) (i32.const 136))))
      (else
        (drop (call $stream (i32.const 0) (i32.const 10) (i32.const 32) (i32.const 3)
          (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 136)))
        (drop (call $send (i32.const 6) (i32.const 48) (i32.const 2) (i32.const 0)))
        (drop (call $tick (i32.const 1000)))))
    (i32.const 0))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $send (i32.const 6) (i32.const 48) (i32.const 2) (i32.const 1))))
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
    (call $log (i32.const 96) (i32.const 7)))
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
    (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 128)
      (i32.const 132)))
    (call $log (i32.load (i32.const 128)) (i32.load (i32.const 132))))
  (func (export "proxy_on_grpc_close") (param i32 i32 i32)
    (call $log (i32.const 80) (i32.const 6))
    (drop (call $status (i32.const 140) (i32.const 128) (i32.const 132)))
    (call $log (i32.load (i32.const 128)) (i32.load (i32.const 132)))))"#;

const CHECKS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9002);

fn host(directory: &tempfile::TempDir) -> Host {
    let module = directory.path().join("client.wasm");
    std::fs::write(&module, wat::parse_str(CLIENT).unwrap()).unwrap();
    let cluster = |name: &str, port: u16| {
        format!(
            "{{name: {name}, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: \
             {port}}}}}}}}}]}}]}}}}"
        )
    };
    let yaml = format!(
        r#"
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}]}}
          http_filters:
          - name: p
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config: {{name: p, vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: "{module}"}}}}}}}}
          - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  clusters: [{backend}, {checks}]
"#,
        module = module.display(),
        backend = cluster("backend", 9001),
        checks = cluster("checks", 9002),
    );
    let bootstrap = Bootstrap::from_yaml(&yaml).unwrap_or_else(|problems| panic!("{problems}"));
    Host::start(bootstrap, HostOptions::default()).unwrap()
}

/// What the plugin has logged.
fn said(host: &Host) -> Vec<String> {
    let lines = host.log();
    lines
        .iter()
        .filter_map(|line| Some(line.split_once("wasm log")?.1.split_once(": ")?.1.to_owned()))
        .collect()
}

#[test]
fn a_call_gets_the_message_of_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory);
    host.behave(CHECKS, Behaviour::grpc(GrpcAnswer::message("granted")));
    host.send(&Request::get("/call"));
    host.advance(Duration::from_secs(1));
    assert_eq!(said(&host), ["granted"]);
    let received = &host.received(CHECKS)[0];
    assert_eq!(
        (received.path.as_str(), received.body.as_slice()),
        ("/Svc/Svc", &b"\0\0\0\0\x02hi"[..])
    );
}

#[test]
fn a_call_gets_the_services_error_in_trailers_or_in_headers() {
    for trailers_only in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut host = host(&directory);
        let answer = GrpcAnswer { trailers_only, ..GrpcAnswer::error(7, "no way") };
        host.behave(CHECKS, Behaviour::grpc(answer));
        host.send(&Request::get("/call"));
        host.advance(Duration::from_secs(1));
        assert_eq!(said(&host), ["close ", "no way{via_upstream}"]);
    }
}

#[test]
fn a_service_that_hangs_runs_into_the_calls_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory);
    host.behave(CHECKS, Behaviour { failure: Some(Failure::Hang), ..Behaviour::default() });
    host.send(&Request::get("/call"));
    host.advance(Duration::from_millis(499));
    assert!(said(&host).is_empty());
    host.advance(Duration::from_millis(1));
    assert_eq!(said(&host), ["close ", "upstream request timeout{response_timeout}"]);
}

#[test]
fn an_endpoint_that_knows_no_grpc_answers_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory);
    host.send(&Request::get("/call"));
    host.advance(Duration::from_secs(1));
    assert_eq!(said(&host), ["close ", "via_upstream"]);
}

#[test]
fn a_stream_is_answered_while_it_is_open_message_by_message() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory);
    let answer = GrpcAnswer {
        begins: GrpcBegin::FirstMessage,
        messages: vec![b"one".to_vec(), b"two".to_vec()],
        interval: Duration::from_millis(100),
        message: "bye".to_owned(),
        ..GrpcAnswer::default()
    };
    host.behave(CHECKS, Behaviour::grpc(answer));
    host.send(&Request::get("/stream"));
    host.advance(Duration::from_millis(50));
    assert_eq!(said(&host), ["initial", "one"]);
    host.advance(Duration::from_millis(100));
    assert_eq!(said(&host), ["initial", "one", "two"]);
    host.advance(Duration::from_millis(100));
    assert_eq!(said(&host)[3..], ["close ", "bye{via_upstream}"]);
}

#[test]
fn an_endpoint_notes_what_a_stream_says_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory);
    let answer = GrpcAnswer { begins: GrpcBegin::Headers, status: None, ..GrpcAnswer::default() };
    host.behave(CHECKS, Behaviour::grpc(answer));
    host.send(&Request::get("/stream"));
    host.advance(Duration::from_millis(500));
    assert_eq!(host.received(CHECKS)[0].body, b"\0\0\0\0\x02hi");
    host.advance(Duration::from_secs(1));
    assert_eq!(host.received(CHECKS)[0].body, b"\0\0\0\0\x02hi".repeat(2));
    assert_eq!(said(&host), ["initial"]);
}

#[test]
fn a_stream_can_break_off_behind_its_messages() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host(&directory);
    let grpc = GrpcAnswer { begins: GrpcBegin::Headers, ..GrpcAnswer::message("one") };
    let failure = Some(Failure::ResetMidStream);
    host.behave(CHECKS, Behaviour { failure, ..Behaviour::grpc(grpc) });
    host.send(&Request::get("/stream"));
    host.advance(Duration::from_millis(500));
    let expected =
        ["initial", "one", "close ", "upstream_reset_after_response_started{protocol_error}"];
    assert_eq!(said(&host), expected);
}
