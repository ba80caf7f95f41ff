//! How long an exchange may take, and what its client sees when it takes longer.

use crate::rig::{Rig, Setup, request};
use bytes::Bytes;
use host_sim_engine::{ExchangeId, Headers};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(999);

fn start(manager: &'static str) -> Rig {
    Setup { manager, action: "timeout: 0s", ..Setup::default() }.start()
}

fn upload(rig: &mut Rig) -> ExchangeId {
    let id = rig.begin();
    rig.worker.request_headers(id, request("POST", "/"), false);
    id
}

#[test]
fn an_idle_exchange_ends_with_504_when_its_request_is_complete() {
    let mut rig = start("stream_idle_timeout: 1s");
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.attempts.push_back(attempt);
    rig.advance(MOMENT);
    assert_eq!(rig.answer(id).status(), 0);
    rig.advance(Duration::from_millis(1));
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str()), (504, "stream timeout"));
    assert_eq!(rig.engine.stats().counter_value("http.ingress.downstream_rq_idle_timeout"), 1);
    rig.worker.downstream_complete(id);
    assert_eq!(rig.worker.next_deadline(), None);
}

#[test]
fn whatever_moves_puts_the_idle_timeout_off() {
    let mut rig = start("stream_idle_timeout: 1s");
    let id = upload(&mut rig);
    for _ in 0..3 {
        rig.advance(MOMENT);
        rig.worker.request_data(id, Bytes::from_static(b"x"), false);
    }
    let attempt = rig.attempt();
    assert_eq!(attempt.body, "xxx");
    rig.attempts.push_back(attempt);
    rig.advance(Duration::from_secs(1));
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str()), (408, "stream timeout"));
}

#[test]
fn an_idle_response_is_cut() {
    let mut rig = start("stream_idle_timeout: 1s");
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.worker.upstream_headers(attempt.id, Headers::from_pairs([(":status", "200")]), false);
    assert!(!rig.answer(id).reset);
    rig.attempts.push_back(attempt);
    rig.advance(Duration::from_secs(1));
    assert!(rig.answer(id).reset);
    assert!(rig.attempts[0].cancelled);
}

#[test]
fn a_routes_own_idle_timeout_replaces_the_listeners() {
    let setup = Setup { action: "timeout: 0s, idle_timeout: 2s", ..Setup::default() };
    let mut rig = Setup { manager: "stream_idle_timeout: 1s", ..setup }.start();
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.attempts.push_back(attempt);
    rig.advance(Duration::from_millis(1999));
    assert_eq!(rig.answer(id).status(), 0);
    rig.advance(Duration::from_millis(1));
    assert_eq!(rig.answer(id).status(), 504);
}

#[test]
fn a_request_that_takes_too_long_is_a_408_and_a_slow_response_is_not() {
    let mut rig = start("request_timeout: 1s");
    let id = upload(&mut rig);
    let attempt = rig.attempt();
    rig.attempts.push_back(attempt);
    rig.advance(Duration::from_secs(1));
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str()), (408, "request timeout"));
    let id = rig.get("/");
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.answer(id).status(), 0);
}

#[test]
fn an_exchange_lives_no_longer_than_it_may() {
    let mut rig = start("common_http_protocol_options: {max_stream_duration: 1s}");
    let id = rig.get("/");
    let attempt = rig.attempt();
    rig.attempts.push_back(attempt);
    rig.advance(Duration::from_secs(1));
    let answer = rig.answer(id);
    assert_eq!((answer.status(), answer.body.as_str()), (504, "downstream duration timeout"));
}
