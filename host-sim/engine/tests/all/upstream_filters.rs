//! Plugins as upstream filters: one context an attempt.

use crate::guest::{TRACER, encoded};
use crate::rig::{Plugin, Setup};
use host_sim_engine::UpstreamFailureKind;
use std::time::Duration;

#[test]
fn every_attempt_has_its_own_context_and_never_a_log() {
    let mut rig = Setup {
        upstream_plugins: vec![Plugin::new("up", TRACER)],
        action: "retry_policy: {retry_on: 5xx}",
        ..Setup::default()
    }
    .start();
    rig.log();
    let id = rig.get("/");
    let first = rig.attempt();
    rig.respond(first.id, "503", "");
    rig.advance(Duration::from_millis(25));
    let second = rig.attempt();
    rig.respond(second.id, "200", "ok");
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!((answer.status(), answer.body.as_str()), (200, "ok"));
    let attempt = |last: &[&'static str]| {
        let mut all = vec!["up: create", "up: request_headers", "up: response_headers"];
        all.extend(last);
        all.extend(["up: done", "up: delete"]);
        all
    };
    let expected = [attempt(&[]), attempt(&["up: response_body"])].concat();
    assert_eq!(rig.log(), expected);
}

#[test]
fn an_attempt_knows_its_endpoint_its_number_and_why_it_failed() {
    let read = |path: &str| {
        format!(
            "(call $say (call $property {{{}}} (i32.const 4096) (i32.const 4100))) \
             (call $say_value)",
            path.replace('.', "\0")
        )
    };
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          {address} {path}
          (drop (call $property {{upstream{nul}request_attempt_count}}
            (i32.const 4096) (i32.const 4100)))
          (call $say (i32.load (i32.load (i32.const 4096))))
          (i32.const 0))
        (func (export "proxy_on_done") (param i32) (result i32)
          {reason} (i32.const 1))"#,
        address = read("upstream.address"),
        path = read("request.path"),
        reason = read("upstream.transport_failure_reason"),
        nul = '\0',
    );
    let mut rig =
        Setup { upstream_plugins: vec![Plugin::new("up", &body)], ..Setup::default() }.start();
    rig.get("/p");
    let attempt = rig.attempt();
    rig.fail(attempt.id, UpstreamFailureKind::ConnectFailure);
    let log: Vec<_> = rig.log().iter().map(|line| line[4..].to_owned()).collect();
    let reason = "delayed connect error: Connection refused";
    assert_eq!(log, ["0", "127.0.0.1:9001", "0", "/p", "1", "0", reason]);
}

#[test]
fn calling_a_cluster_whose_upstream_filter_is_the_caller_fails_the_vm() {
    let headers = encoded(&[(":method", "GET"), (":path", "/"), (":authority", "a")]);
    let body = r#"
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $tick (i32.const 100))) (i32.const 1))
      (func (export "proxy_on_tick") (param i32)
        (call $say (call $http_call {backend} {HEADERS} {} {} (i32.const 0) (i32.const 4104))))"#;
    let body = body.replace("HEADERS", &headers);
    let start = |down: Plugin| {
        Setup {
            plugins: vec![down],
            upstream_plugins: vec![Plugin { name: "up", ..Plugin::new("p", &body) }],
            ..Setup::default()
        }
        .start()
    };
    let mut rig = start(Plugin::new("p", &body));
    rig.advance(Duration::from_millis(100));
    assert!(rig.worker.failure("p").unwrap().contains("already running"));

    // Another vm_config.configuration is another VM.
    let mut rig = start(Plugin::new("p", &body).vm_configuration("down"));
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.worker.failure("p"), None);
}

#[test]
fn an_upstream_filter_that_closes_the_stream_cancels_the_attempt() {
    let close = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (drop (call $close (i32.const 1))) (i32.const 1))"#;
    let upstream_plugins = vec![Plugin::new("up", close)];
    let mut rig = Setup { upstream_plugins, ..Setup::default() }.start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    let headers = host_sim_engine::Headers::from_pairs([(":status", "200")]);
    let sent = attempt.id;
    rig.attempts.push_back(attempt);
    rig.worker.upstream_headers(sent, headers, false);
    assert_eq!(rig.answer(id).status(), 503);
    assert!(rig.attempts[0].cancelled);
}
