//! Local replies and resets, from every place they can come from.

use crate::rig::{Plugin, Setup};
use host_sim_engine::Headers;
use host_sim_guest::{TRACER, encoded};

const DENY: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $send_reply (i32.const 429) {too much} {slow down} HEADERS (i32.const -1)))
    (drop (call $send_reply (i32.const 500) {} {} {} (i32.const -1)))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $property {response.code_details} (i32.const 4096) (i32.const 4100)))
    (call $say_value)
    (call $say (call $header (i32.const 0) {:path} (i32.const 4096) (i32.const 4100)))
    (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $log {log}))
"#;

fn deny() -> Plugin {
    let headers = encoded(&[("X-Why", "because")]);
    let body = DENY
        .replace("HEADERS", &format!("{{{headers}}}"))
        .replace("response.code_details", "response\0code_details");
    Plugin::new("deny", &body)
}

#[test]
fn a_reply_passes_its_senders_own_response_callback_and_the_first_reply_wins() {
    let mut rig = Setup::of([deny()]).start();
    let id = rig.get("/");
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!((answer.status(), answer.body.as_str()), (429, "slow down"));
    assert_eq!(answer.headers.get_str("x-why"), Some("because"));
    assert_eq!(answer.headers.get_str("content-type"), Some("text/plain"));
    assert_eq!(answer.headers.get_str("server"), Some("envoy"));
    // Request headers stay readable during one's own reply.
    assert_eq!(rig.log(), ["deny: too_much", "deny: 0", "deny: log"]);
    assert!(rig.attempts.is_empty());
}

#[test]
fn filters_behind_the_replying_one_only_get_a_log() {
    let behind = Plugin::new("behind", TRACER).vm_configuration("own");
    let before = Plugin::new("before", TRACER);
    let mut rig = Setup::of([before, deny(), behind]).start();
    rig.log();
    let id = rig.get("/");
    rig.worker.downstream_complete(id);
    let log: Vec<_> = rig.log().into_iter().filter(|l| !l.starts_with("deny")).collect();
    assert_eq!(
        log,
        [
            "before: create",
            "before: request_headers",
            "before: response_headers",
            "before: response_body",
            "before: log",
            "behind: create",
            "behind: log",
            "before: done",
            "before: delete",
            "behind: done",
            "behind: delete",
        ]
    );
}

#[test]
fn a_reply_in_response_headers_replaces_the_response() {
    let body = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $log {once})
        (drop (call $send_reply (i32.const 500) {} {broken} {} (i32.const -1)))
        (i32.const 0))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    let answer = rig.get_ok("/");
    assert_eq!((answer.status(), answer.body.as_str()), (500, "broken"));
    assert_eq!(rig.log(), ["p: once"]);
}

#[test]
fn a_reply_after_the_headers_have_gone_resets_the_stream() {
    let body = r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
        (drop (call $send_reply (i32.const 500) {} {broken} {} (i32.const -1)))
        (i32.const 0))
      (func (export "proxy_on_log") (param i32) (call $log {log}))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.respond(attempt.id, "200", "body");
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.reset), (200, true));
    assert_eq!(rig.log(), ["p: log"]);
}

#[test]
fn closing_the_stream_gives_no_response_at_all() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $close (i32.const 0))) (i32.const 1))
      (func (export "proxy_on_log") (param i32) (call $log {log}))
      (func (export "proxy_on_delete") (param i32) (call $log {delete}))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    let id = rig.get("/");
    let answer = rig.answer(id);
    assert!(answer.reset && answer.headers.is_empty());
    assert_eq!(rig.log(), ["p: log", "p: delete"]);
}

#[test]
fn a_head_request_gets_no_body() {
    let mut rig = Setup::of([deny()]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, crate::rig::request("HEAD", "/"), true);
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str(), answer.ended), (429, "", true));
    assert_eq!(answer.headers.get_str("content-length"), Some("9"));
}

#[test]
fn a_grpc_client_gets_status_200_and_a_grpc_status() {
    let mut rig = Setup::of([deny()]).start();
    let id = rig.begin();
    let mut headers: Headers = crate::rig::request("POST", "/");
    headers.add(b"content-type", b"application/grpc");
    rig.worker.request_headers(id, headers, true);
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.ended), (200, true));
    assert_eq!(answer.headers.get_str("grpc-status"), Some("14"));
}

#[test]
fn a_reply_in_on_log_fails_the_vm_instead_of_the_process() {
    let body = r#"(func (export "proxy_on_log") (param i32)
        (drop (call $send_reply (i32.const 500) {} {} {} (i32.const -1))))"#;
    let mut rig = Setup::of([Plugin::new("p", body)]).start();
    rig.get_ok("/");
    assert!(rig.worker.failure("p").unwrap().contains("Envoy aborts here"));
}

#[test]
fn a_request_that_is_refused_at_the_door_is_logged_and_seen_by_no_filter() {
    let watch = r#"
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $log {request}) (i32.const 0))
      (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $log {response}) (i32.const 0))
      (func (export "proxy_on_log") (param i32) (call $log {log}))"#;
    let mut rig = Setup::of([Plugin::new("w", watch)]).start();
    for (headers, status) in [
        ([(":method", "GET"), (":path", "/")].as_slice(), 400),
        (&[(":method", "GET"), (":path", "*"), (":authority", "a")], 404),
    ] {
        let id = rig.begin();
        let headers = Headers::from_pairs(headers.iter().copied());
        rig.worker.request_headers(id, headers, true);
        assert_eq!(rig.answer(id).status(), status);
        rig.worker.downstream_complete(id);
        assert_eq!(rig.log(), ["w: log"]);
    }
}
