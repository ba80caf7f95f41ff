//! Order, pausing, bodies.

use crate::rig::{Plugin, Setup, request};
use bytes::Bytes;
use host_sim_engine::Headers;
use host_sim_guest::TRACER;

fn lines(of: &[&str]) -> Vec<String> {
    of.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn requests_run_in_order_responses_backwards_and_logs_come_before_all_dones() {
    let mut rig = Setup::of([
        Plugin::new("a", TRACER),
        Plugin::new("b", TRACER).vm_configuration("another VM"),
    ])
    .start();
    rig.log();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"x"), false);
    rig.worker.request_trailers(id, Headers::from_pairs([("t", "1")]));
    let attempt = rig.attempt();
    assert_eq!((attempt.body.as_str(), attempt.ended), ("x", true));
    rig.worker.upstream_headers(attempt.id, Headers::from_pairs([(":status", "200")]), false);
    rig.worker.upstream_data(attempt.id, Bytes::from_static(b"y"), false);
    rig.worker.upstream_trailers(attempt.id, Headers::from_pairs([("t", "2")]));
    let answer = rig.answer(id);
    assert!(answer.ended && answer.body == "y" && answer.trailers.is_some());
    rig.worker.downstream_complete(id);
    assert_eq!(
        rig.log(),
        lines(&[
            "a: create",
            "a: request_headers",
            "b: create",
            "b: request_headers",
            "a: request_body",
            "b: request_body",
            "a: request_trailers",
            "b: request_trailers",
            "b: response_headers",
            "a: response_headers",
            "b: response_body",
            "a: response_body",
            "b: response_trailers",
            "a: response_trailers",
            "a: log",
            "b: log",
            "a: done",
            "a: delete",
            "b: done",
            "b: delete",
        ])
    );
}

/// Pauses the request's headers; a tick resumes context 2.
const PAUSER: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 100))) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $log {headers}) (i32.const 1))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (call $say (local.get 1)) (i32.const 0))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $effective (i32.const 2)))
    (drop (call $continue (i32.const 0))))
"#;

#[test]
fn a_paused_request_holds_its_body_until_it_is_resumed() {
    let mut rig = Setup::of([Plugin::new("p", PAUSER)]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"abc"), false);
    rig.worker.request_data(id, Bytes::from_static(b"de"), true);
    assert_eq!(rig.log(), lines(&["p: headers"]));
    rig.advance(std::time::Duration::from_millis(100));
    let attempt = rig.attempt();
    assert_eq!((attempt.body.as_str(), attempt.ended), ("abcde", true));
    assert_eq!(rig.log(), lines(&["p: 5"]));
}

#[test]
fn with_stop_iteration_allowed_body_callbacks_run_while_headers_are_held() {
    let plugin = Plugin::new("p", PAUSER).more("allow_on_headers_stop_iteration: true");
    let mut rig = Setup::of([plugin]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"abc"), true);
    // The body callback says Continue, and that releases the headers too.
    assert_eq!(rig.log(), lines(&["p: headers", "p: 3"]));
    assert_eq!(rig.attempt().body, "abc");
}

const RESUME_THEN_PAUSE: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $continue (i32.const 0))) (i32.const 1))
"#;

#[test]
fn resuming_inside_the_callback_that_pauses_passes_headers_and_holds_the_body_for_ever() {
    let mut rig = Setup::of([Plugin::new("p", RESUME_THEN_PAUSE)]).start();
    assert_eq!(rig.get_ok("/").status(), 200);
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"abc"), true);
    let attempt = rig.attempt();
    assert_eq!((attempt.body.as_str(), attempt.ended), ("", false));
}

/// Buffers the whole request body, then replaces it.
const BUFFERER: &str = r#"
  (func (export "proxy_on_request_body") (param $ctx i32) (param $len i32) (param $end i32)
    (result i32)
    (call $say (local.get $len))
    (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
    (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 9999) {new}))
    (call $say (call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) {x}))
    (drop (call $set_buffer (i32.const 0) (i32.const 3) (i32.const 0) {er}))
    (i32.const 0))
"#;

#[test]
fn a_body_callback_that_pauses_sees_everything_held_and_may_replace_it() {
    let mut rig = Setup::of([Plugin::new("p", BUFFERER)]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"abc"), false);
    rig.worker.request_data(id, Bytes::from_static(b"de"), true);
    let attempt = rig.attempt();
    assert_eq!((attempt.body.as_str(), attempt.ended), ("newer", true));
    // A write into the middle is refused with BadArgument.
    assert_eq!(rig.log(), lines(&["p: 3", "p: 5", "p: 2"]));
}

#[test]
fn more_than_a_mebibyte_held_back_is_a_413() {
    let hold = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.const 1))"#;
    let mut rig = Setup::of([Plugin::new("p", hold)]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from(vec![0; 1 << 20]), false);
    assert!(!rig.answer(id).ended);
    rig.worker.request_data(id, Bytes::from_static(b"x"), false);
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str()), (413, "Payload Too Large"));
}

const TRAILER_MAKER: &str = r#"
  (func (export "proxy_on_response_body") (param $ctx i32) (param $len i32) (param $end i32)
    (result i32)
    (call $say (call $add_header (i32.const 3) {x-made} {here}))
    (i32.const 0))
"#;

#[test]
fn touching_trailers_in_the_last_body_callback_makes_them() {
    let mut rig = Setup::of([Plugin::new("p", TRAILER_MAKER)]).start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.worker.upstream_headers(attempt.id, Headers::from_pairs([(":status", "200")]), false);
    rig.worker.upstream_data(attempt.id, Bytes::from_static(b"a"), false);
    rig.worker.upstream_data(attempt.id, Bytes::from_static(b"b"), true);
    let answer = rig.answer(id);
    assert_eq!(answer.body, "ab");
    assert_eq!(answer.trailers.unwrap().get("x-made"), Some(b"here".as_slice()));
    assert_eq!(rig.log(), lines(&["p: 2", "p: 0"]));
}

#[test]
fn a_header_a_plugin_adds_can_change_the_route() {
    let add = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $add_header (i32.const 0) {x-p} {1}))
        (i32.const 0))"#;
    let hosts = "- {name: all, domains: ['*'], routes: [
              {name: special, match: {prefix: /, headers: [{name: x-p, string_match: {exact: '1'}}]},
               direct_response: {status: 418}},
              {name: default, match: {prefix: /}, route: {cluster: backend}}]}";
    let mut setup = Setup::of([Plugin::new("p", add)]);
    setup.virtual_hosts = Some(hosts);
    let mut rig = setup.start();
    let id = rig.get("/");
    assert_eq!(rig.answer(id).status(), 418);
}
