//! How connections end, and in what order whom it is told.

use super::{GO_ON, Seen, Tcp, plugin, quiet, setup, start};
use crate::rig::{Rig, link};
use host_sim_engine::{ConnectionId, UpstreamFailure, UpstreamFailureKind};
use std::time::Duration;

#[test]
fn an_upstream_that_ends_first_closes_half_and_the_client_is_the_one_who_ends_it() {
    let mut rig = start(&[quiet("a")]);
    let id = rig.open_linked();
    rig.receive(id, "hello");
    rig.upstream_end(id);
    assert_eq!(
        rig.seen(),
        Seen { client: "hello".to_owned(), upstream: String::new(), events: vec!["client end"] }
    );
    rig.end(id);
    let trace = rig.trace();
    let ending = ["a: up 0 1", "a: upstream_closed 0", "a: down 0 1", "a: closed 2"];
    assert_eq!(trace[3..7], ending);
}

#[test]
fn closing_either_stream_ends_the_connection() {
    for stream in [2, 3] {
        let close = format!("(drop (call $close (i32.const {stream}))) (i32.const 0)");
        let mut rig = start(&[plugin("a", GO_ON, &close, GO_ON)]);
        let id = rig.open_linked();
        rig.send(id, "x");
        let seen = rig.seen();
        assert_eq!((seen.upstream.as_str(), seen.events), ("", vec!["upstream close", "close"]));
        assert_eq!(rig.trace()[3..7], ["a: closed 1", "a: done", "a: log", "a: delete"]);
        rig.send(id, "nobody there");
        assert_eq!(rig.seen(), Seen::default());
    }
}

#[test]
fn a_trap_ends_its_connection_and_the_policy_rules_the_later_ones() {
    let trap = "unreachable";
    // Policy, what later connections are, whether the connection that trapped goes on.
    for (policy, later, survives) in [
        ("failure_policy: FAIL_CLOSED", vec!["close"], false),
        ("failure_policy: FAIL_OPEN", vec!["connect"], false),
        ("fail_open: true", vec!["connect"], true),
    ] {
        for (new, down, up) in [(trap, GO_ON, GO_ON), (GO_ON, trap, GO_ON), (GO_ON, GO_ON, trap)] {
            let failing = plugin("a", new, down, up).more(policy);
            let mut rig = start(&[failing, quiet("b")]);
            let id = rig.open();
            rig.worker.upstream_connected(id, link());
            rig.send(id, "x");
            rig.receive(id, "y");
            let events = rig.seen().events;
            let closed = events.contains(&"close");
            assert_eq!(closed, !survives, "{policy} {events:?}");
            let trace = rig.trace();
            assert!(!trace.iter().any(|line| line == "a: done"), "{trace:?}");
            let other = trace.iter().any(|line| line == "b: closed 1");
            assert_eq!(other, !survives && new != trap, "{policy} {trace:?}");
            rig.open();
            assert_eq!(rig.seen().events, later, "{policy}");
        }
    }
}

#[test]
fn a_failed_vm_is_made_anew_for_a_later_connection() {
    let mut rig =
        start(&[plugin("a", GO_ON, "unreachable", GO_ON).more("failure_policy: FAIL_RELOAD")]);
    let id = rig.open_linked();
    rig.send(id, "x");
    assert_eq!(rig.seen().events, ["upstream close", "close"]);
    rig.open();
    assert_eq!(rig.seen().events, ["close"], "too early");
    rig.advance(Duration::from_secs(2));
    rig.log();
    rig.open();
    assert_eq!(rig.seen().events, ["connect"]);
    assert_eq!(rig.trace().last().unwrap(), "a: new");
}

#[test]
fn an_upstream_that_cannot_be_had_closes_the_connection() {
    let refused = || UpstreamFailure {
        kind: UpstreamFailureKind::ConnectFailure,
        detail: "Connection refused".to_owned(),
    };
    let mut rig = setup(&[quiet("a")], "cluster: backend, max_connect_attempts: 2").start();
    rig.log();
    let id = rig.open_linked_failing(refused);
    assert_eq!(rig.seen().events, ["connect"]);
    rig.worker.upstream_connect_failed(id, refused());
    assert_eq!(rig.seen().events, ["close"]);
    let trace = rig.trace();
    assert_eq!(trace[2..6], ["a: closed 1", "a: done", "a: log", "a: delete"]);
    let log = "UF,URX rx 0 tx 0 127.0.0.1:9001 - delayed_connect_error:_Connection_refused";
    assert_eq!(trace[6], format!("/dev/stdout: {log}"));
    assert_eq!(rig.engine.stats().counter_value("cluster.backend.upstream_cx_connect_fail"), 2);

    for (cluster, flags) in [("empty", "UH"), ("nonesuch", "NC")] {
        let mut rig = setup(&[quiet("a")], &format!("cluster: {cluster}")).start();
        rig.log();
        rig.open();
        assert_eq!(rig.seen().events, ["close"]);
        let log = rig.trace().pop().unwrap();
        assert_eq!(log, format!("/dev/stdout: {flags} rx 0 tx 0 - - -"));
    }
}

trait Failing {
    fn open_linked_failing(&mut self, failure: impl Fn() -> UpstreamFailure) -> ConnectionId;
}

impl Failing for Rig {
    /// A connection whose first endpoint has refused.
    fn open_linked_failing(&mut self, failure: impl Fn() -> UpstreamFailure) -> ConnectionId {
        let id = self.open();
        assert_eq!(self.seen().events, ["connect"]);
        self.worker.upstream_connect_failed(id, failure());
        id
    }
}

#[test]
fn an_upstream_that_resets_takes_the_client_with_it() {
    let mut rig = start(&[quiet("a")]);
    let id = rig.open_linked();
    rig.send(id, "ping");
    rig.worker.connection_upstream_reset(id);
    assert_eq!(rig.seen().events, ["upstream reset", "reset"]);
    let trace = rig.trace();
    assert_eq!(trace[3..5], ["a: closed 1", "a: done"]);
    assert_eq!(trace[7], "/dev/stdout: UR rx 4 tx 0 127.0.0.1:9001 - -");
}

#[test]
fn an_idle_connection_and_one_that_is_too_old_are_closed() {
    let mut rig = setup(&[quiet("a")], "cluster: backend, idle_timeout: 1s").start();
    let id = rig.open_linked();
    rig.advance(Duration::from_millis(900));
    rig.send(id, "x");
    rig.seen();
    rig.advance(Duration::from_millis(900));
    assert_eq!(rig.seen(), Seen::default());
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.seen().events, ["upstream close", "close"]);
    assert_eq!(rig.engine.stats().counter_value("tcp.t.idle_timeout"), 1);

    let fields = "cluster: backend, max_downstream_connection_duration: 1s";
    let mut rig = setup(&[quiet("a")], fields).start();
    let id = rig.open_linked();
    rig.advance(Duration::from_millis(900));
    rig.send(id, "x");
    rig.seen();
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.seen().events, ["upstream close", "close"]);
}

#[test]
fn a_proxy_that_stops_closes_connections_before_the_roots_go() {
    let mut rig = start(&[quiet("a")]);
    rig.open_linked();
    rig.log();
    rig.worker.shutdown();
    let mut trace = rig.trace();
    trace.remove(4);
    assert_eq!(trace, ["a: closed 1", "a: done", "a: log", "a: delete", "a: done"]);
    assert_eq!(rig.seen().events, ["upstream close", "close"]);
}
