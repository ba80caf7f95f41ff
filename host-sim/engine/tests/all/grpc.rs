//! gRPC calls and streams: what the guest sees of each outcome, in Envoy's words.

use crate::rig::{Plugin, Rig, Setup};
use bytes::Bytes;
use host_sim_engine::{AttemptId, Headers, UpstreamFailureKind};
use host_sim_guest::encoded;
use std::time::Duration;

/// Logs every gRPC callback with what can be read in it.
const CALLBACKS: &str = r#"
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
    (call $log {initial}) (call $say (local.get 1)) (call $say (local.get 2))
    (call $look (i32.const 4)))
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
    (call $log {receive}) (call $say (local.get 1)) (call $say (local.get 2))
    (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const 99)
      (i32.const 4096) (i32.const 4100)))
    (call $say_value))
  (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
    (call $log {trailing}) (call $say (local.get 1)) (call $say (local.get 2))
    (call $look (i32.const 5)))
  (func (export "proxy_on_grpc_close") (param i32 i32 i32)
    (call $log {close}) (call $say (local.get 1)) (call $say (local.get 2))
    (drop (call $get_status (i32.const 4104) (i32.const 4096) (i32.const 4100)))
    (call $say (i32.load (i32.const 4104)))
    (call $say_value))
  ;; Status of reading grpc-status, its value, and the status of the map's size.
  (func $look (param $map i32)
    (i32.store (i32.const 4100) (i32.const 0))
    (call $say (call $header (local.get $map) {grpc-status} (i32.const 4096) (i32.const 4100)))
    (call $say_value)
    (call $say (call $map_size (local.get $map) (i32.const 4096))))
"#;

/// Does `start` in on_request_headers, then one of `ticks` each second.
fn client(start: &str, ticks: &[&str]) -> Plugin {
    let ticks: String = ticks
        .iter()
        .enumerate()
        .map(|(at, body)| {
            format!("(if (i32.eq (global.get $n) (i32.const {})) (then {body}))", at + 1)
        })
        .collect();
    let body = format!(
        r#"
  (global $n (mut i32) (i32.const 0))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    {ticks})
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    {start} (call $log {{returning}}) (i32.const 1))
  {CALLBACKS}"#
    );
    Plugin::new("p", &body)
}

/// A `GrpcService` for a cluster.
fn service(cluster: &str) -> String {
    let inner = char::from(u8::try_from(cluster.len()).unwrap());
    let outer = char::from(u8::try_from(cluster.len() + 2).unwrap());
    format!("\n{outer}\n{inner}{cluster}")
}

/// Calls `pkg.Svc/Ask` with "hi"; logs status and id.
fn call(service: &str, metadata: &str, timeout_ms: u32) -> String {
    format!(
        "(call $say (call $grpc_call {{{service}}} {{pkg.Svc}} {{Ask}} {{{metadata}}} {{hi}} \
         (i32.const {timeout_ms}) (i32.const 4104))) (call $say (i32.load (i32.const 4104)))"
    )
}

/// Opens a stream of `pkg.Svc/Talk`; logs status and id.
fn stream(cluster: &str) -> String {
    let service = service(cluster);
    format!(
        "(call $say (call $grpc_stream {{{service}}} {{pkg.Svc}} {{Talk}} {{}} \
         (i32.const 4104))) (call $say (i32.load (i32.const 4104)))"
    )
}

fn send(id: u32, text: &str, end: u32) -> String {
    format!("(call $say (call $grpc_send (i32.const {id}) {{{text}}} (i32.const {end})))")
}

fn cancel(id: u32) -> String {
    format!("(call $say (call $grpc_cancel (i32.const {id})))")
}

fn close(id: u32) -> String {
    format!("(call $say (call $grpc_close (i32.const {id})))")
}

fn log(rig: &Rig) -> Vec<String> {
    let strip = |line: String| line.strip_prefix("p: ").map_or(line.clone(), ToOwned::to_owned);
    rig.log().into_iter().map(strip).collect()
}

fn frame(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &len[..], message].concat().into()
}

fn grpc_head() -> Headers {
    Headers::from_pairs([(":status", "200"), ("content-type", "application/grpc")])
}

fn trailers(status: &str, message: &str) -> Headers {
    Headers::from_pairs([("grpc-status", status), ("grpc-message", message)])
}

/// A unary call in flight.
fn asked(timeout_ms: u32) -> (Rig, AttemptId) {
    let mut rig = Setup::of([client(&call(&service("backend"), "", timeout_ms), &[])]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["0", "5", "returning"]);
    let attempt = rig.attempt();
    let id = attempt.id;
    rig.attempts.push_back(attempt);
    (rig, id)
}

/// A stream in flight, of which the guest has said "a", and what it does later.
fn talking(end: u32, ticks: &[&str]) -> (Rig, AttemptId) {
    let start = stream("backend") + &send(6, "a", end);
    let mut rig = Setup::of([client(&start, ticks)]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["0", "6", "0", "returning"]);
    let attempt = rig.attempt();
    let id = attempt.id;
    rig.attempts.push_back(attempt);
    (rig, id)
}

fn second(rig: &mut Rig) -> Vec<String> {
    rig.advance(Duration::from_secs(1));
    log(rig)
}

#[test]
fn a_call_goes_out_as_envoy_writes_it() {
    let metadata = encoded(&[("x-a", "1"), ("x-bin", "\u{1}\u{2}\u{3}"), ("content-type", "zz")]);
    let plugin = client(&call(&service("backend"), &metadata, 250), &[]);
    let mut rig = Setup::of([plugin]).start();
    rig.get("/");
    let sent = rig.attempt();
    let expected = Headers::from_pairs([
        (":method", "POST"),
        (":path", "/pkg.Svc/Ask"),
        (":authority", "backend"),
        (":scheme", "http"),
        ("te", "trailers"),
        ("grpc-timeout", "250m"),
        ("content-type", "application/grpc,zz"),
        ("x-a", "1"),
        ("x-bin", "AQID"),
        ("x-envoy-internal", "true"),
        ("x-envoy-expected-rq-timeout-ms", "250"),
    ]);
    let sorted = |headers: &Headers| {
        let mut pairs: Vec<_> = headers.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        pairs.sort();
        pairs
    };
    assert_eq!(sorted(&sent.headers), sorted(&expected));
    assert_eq!((sent.body.as_bytes(), sent.ended), (&frame(b"hi")[..], true));
}

#[test]
fn a_call_without_a_timeout_says_so() {
    let mut rig = Setup::of([client(&call(&service("backend"), "", 0), &[])]).start();
    rig.get("/");
    let sent = rig.attempt();
    assert_eq!(sent.headers.get_str("grpc-timeout"), Some("0m"));
    assert!(!sent.headers.contains("x-envoy-expected-rq-timeout-ms"));
}

#[test]
fn a_plain_cluster_name_is_a_service_too() {
    let mut rig = Setup::of([client(&call("backend", "", 0), &[])]).start();
    rig.get("/");
    assert_eq!(rig.attempt().headers.get_str(":authority"), Some("backend"));
}

#[test]
fn a_call_that_succeeds_ends_with_its_message_and_no_close() {
    let (mut rig, id) = asked(0);
    rig.worker.upstream_headers(id, grpc_head(), false);
    rig.worker.upstream_data(id, frame(b"first"), false);
    rig.worker.upstream_data(id, frame(b"second"), false);
    assert_eq!(log(&rig), [""; 0]);
    rig.worker.upstream_trailers(id, trailers("0", ""));
    assert_eq!(log(&rig), ["receive", "5", "6", "second"]);
}

#[test]
fn a_call_that_fails_ends_with_a_close_and_no_message() {
    let cases: [(Headers, &str, &str); 4] = [
        (trailers("7", "no way"), "7", "no way{via_upstream}"),
        (trailers("7", ""), "7", "via_upstream"),
        (Headers::from_pairs([("x", "y")]), "2", "via_upstream"),
        // No message, no success.
        (trailers("0", "fine"), "13", ""),
    ];
    for (trailers, code, message) in cases {
        let (mut rig, id) = asked(0);
        rig.worker.upstream_headers(id, grpc_head(), false);
        rig.worker.upstream_trailers(id, trailers);
        assert_eq!(log(&rig), ["close", "5", code, code, message]);
    }
}

#[test]
fn a_response_that_is_no_grpc_is_a_close_with_what_its_status_means() {
    let cases: [(&str, bool, &str); 4] =
        [("404", true, "12"), ("404", false, "12"), ("503", true, "14"), ("200", true, "2")];
    for (status, end, code) in cases {
        let (mut rig, id) = asked(0);
        rig.worker.upstream_headers(id, Headers::from_pairs([(":status", status)]), end);
        assert_eq!(log(&rig), ["close", "5", code, code, "via_upstream"], "{status}");
    }
}

#[test]
fn a_body_that_is_no_grpc_or_is_compressed_is_an_internal_error() {
    for body in [&b"ok"[..], &[1, 0, 0, 0, 1, 9]] {
        let (mut rig, id) = asked(0);
        rig.worker.upstream_headers(id, grpc_head(), false);
        rig.worker.upstream_data(id, Bytes::copy_from_slice(body), false);
        assert_eq!(log(&rig), ["close", "5", "13", "13", "via_upstream"]);
        rig.attempt();
    }
}

#[test]
fn an_answer_that_is_refused_is_told_before_the_upstreams_filters_are_done_and_one_that_ended_after()
 {
    let order = |answer: &dyn Fn(&mut Rig, AttemptId)| {
        let done = "(func (export \"proxy_on_done\") (param i32) (result i32)
            (call $log {done}) (i32.const 1))";
        let plugins = [client(&call(&service("backend"), "", 0), &[])];
        let upstream_plugins = vec![Plugin::new("up", done)];
        let mut rig = Setup { upstream_plugins, ..Setup::of(plugins) }.start();
        rig.get("/");
        let id = rig.attempt().id;
        log(&rig);
        answer(&mut rig, id);
        let wanted = ["close", "receive", "up: done"];
        log(&rig).into_iter().filter(|line| wanted.contains(&line.as_str())).collect::<Vec<_>>()
    };
    for body in [&b"ok"[..], &[1, 0, 0, 0, 1, 9]] {
        let refused = order(&|rig, id| {
            rig.worker.upstream_headers(id, grpc_head(), false);
            rig.worker.upstream_data(id, Bytes::copy_from_slice(body), false);
        });
        assert_eq!(refused, ["close", "up: done"]);
    }
    let missing = order(&|rig, id| {
        rig.worker.upstream_headers(id, Headers::from_pairs([(":status", "404")]), false);
    });
    assert_eq!(missing, ["close", "up: done"]);
    let ended = order(&|rig, id| {
        rig.worker.upstream_headers(id, grpc_head(), false);
        rig.worker.upstream_data(id, frame(b"hello"), true);
    });
    assert_eq!(ended, ["up: done", "close"]);
    let ended = order(&|rig, id| {
        rig.worker.upstream_headers(id, grpc_head(), false);
        rig.worker.upstream_data(id, Bytes::from_static(b"ok"), true);
    });
    assert_eq!(ended, ["up: done", "close"]);
    let answered = order(&|rig, id| {
        rig.worker.upstream_headers(id, grpc_head(), false);
        rig.worker.upstream_data(id, frame(b"hello"), false);
        rig.worker.upstream_trailers(id, trailers("0", ""));
    });
    assert_eq!(answered, ["up: done", "receive"]);
}

#[test]
fn a_body_without_trailers_is_an_unknown_error() {
    let (mut rig, id) = asked(0);
    rig.worker.upstream_headers(id, grpc_head(), false);
    rig.worker.upstream_data(id, frame(b"hello"), true);
    assert_eq!(log(&rig), ["close", "5", "2", "2", "via_upstream"]);
}

#[test]
fn a_timeout_is_unavailable_and_not_deadline_exceeded() {
    let (mut rig, _) = asked(200);
    rig.advance(Duration::from_millis(199));
    assert_eq!(log(&rig), [""; 0]);
    rig.advance(Duration::from_millis(1));
    let expected = ["close", "5", "14", "14", "upstream request timeout{response_timeout}"];
    assert_eq!(log(&rig), expected);
    assert!(rig.attempt().cancelled);
}

#[test]
fn a_timeout_within_the_response_is_an_internal_error() {
    let (mut rig, id) = asked(200);
    rig.worker.upstream_headers(id, grpc_head(), false);
    rig.advance(Duration::from_millis(200));
    assert_eq!(log(&rig), ["close", "5", "13", "13", "response_timeout"]);
}

#[test]
fn a_refused_connection_is_unavailable_with_the_reason() {
    let (mut rig, id) = asked(0);
    rig.fail(id, UpstreamFailureKind::ConnectFailure);
    let message = "upstream connect error or disconnect/reset before headers. reset reason: \
                   remote connection failure{upstream_reset_before_response_started{\
                   remote_connection_failure|delayed_connect_error:_Connection_refused}}";
    assert_eq!(log(&rig), ["close", "5", "14", "14", message]);
}

#[test]
fn a_reset_within_the_response_is_an_internal_error() {
    let (mut rig, id) = asked(0);
    rig.worker.upstream_headers(id, grpc_head(), false);
    rig.fail(id, UpstreamFailureKind::RemoteReset);
    let message = "upstream_reset_after_response_started{remote_reset}";
    assert_eq!(log(&rig), ["close", "5", "13", "13", message]);
}

#[test]
fn an_unknown_cluster_is_a_failure_and_a_close_of_an_id_nobody_got() {
    let mut rig = Setup::of([client(&call(&service("nope"), "", 0), &[])]).start();
    rig.get("/");
    let expected = ["10", "0", "returning", "close", "5", "14", "14", "Cluster not available"];
    assert_eq!(log(&rig), expected);

    let mut rig = Setup::of([client(&stream("nope"), &[])]).start();
    rig.get("/");
    let expected = ["10", "0", "returning", "close", "6", "14", "14", "Cluster not available"];
    assert_eq!(log(&rig), expected);
}

#[test]
fn a_cluster_without_endpoints_closes_too_and_calls_a_stream_back_within_the_hostcall() {
    let message = "no healthy upstream{no_healthy_upstream}";
    let mut rig = Setup::of([client(&call(&service("empty"), "", 0), &[])]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["10", "0", "returning", "close", "5", "14", "14", message]);

    let mut rig = Setup::of([client(&stream("empty"), &[&close(6)])]).start();
    rig.get("/");
    let expected = [
        "initial",
        "6",
        "0",
        "1",
        "",
        "2",
        "trailing",
        "6",
        "4",
        "0",
        "14",
        "2",
        "10",
        "0",
        "returning",
        "close",
        "6",
        "14",
        "14",
        message,
    ];
    assert_eq!(log(&rig), expected);
    assert_eq!(second(&mut rig), ["1"]);
}

#[test]
fn a_service_that_is_neither_a_message_nor_a_cluster_does_not_parse() {
    let mut rig = Setup::of([client(&call("n.pe", "", 0), &[])]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["4", "0", "returning"]);
}

#[test]
fn a_name_that_is_a_message_by_accident_is_reported_where_envoy_aborts() {
    let mut rig = Setup::of([client(&call("empty", "", 0), &[])]).start();
    rig.get("/");
    let failure = rig.worker.failure("p").unwrap();
    assert!(failure.contains("Envoy aborts here"), "{failure}");
}

#[test]
fn a_stream_hears_initial_metadata_messages_trailers_and_a_close() {
    let later = send(6, "b", 0);
    let last = close(6) + &close(6) + &send(6, "late", 0);
    let (mut rig, id) = talking(0, &[&later, &last, &close(6)]);
    let mut head = grpc_head();
    head.add(b"x-init", b"1");
    rig.worker.upstream_headers(id, head, false);
    // The request has not ended, so there is no x-envoy-upstream-service-time.
    assert_eq!(log(&rig), ["initial", "6", "3", "1", "", "2"]);
    rig.worker.upstream_data(id, [frame(b"one"), frame(b"")].concat().into(), false);
    assert_eq!(log(&rig), ["receive", "6", "3", "one", "receive", "6", "0", ""]);
    assert_eq!(second(&mut rig), ["0"]);
    // Half-closed: nothing more is sent, but what comes is heard.
    assert_eq!(second(&mut rig), ["0", "0", "0"]);
    rig.worker.upstream_data(id, frame(b"two"), false);
    assert_eq!(log(&rig), ["receive", "6", "3", "two"]);
    rig.worker.upstream_trailers(id, trailers("0", "bye"));
    let expected =
        ["trailing", "6", "2", "0", "0", "2", "close", "6", "0", "0", "bye{via_upstream}"];
    assert_eq!(log(&rig), expected);
    assert_eq!(second(&mut rig), ["1"]);
    let sent = rig.attempt();
    assert_eq!(sent.body.as_bytes(), [frame(b"a"), frame(b"b")].concat());
    assert!(sent.ended && !sent.cancelled);
    assert!(!sent.headers.contains("grpc-timeout"));
}

#[test]
fn a_stream_that_the_server_has_ended_stays_until_the_guest_closes_it() {
    let again = close(6) + &send(6, "x", 0);
    let (mut rig, id) = talking(0, &[&send(6, "b", 0), &close(6), &again]);
    rig.worker.upstream_headers(id, grpc_head(), false);
    rig.worker.upstream_trailers(id, trailers("9", "bye"));
    log(&rig);
    assert_eq!(second(&mut rig), ["0"]);
    assert_eq!(second(&mut rig), ["0"]);
    assert_eq!(second(&mut rig), ["1", "1"]);
    assert_eq!(rig.attempt().body.as_bytes(), &frame(b"a")[..]);
}

#[test]
fn trailers_only_are_the_trailers_of_a_stream_behind_empty_initial_metadata() {
    let (mut rig, id) = talking(0, &[]);
    let mut head = grpc_head();
    head.add(b"grpc-status", b"16");
    head.add(b"grpc-message", b"x");
    rig.worker.upstream_headers(id, head, true);
    let expected = [
        "initial",
        "6",
        "0",
        "1",
        "",
        "2",
        "trailing",
        "6",
        "4",
        "0",
        "16",
        "2",
        "close",
        "6",
        "16",
        "16",
        "x{via_upstream}",
    ];
    assert_eq!(log(&rig), expected);
}

#[test]
fn a_refused_stream_gets_its_reason_as_trailers() {
    let (mut rig, id) = talking(0, &[&cancel(6), &cancel(6)]);
    rig.fail(id, UpstreamFailureKind::ConnectFailure);
    let log = log(&rig);
    assert_eq!(log[..6], ["initial", "6", "0", "1", "", "2"]);
    assert_eq!(log[6..13], ["trailing", "6", "4", "0", "14", "2", "close"]);
    assert_eq!(second(&mut rig), ["0"]);
    assert_eq!(second(&mut rig), ["1"]);
}

#[test]
fn a_stream_that_breaks_off_gets_empty_trailers() {
    let (mut rig, id) = talking(1, &[]);
    rig.worker.upstream_headers(id, grpc_head(), false);
    // With x-envoy-upstream-service-time, as the request has ended.
    assert_eq!(log(&rig)[..3], ["initial", "6", "3"]);
    rig.fail(id, UpstreamFailureKind::RemoteReset);
    let message = "upstream_reset_after_response_started{remote_reset}";
    let expected = ["trailing", "6", "0", "1", "", "2", "close", "6", "13", "13", message];
    assert_eq!(log(&rig), expected);
}

#[test]
fn nothing_is_heard_of_what_was_cancelled() {
    let later = cancel(6) + &cancel(6) + &send(6, "x", 0) + &close(6);
    let (mut rig, id) = talking(0, &[&later]);
    assert_eq!(second(&mut rig), ["0", "1", "1", "1"]);
    rig.worker.upstream_headers(id, grpc_head(), true);
    assert_eq!(log(&rig), [""; 0]);
    assert!(rig.attempt().cancelled);
}

#[test]
fn a_call_cancelled_within_its_callback_never_leaves() {
    let start = call(&service("backend"), "", 0) + &cancel(5) + &cancel(5) + &close(5);
    let mut rig = Setup::of([client(&start, &[])]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["0", "5", "0", "1", "1", "returning"]);
    rig.answer(host_sim_engine::ExchangeId(u64::MAX));
    assert!(rig.attempts.is_empty());
}

#[test]
fn closing_a_call_cancels_it() {
    let start = call(&service("backend"), "", 0);
    let mut rig = Setup::of([client(&start, &[&(close(5) + &close(5))])]).start();
    rig.get("/");
    log(&rig);
    assert_eq!(second(&mut rig), ["0", "1"]);
    assert!(rig.attempt().cancelled);
}

#[test]
fn ids_say_what_they_name_and_other_kinds_are_a_bad_argument() {
    let kinds = cancel(4) + &cancel(7) + &close(8) + &send(5, "x", 0) + &send(4, "x", 0);
    let unknown = cancel(5) + &cancel(6) + &close(6) + &send(6, "x", 0);
    let start = kinds + &unknown + &call(&service("backend"), "", 0) + &stream("backend");
    let start = start + &call(&service("backend"), "", 0) + &stream("backend");
    let mut rig = Setup::of([client(&start, &[])]).start();
    rig.get("/");
    let expected = [
        "2",
        "2",
        "2",
        "2",
        "2",
        "1",
        "1",
        "1",
        "1",
        "0",
        "5",
        "0",
        "6",
        "0",
        "9",
        "0",
        "10",
        "returning",
    ];
    assert_eq!(log(&rig), expected);
}

#[test]
fn a_stream_ends_with_the_root_that_opened_it() {
    let (mut rig, _) = talking(0, &[]);
    rig.worker.shutdown();
    assert!(rig.attempt().cancelled);
}

#[test]
fn a_bad_pointer_is_an_invalid_memory_access() {
    let start = "(call $say (call $grpc_call (i32.const -1) (i32.const 9) {a} {b} {} {} \
                 (i32.const 0) (i32.const 4104)))
        (call $say (call $grpc_stream {backend} {a} {b} {} (i32.const -2)))
        (call $say (call $grpc_send (i32.const 6) (i32.const -2) (i32.const 9) (i32.const 0)))";
    let mut rig = Setup::of([client(start, &[])]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["6", "6", "6", "returning"]);
}
