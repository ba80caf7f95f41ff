//! Plugins as upstream filters: one context an attempt.

use crate::rig::{Plugin, Rig, Setup};
use host_sim_engine::UpstreamFailureKind;
use host_sim_guest::{TRACER, encoded};
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

/// Calls the cluster `backend` in each tick, if it has a configuration; says of a request whether
/// it came in the middle of such a tick.
fn calling(on_request_headers: &str) -> String {
    let headers = encoded(&[(":method", "GET"), (":path", "/"), (":authority", "a")]);
    format!(
        r#"
      (global $ticks (mut i32) (i32.const 0))
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (if (local.get 1) (then (drop (call $tick (i32.const 100))))) (i32.const 1))
      (func (export "proxy_on_tick") (param i32)
        (global.set $ticks (i32.const 1))
        (call $log {{before}})
        (call $say (call $http_call {{backend}} {{{headers}}} {{}} {{}} (i32.const 0) (i32.const 4104)))
        (call $log {{after}})
        (global.set $ticks (i32.const 0)))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say (global.get $ticks)) {on_request_headers} (i32.const 0))
      (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (call $log {{answered}}))
      (func (export "proxy_on_done") (param i32) (result i32)
        (call $log {{done}}) (i32.const 1))"#
    )
}

/// The same plugin twice, the upper one with this configuration of its VM.
fn twice(body: &str, vm_configuration: &'static str) -> Rig {
    let up = Plugin { name: "up", ..Plugin::new("p", body) };
    let down = Plugin::new("p", body).vm_configuration(vm_configuration).configuration("tick");
    Setup { plugins: vec![down], upstream_plugins: vec![up], ..Setup::default() }.start()
}

#[test]
fn a_call_runs_upstream_filters_before_it_returns_even_in_its_own_vm() {
    for (vm_configuration, ticks) in [("", "1"), ("another", "0")] {
        let mut rig = twice(&calling(""), vm_configuration);
        rig.advance(Duration::from_millis(100));
        let expected = ["p: before", &format!("up: {ticks}"), "p: 0", "p: after"];
        assert_eq!(rig.log(), expected);
        let attempt = rig.attempt();
        rig.respond(attempt.id, "200", "ok");
        assert_eq!(rig.log(), ["up: done", "p: answered"]);
        assert_eq!(rig.worker.failure("p"), None);
    }
}

#[test]
fn a_guest_that_does_not_bear_to_be_called_twice_fails_with_the_reason() {
    let guarded = calling("").replace(
        "(global $ticks",
        r#"(func (export "proxy_on_context_create") (param i32 i32)
          (if (global.get $ticks) (then unreachable)))
        (global $ticks"#,
    );
    let mut rig = twice(&guarded, "");
    rig.advance(Duration::from_millis(100));
    let log = rig.log();
    assert_eq!(log[0], "p: before");
    assert!(log[1].contains("Function: proxy_on_context_create failed"), "{log:?}");
    // The first callback goes on; the call it made has failed, and is not answered.
    assert_eq!(log[2..], ["p: 10", "p: after"]);
    let failure = rig.worker.failure("p").unwrap();
    assert!(failure.contains("in a call of cluster \"backend\""), "{failure}");
    assert!(failure.contains("another vm_config.configuration"), "{failure}");
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.log(), [""; 0]);
}

#[test]
fn a_call_that_is_answered_before_it_returns_is_a_failure_to_the_guest() {
    let reply = "(drop (call $send_reply (i32.const 418) {} {} {} (i32.const -1)))";
    let mut rig = twice(&calling(reply), "another");
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.log(), ["p: before", "up: 0", "up: done", "p: 10", "p: after"]);
}

#[test]
fn a_call_that_its_own_vm_answers_before_it_returns_is_a_trap_that_says_what_envoy_does() {
    let reply = "(drop (call $send_reply (i32.const 418) {} {} {} (i32.const -1)))";
    let trap = "unreachable";
    for answer in [reply, trap] {
        let mut rig = twice(&calling(answer), "");
        rig.advance(Duration::from_millis(100));
        assert_eq!(rig.log()[..2], ["p: before", "up: 1"]);
        let failure = rig.worker.failure("p").unwrap();
        assert!(failure.contains("Envoy's worker never gets out of it"), "{failure}");
    }
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
