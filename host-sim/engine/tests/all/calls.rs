//! `proxy_http_call`: what the guest sees of each outcome.

use crate::rig::{Plugin, Rig, Setup};
use bytes::Bytes;
use host_sim_engine::{ExchangeId, Headers, UpstreamFailureKind};
use host_sim_guest::encoded;
use std::time::Duration;

/// Calls a cluster from on_request_headers and pauses; the callback logs what it sees.
fn caller(cluster: &str, timeout_ms: i32) -> Plugin {
    let headers = encoded(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    let body = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $say (call $http_call {CLUSTER} {HEADERS} {} {} (i32.const TIMEOUT) (i32.const 4104)))
    (call $say (i32.load (i32.const 4104)))
    (i32.const 1))
  (func (export "proxy_on_http_call_response")
    (param $root i32) (param $call i32) (param $h i32) (param $b i32) (param $t i32)
    (call $log {callback})
    (call $say (local.get $root))
    (call $say (local.get $call))
    (call $say (local.get $h))
    (call $say (call $header (i32.const 6) {:status} (i32.const 4096) (i32.const 4100)))
    (if (local.get $h) (then (call $say_value)))
    (call $say (call $buffer (i32.const 4) (i32.const 0) (i32.const 999)
      (i32.const 4096) (i32.const 4100)))
    (if (local.get $b) (then (call $say_value)))
    (call $say (call $map_size (i32.const 6) (i32.const 4096)))
    (drop (call $get_status (i32.const 4104) (i32.const 4096) (i32.const 4100)))
    (call $say (i32.load (i32.const 4104)))
    (drop (call $effective (i32.const 2)))
    (drop (call $continue (i32.const 0))))
"#;
    let body = body.replace("CLUSTER", cluster).replace("HEADERS", &headers);
    Plugin::new("caller", &body.replace("TIMEOUT", &timeout_ms.to_string()))
}

/// The log without the plugin's name.
fn log(rig: &Rig) -> Vec<String> {
    rig.log().iter().filter_map(|line| Some(line.strip_prefix("caller: ")?.to_owned())).collect()
}

#[test]
fn an_answer_arrives_on_the_root_and_the_request_goes_on() {
    let mut rig = Setup::of([caller("backend", 0)]).start();
    let id = rig.get("/");
    assert_eq!(log(&rig), ["0", "4"]);
    let call = rig.attempt();
    assert_eq!(call.headers.get_str(":path"), Some("/check"));
    assert_eq!(call.headers.get_str("x-envoy-internal"), Some("true"));
    assert!(!call.headers.contains("x-envoy-expected-rq-timeout-ms"));
    rig.respond(call.id, "401", "who?");
    // Two headers: the service time is added. The map's size is refused, its values are not.
    assert_eq!(log(&rig), ["callback", "1", "4", "2", "0", "401", "0", "who?", "2", "0"]);
    let attempt = rig.attempt();
    rig.respond(attempt.id, "200", "");
    assert_eq!(rig.answer(id).status(), 200);
}

/// What stops a callback's iteration is over with that callback: the reply's own response headers
/// once stopped, too, and the client waited for ever.
#[test]
fn a_reply_from_the_answers_callback_passes_the_senders_own_response_callbacks() {
    let headers = encoded(&[(":method", "GET"), (":path", "/check"), (":authority", "auth")]);
    let body = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $http_call {backend} {HEADERS} {} {} (i32.const 0) (i32.const 4104)))
    (i32.const 1))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (drop (call $effective (i32.const 2)))
    (drop (call $send_reply (i32.const 403) {} {no} {} (i32.const -1))))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $add_header (i32.const 2) {x-seen} {yes})) (i32.const 0))"#;
    let body = body.replace("HEADERS", &headers);
    let mut rig = Setup::of([Plugin::new("judge", &body)]).start();
    let id = rig.get("/");
    let call = rig.attempt();
    rig.respond(call.id, "200", "");
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str(), answer.ended), (403, "no", true));
    assert_eq!(answer.headers.get_str("x-seen"), Some("yes"));
}

#[test]
fn an_unknown_cluster_is_a_bad_argument() {
    let mut rig = Setup::of([caller("nowhere", 0)]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["2", "0"]);
}

#[test]
fn a_cluster_without_endpoints_is_an_internal_failure_and_no_callback_comes() {
    let manager = "stream_idle_timeout: 0s";
    let mut rig = Setup { manager, ..Setup::of([caller("empty", 100)]) }.start();
    rig.get("/");
    assert_eq!(log(&rig), ["10", "0"]);
    rig.advance(Duration::from_secs(1));
    assert_eq!(log(&rig), [] as [&str; 0]);
    assert_eq!(rig.worker.next_deadline(), None);
}

#[test]
fn a_refused_connection_arrives_as_a_503_with_three_headers() {
    let mut rig = Setup::of([caller("backend", 0)]).start();
    rig.get("/");
    log(&rig);
    let call = rig.attempt();
    rig.fail(call.id, UpstreamFailureKind::ConnectFailure);
    let text = "upstream connect error or disconnect/reset before headers. reset reason: \
                remote connection failure";
    assert_eq!(log(&rig), ["callback", "1", "4", "3", "0", "503", "0", text, "2", "0"]);
    assert_eq!(rig.engine.stats().counter_value("cluster.backend.upstream_cx_connect_fail"), 1);
}

#[test]
fn a_timeout_arrives_as_a_504() {
    let mut rig = Setup::of([caller("backend", 100)]).start();
    rig.get("/");
    log(&rig);
    let call = rig.attempt();
    assert_eq!(call.headers.get_str("x-envoy-expected-rq-timeout-ms"), Some("100"));
    rig.advance(Duration::from_millis(100));
    let text = "upstream request timeout";
    assert_eq!(log(&rig), ["callback", "1", "4", "3", "0", "504", "0", text, "2", "0"]);
}

#[test]
fn a_truncated_response_arrives_empty_with_a_sticky_status() {
    let mut rig = Setup::of([caller("backend", 0)]).start();
    rig.get("/");
    log(&rig);
    let call = rig.attempt();
    rig.worker.upstream_headers(call.id, Headers::from_pairs([(":status", "200")]), false);
    rig.worker.upstream_data(call.id, Bytes::from_static(b"half"), false);
    rig.fail(call.id, UpstreamFailureKind::ResetMidStream);
    // No headers; header value 2, body 1, map size 2, get_status code 11.
    assert_eq!(log(&rig), ["callback", "1", "4", "0", "2", "1", "2", "11"]);
}

#[test]
fn a_call_outlives_the_stream_that_made_it() {
    let mut rig = Setup::of([caller("backend", 0)]).start();
    let id = rig.get("/");
    let call = rig.attempt();
    rig.worker.downstream_reset(id);
    log(&rig);
    rig.respond(call.id, "200", "");
    assert_eq!(log(&rig)[..3], ["callback", "1", "4"]);
    assert!(rig.attempts.is_empty());
}

#[test]
fn a_response_beyond_32_mib_ends_the_call_as_if_it_had_broken_off() {
    let mut rig = Setup::of([caller("backend", 0)]).start();
    rig.get("/");
    log(&rig);
    let call = rig.attempt();
    let id = call.id;
    rig.attempts.push_back(call);
    rig.worker.upstream_headers(id, Headers::from_pairs([(":status", "200")]), false);
    let chunk = Bytes::from(vec![0; 16 * 1024 * 1024]);
    rig.worker.upstream_data(id, chunk.clone(), false);
    rig.worker.upstream_data(id, chunk, false);
    assert!(log(&rig).is_empty());
    rig.worker.upstream_data(id, Bytes::from_static(b"x"), false);
    assert_eq!(log(&rig)[..4], ["callback", "1", "4", "0"]);
    rig.answer(ExchangeId(u64::MAX));
    assert!(rig.attempts[0].cancelled);
}
