//! gRPC services in the simulator: a plugin calls them, and logs what it hears when.

use host_sim::{Behaviour, Failure, GrpcAnswer, GrpcBegin, Host, HostOptions, Request};
use host_sim_bootstrap::Bootstrap;
use std::net::SocketAddr;
use std::time::Duration;

/// Calls `checks` (path `/call`) or opens a stream there and says two messages on it, one now and
/// the last one in a second.
const CLIENT: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $header (i32.const 0) {:path} (i32.const 4096) (i32.const 4100)))
    (if (i32.eq (i32.load8_u (i32.add (i32.load (i32.const 4096)) (i32.const 1))) (i32.const 99))
      (then (drop (call $grpc_call {\0a\08\0a\06checks} {Svc} {Svc}
        (i32.const 0) (i32.const 0) {hi} (i32.const 500) (i32.const 136))))
      (else
        (drop (call $grpc_stream {\0a\08\0a\06checks} {Svc} {Svc}
          (i32.const 0) (i32.const 0) (i32.const 136)))
        (drop (call $grpc_send (i32.const 6) {hi} (i32.const 0)))
        (drop (call $tick (i32.const 1000)))))
    (i32.const 0))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $grpc_send (i32.const 6) {hi} (i32.const 1))))
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
    (call $log {initial}))
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
    (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 4096)
      (i32.const 4100)))
    (call $say_value))
  (func (export "proxy_on_grpc_close") (param i32 i32 i32)
    (call $log {close })
    (drop (call $get_status (i32.const 140) (i32.const 4096) (i32.const 4100)))
    (call $say_value))"#;

const BACKEND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);

const CHECKS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9002);

fn host(directory: &tempfile::TempDir) -> Host {
    let module = directory.path().join("client.wasm");
    std::fs::write(&module, host_sim_guest::module(CLIENT)).unwrap();
    let client = host_sim_guest::filter("p", &format!("filename: {}", module.display()));
    let clusters = [("backend", BACKEND), ("checks", CHECKS)];
    let yaml = host_sim_guest::bootstrap(&[client], &clusters);
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
