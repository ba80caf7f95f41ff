//! The router: endpoints, retries, timeouts, limits, and its words for what went wrong.

use crate::rig::{Plugin, Setup, request};
use bytes::Bytes;
use host_sim_engine::UpstreamFailureKind;
use std::time::Duration;

const ACCESS_LOG: &str = r#"access_log: [{name: l, typed_config: {
            "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog,
            log_format: {text_format_source: {inline_string: "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_HOST% %FILTER_STATE(wasm.foo:PLAIN)%\n"}}}}]"#;

fn setup(action: &'static str) -> Setup {
    Setup { action, manager: ACCESS_LOG, ..Setup::default() }
}

#[test]
fn a_refused_connection_is_a_503_with_flag_and_details() {
    let mut rig = setup("").start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.fail(attempt.id, UpstreamFailureKind::ConnectFailure);
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.body,
        "upstream connect error or disconnect/reset before headers. reset reason: remote \
         connection failure"
    );
    assert_eq!(
        rig.log(),
        ["/dev/stdout: 503 UF upstream_reset_before_response_started{remote_connection_failure|\
          delayed_connect_error:_Connection_refused} 127.0.0.1:9001 -"]
    );
}

#[test]
fn retries_go_on_until_they_are_used_up_and_then_say_urx() {
    let mut rig = setup("retry_policy: {retry_on: connect-failure, num_retries: 2}").start();
    let id = rig.get("/");
    for _ in 0..3 {
        let attempt = rig.attempt();
        rig.fail(attempt.id, UpstreamFailureKind::ConnectFailure);
        rig.advance(Duration::from_millis(250));
    }
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert!(answer.body.contains("retried and the latest reset reason"), "{}", answer.body);
    assert!(rig.log()[0].starts_with("/dev/stdout: 503 URX,UF "));
    assert_eq!(rig.engine.stats().counter_value("cluster.backend.upstream_rq_retry"), 2);
    assert_eq!(rig.engine.stats().gauge_value("cluster.backend.upstream_rq_active"), 0);
}

#[test]
fn a_retried_response_never_reaches_the_client() {
    let mut rig = setup("retry_policy: {retry_on: 5xx}").start();
    let id = rig.begin();
    rig.worker.request_headers(id, crate::rig::request("POST", "/"), false);
    rig.worker.request_data(id, bytes::Bytes::from_static(b"body"), true);
    let attempt = rig.attempt();
    rig.respond(attempt.id, "503", "");
    rig.advance(Duration::from_millis(25));
    let second = rig.attempt();
    assert_eq!((second.body.as_str(), second.ended), ("body", true));
    rig.respond(second.id, "200", "");
    assert_eq!(rig.answer(id).status(), 200);
}

#[test]
fn a_request_that_is_still_coming_in_is_retried_with_what_there_is_of_it() {
    let mut rig = setup("retry_policy: {retry_on: connect-failure}").start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"bo"), false);
    let first = rig.attempt();
    rig.fail(first.id, UpstreamFailureKind::ConnectFailure);
    rig.worker.request_data(id, Bytes::from_static(b"d"), false);
    rig.advance(Duration::from_millis(25));
    rig.worker.request_data(id, Bytes::from_static(b"y"), true);
    let second = rig.attempt();
    assert_eq!((second.body.as_str(), second.ended), ("body", true));
    rig.respond(second.id, "200", "");
    assert_eq!(rig.answer(id).status(), 200);
}

#[test]
fn a_body_that_grows_too_long_between_two_attempts_is_a_507() {
    let mut rig = setup("retry_policy: {retry_on: connect-failure}").start();
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    let first = rig.attempt();
    rig.fail(first.id, UpstreamFailureKind::ConnectFailure);
    rig.worker.request_data(id, Bytes::from(vec![0; 1024 * 1024 + 1]), false);
    assert_eq!(rig.answer(id).status(), 507);
}

#[test]
fn each_way_to_break_off_has_its_own_status_flag_and_word() {
    use UpstreamFailureKind as Kind;
    for (kind, expected) in [
        (Kind::ResetBeforeHeaders, "503 UC connection_termination"),
        (Kind::RemoteReset, "503 UR remote_reset"),
        (Kind::RefusedStream, "503 UR remote_refused_stream_reset"),
        (Kind::ProtocolError, "502 UPE protocol_error"),
    ] {
        let mut rig = setup("").start();
        let id = rig.get("/");
        let attempt = rig.attempt();
        rig.fail(attempt.id, kind);
        rig.answer(id);
        rig.worker.downstream_complete(id);
        let (status, token) = expected.rsplit_once(' ').unwrap();
        let line = format!("{status} upstream_reset_before_response_started{{{token}}}");
        let log = rig.log();
        assert!(log[0].contains(&line), "{log:?}");
    }
}

#[test]
fn headers_that_a_filter_made_impossible_to_send_are_a_503() {
    let spoil = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $replace_header (i32.const 0) {x bad} {1})) (i32.const 0))"#;
    let mut rig = Setup { plugins: vec![Plugin::new("spoil", spoil)], ..setup("") }.start();
    let id = rig.get("/");
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!((answer.status(), answer.body.as_str()), (503, "invalid header name: x bad"));
    assert!(rig.attempts.is_empty());
    let details = "filter_removed_required_request_headers{invalid_header_name:_x_bad}";
    assert!(rig.log()[0].starts_with(&format!("/dev/stdout: 503 DPE {details} ")));
}

#[test]
fn a_response_that_lost_its_status_to_a_filter_is_a_502() {
    let spoil = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (drop (call $replace_header (i32.const 2) {:status} {odd})) (i32.const 0))"#;
    let mut rig = Setup { plugins: vec![Plugin::new("spoil", spoil)], ..setup("") }.start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    let held = attempt.id;
    rig.attempts.push_back(attempt);
    rig.respond(held, "200", "lost");
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str()), (502, "missing required header: :status"));
}

#[test]
fn a_client_cannot_ask_for_retries_nor_for_more_time() {
    let mut rig = setup("").start();
    let id = rig.begin();
    let mut headers = request("GET", "/");
    headers.add(b"x-envoy-retry-on", b"5xx");
    headers.add(b"x-envoy-upstream-rq-timeout-ms", b"999000");
    rig.worker.request_headers(id, headers, true);
    let attempt = rig.attempt();
    assert_eq!(attempt.headers.get_str("x-envoy-expected-rq-timeout-ms"), Some("15000"));
    rig.respond(attempt.id, "503", "");
    assert_eq!(rig.answer(id).status(), 503);
}

#[test]
fn the_routes_timeout_is_a_504_and_cancels_the_attempt() {
    let mut rig = setup("timeout: 1s").start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    assert_eq!(attempt.headers.get_str("x-envoy-expected-rq-timeout-ms"), Some("1000"));
    rig.attempts.push_back(attempt);
    rig.advance(Duration::from_secs(1));
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!((answer.status(), answer.body.as_str()), (504, "upstream request timeout"));
    assert!(rig.attempts[0].cancelled);
    assert_eq!(rig.log(), ["/dev/stdout: 504 UT response_timeout 127.0.0.1:9001 -"]);
    assert_eq!(rig.worker.next_deadline(), None);
}

#[test]
fn a_per_try_timeout_can_be_retried() {
    let mut rig =
        setup("timeout: 9s, retry_policy: {retry_on: reset, num_retries: 1, per_try_timeout: 1s}")
            .start();
    let id = rig.get("/");
    let first = rig.attempt();
    rig.attempts.push_back(first);
    rig.advance(Duration::from_secs(1));
    rig.advance(Duration::from_millis(25));
    assert_eq!(rig.answer(id).status(), 0);
    assert_eq!(rig.attempts.len(), 2);
    rig.advance(Duration::from_secs(1));
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!(answer.status(), 504);
    let log = rig.log();
    assert!(log[0].starts_with("/dev/stdout: 504 URX,UT upstream_per_try_timeout"), "{log:?}");
}

#[test]
fn no_endpoint_no_route_and_no_cluster_have_their_own_answers() {
    let hosts = "- {name: all, domains: ['*'], routes: [
              {match: {path: /empty}, route: {cluster: empty}},
              {match: {path: /unknown}, route: {cluster_header: x-cluster}}]}";
    let setup = Setup { virtual_hosts: Some(hosts), ..setup("") };
    let mut rig = setup.start();
    let mut ask = |path: &str| {
        let id = rig.get(path);
        let answer = rig.answer(id);
        rig.worker.downstream_complete(id);
        (answer.status(), answer.body, rig.log().remove(0))
    };
    let empty = ask("/empty");
    assert_eq!((empty.0, empty.1.as_str()), (503, "no healthy upstream"));
    assert_eq!(empty.2, "/dev/stdout: 503 UH no_healthy_upstream - -");
    assert_eq!(ask("/nowhere").2, "/dev/stdout: 404 NR route_not_found - -");
    assert_eq!(ask("/unknown").2, "/dev/stdout: 503 NC cluster_not_found - -");
}

#[test]
fn a_full_cluster_answers_overloaded() {
    let cluster = "circuit_breakers: {thresholds: [{max_requests: 1}]}";
    let mut rig = Setup { cluster, ..setup("") }.start();
    rig.get("/");
    let _held = rig.attempt();
    let id = rig.get("/");
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers.get_str("x-envoy-overloaded"), Some("true"));
    assert!(answer.body.ends_with("reset reason: overflow"));
    assert!(rig.log()[0].contains(" UO upstream_reset_before_response_started{overflow} "));
}

#[test]
fn a_reset_after_the_headers_resets_the_client() {
    let mut rig = setup("").start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    let headers = host_sim_engine::Headers::from_pairs([(":status", "200")]);
    rig.worker.upstream_headers(attempt.id, headers, false);
    rig.fail(attempt.id, UpstreamFailureKind::ResetMidStream);
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.reset), (200, true));
    assert_eq!(
        rig.log(),
        ["/dev/stdout: 200 UPE upstream_reset_after_response_started{protocol_error} \
          127.0.0.1:9001 -"]
    );
}

#[test]
fn a_client_that_goes_away_cancels_the_attempt_and_is_logged() {
    let mut rig = setup("").start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.attempts.push_back(attempt);
    rig.worker.downstream_reset(id);
    rig.answer(id);
    assert!(rig.attempts[0].cancelled);
    assert_eq!(rig.log(), ["/dev/stdout: 0 DC downstream_remote_disconnect 127.0.0.1:9001 -"]);
}

#[test]
fn a_session_goes_to_its_endpoint_once_and_is_told_of_another() {
    let steer = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $replace_header (i32.const 0) {x-session} {MTI3LjAuMC4xOjkwMDI=}))
        (i32.const 0))"#;
    let after = r#"{name: s, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession,
        session_state: {name: h, typed_config: {
          "@type": type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState,
          name: x-session}}}}"#;
    let mut rig = Setup {
        plugins: vec![Plugin::new("steer", steer)],
        filters: vec![after.to_owned()],
        ports: vec![9001, 9002],
        ..setup("retry_policy: {retry_on: 5xx, num_retries: 1}")
    }
    .start();
    for _ in 0..4 {
        let id = rig.get("/");
        let attempt = rig.attempt();
        assert_eq!(attempt.endpoint.port(), 9002);
        rig.respond(attempt.id, "200", "");
        assert_eq!(rig.answer(id).headers.get_str("x-session"), None);
    }
    let id = rig.get("/");
    let mut served = 0;
    for status in ["503", "200"] {
        let attempt = rig.attempt();
        served = attempt.endpoint.port();
        rig.respond(attempt.id, status, "");
        rig.advance(Duration::from_millis(250));
    }
    let told = rig.answer(id).headers.get_str("x-session").map(str::to_owned);
    let other = (served == 9001).then(|| "MTI3LjAuMC4xOjkwMDE=".to_owned());
    assert_eq!(told, other);
}

#[test]
fn a_named_list_of_endpoints_is_walked_by_retries_and_unknown_ones_are_skipped() {
    let cluster = r#"load_balancing_policy: {policies: [{typed_extension_config: {name: o,
      typed_config: {"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost,
        override_host_sources: [{header: x-endpoint}],
        fallback_policy: {policies: [{typed_extension_config: {name: r,
          typed_config: {"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}}}]}}}}]}"#;
    let steer = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $replace_header (i32.const 0) {x-endpoint}
          {10.9.9.9:1,127.0.0.1:9003,127.0.0.1:9002}))
        (drop (call $set_property {foo} {bar}))
        (i32.const 0))"#;
    let mut rig = Setup {
        plugins: vec![Plugin::new("steer", steer)],
        ports: vec![9001, 9002, 9003],
        cluster,
        ..setup("retry_policy: {retry_on: 5xx, num_retries: 3}")
    }
    .start();
    let id = rig.get("/");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let attempt = rig.attempt();
        seen.push(attempt.endpoint.port());
        rig.respond(attempt.id, "503", "");
        rig.advance(Duration::from_millis(250));
    }
    let attempt = rig.attempt();
    rig.respond(attempt.id, "200", "");
    assert_eq!(seen, [9003, 9002]);
    assert_eq!(rig.answer(id).status(), 200);
    rig.worker.downstream_complete(id);
    assert!(rig.log()[0].ends_with(" bar"), "filter state is in the access log");
}

#[test]
fn the_routes_timeout_does_not_count_once_the_response_has_ended() {
    let hold = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (i32.const 1))"#;
    let plugins = vec![Plugin::new("hold", hold)];
    let manager = "stream_idle_timeout: 0s";
    let mut rig = Setup { plugins, manager, ..setup("timeout: 1s") }.start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.respond(attempt.id, "200", "");
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.answer(id).status(), 0);
    assert_eq!(rig.worker.next_deadline(), None);
}

fn rate_limit(more: &str) -> String {
    format!(
        r#"{{name: limit, typed_config: {{
        "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit,
        stat_prefix: limit, {more}
        token_bucket: {{max_tokens: 1, fill_interval: 60s}},
        filter_enabled: {{default_value: {{numerator: 100}}}},
        filter_enforced: {{default_value: {{numerator: 100}}}}}}}}"#
    )
}

#[test]
fn the_native_rate_limit_refuses_with_its_own_flag_and_details() {
    let mut rig = Setup { filters: vec![rate_limit("")], ..setup("") }.start();
    assert_eq!(rig.get_ok("/").status(), 200);
    rig.log();
    let id = rig.get("/");
    let answer = rig.answer(id);
    rig.worker.downstream_complete(id);
    assert_eq!((answer.status(), answer.body.as_str()), (429, "local_rate_limited"));
    assert_eq!(rig.log(), ["/dev/stdout: 429 RL local_rate_limited - -"]);
    let refused = "limit.http_local_rate_limit.enforced";
    assert_eq!(rig.engine.stats().counter_value(refused), 1);
}

#[test]
fn the_native_rate_limit_says_when_to_come_back_if_it_is_told_to() {
    let filter = rate_limit("enable_retry_after_header: true,");
    let mut rig = Setup { filters: vec![filter], ..setup("") }.start();
    rig.get_ok("/");
    rig.advance(Duration::from_millis(12_500));
    let id = rig.get("/");
    assert_eq!(rig.answer(id).headers.get_str("retry-after"), Some("48"));
}

#[test]
fn a_bucket_per_connection_is_an_error_and_not_a_silence() {
    let filter = rate_limit("local_rate_limit_per_downstream_connection: true,");
    let error = Setup { filters: vec![filter], ..setup("") }.try_start().err().unwrap();
    assert!(error.reason.contains("not simulated"), "{error}");
}
