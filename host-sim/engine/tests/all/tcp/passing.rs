//! How bytes pass a chain, and what a filter that pauses holds back.

use super::{GO_ON, PAUSE, Seen, Tcp, plugin, quiet, start};
use crate::rig::link;
use bytes::Bytes;

#[test]
fn a_connection_is_made_used_and_ended_in_envoys_order() {
    let mut rig = start(&[quiet("a")]);
    let id = rig.open_linked();
    rig.send(id, "ping");
    assert_eq!(rig.seen().upstream, "ping");
    rig.receive(id, "pong");
    assert_eq!(rig.seen().client, "pong");
    rig.end(id);
    assert_eq!(rig.seen().events, ["upstream end"]);
    rig.upstream_end(id);
    assert_eq!(rig.seen().events, ["client end", "upstream close", "close"]);
    let expected = [
        "a: create",
        "a: new",
        "a: down 4 0",
        "a: up 4 0",
        "a: down 0 1",
        "a: up 0 1",
        "a: upstream_closed 0",
        "a: closed 1",
        "a: done",
        "a: log",
        "a: delete",
    ];
    let mut trace = rig.trace();
    assert_eq!(trace.pop().unwrap(), "/dev/stdout: - rx 4 tx 4 127.0.0.1:9001 - -");
    assert_eq!(trace, expected);
    assert_eq!(rig.engine.stats().counter_value("tcp.t.downstream_cx_total"), 1);
    assert_eq!(rig.engine.stats().counter_value("tcp.t.downstream_cx_rx_bytes_total"), 4);
}

#[test]
fn bytes_pass_a_chain_forth_and_back_and_each_context_ends_as_a_whole() {
    let mut rig = start(&[quiet("a"), quiet("b")]);
    let id = rig.open_linked();
    rig.send(id, "x");
    rig.receive(id, "y");
    rig.worker.connection_reset(id);
    assert_eq!(rig.seen().events, ["upstream reset", "close"]);
    let mut trace = rig.trace();
    trace.pop();
    assert_eq!(
        trace,
        [
            "a: create",
            "a: new",
            "b: create",
            "b: new",
            "a: down 1 0",
            "b: down 1 0",
            "b: up 1 0",
            "a: up 1 0",
            "a: closed 2",
            "a: done",
            "a: log",
            "a: delete",
            "b: closed 2",
            "b: done",
            "b: log",
            "b: delete",
        ]
    );
}

#[test]
fn nobody_reads_from_a_client_before_there_is_an_upstream() {
    let mut rig = start(&[quiet("a")]);
    let id = rig.open();
    assert!(!rig.worker.reads_downstream(id));
    rig.send(id, "abc");
    rig.end(id);
    assert_eq!(rig.trace(), ["a: create", "a: new"]);
    rig.worker.upstream_connected(id, link());
    // All that has come is one read.
    assert_eq!(rig.trace(), ["a: down 3 1"]);
    let seen = rig.seen();
    assert_eq!((seen.upstream.as_str(), seen.events), ("abc", vec!["connect", "upstream end"]));
}

#[test]
fn what_a_paused_filter_holds_back_comes_again_with_what_is_new() {
    // Pauses for the first four bytes of either way.
    let short = "(i32.lt_u (local.get $n) (i32.const 8))";
    let mut rig = start(&[plugin("a", GO_ON, short, short)]);
    let id = rig.open_linked();
    rig.send(id, "ping");
    assert_eq!(rig.seen(), Seen::default());
    rig.send(id, "pong");
    assert_eq!(rig.seen().upstream, "pingpong");
    rig.receive(id, "1234");
    assert_eq!(rig.seen(), Seen::default());
    rig.receive(id, "5678");
    assert_eq!(rig.seen().client, "12345678");
    assert_eq!(rig.trace()[2..], ["a: down 4 0", "a: down 8 0", "a: up 4 0", "a: up 8 0"]);
}

#[test]
fn an_answer_held_back_to_the_end_is_lost_with_the_connection() {
    let mut rig = start(&[plugin("a", GO_ON, GO_ON, PAUSE)]);
    let id = rig.open_linked();
    rig.receive(id, "ping");
    rig.end(id);
    rig.upstream_end(id);
    let seen = rig.seen();
    assert_eq!((seen.client.as_str(), seen.events.last()), ("", Some(&"close")));
    let trace = rig.trace();
    assert_eq!(
        trace[2..7],
        ["a: up 4 0", "a: down 0 1", "a: up 4 1", "a: upstream_closed 0", "a: closed 1",]
    );
}

#[test]
fn a_paused_connection_goes_on_when_a_call_is_answered() {
    let call = r#"(drop (call $http_call {backend}
        {HEADERS} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 4096)))"#;
    let headers = [(":method", "GET"), (":path", "/"), (":authority", "x")];
    let call = call.replace("HEADERS", &host_sim_guest::encoded(&headers));
    let mut rig = start(&[plugin("a", &format!("{call} {PAUSE}"), GO_ON, GO_ON), quiet("b")]);
    let id = rig.open();
    let attempt = rig.attempt();
    assert_eq!(rig.trace(), ["a: create", "a: new"]);
    rig.respond(attempt.id, "200", "");
    assert_eq!(rig.trace(), ["a: resume 0", "b: create", "b: new"]);
    assert_eq!(rig.seen().events, ["connect"]);
    // The same in the middle of the bytes: filters behind get them when the first one resumes.
    rig.worker.upstream_connected(id, link());
    rig.send(id, "x");
    assert_eq!(rig.trace(), ["a: down 1 0", "b: down 1 0"]);
}

#[test]
fn a_resume_within_a_callback_is_done_when_it_has_returned() {
    let resume = "(call $say (call $continue (i32.const 2))) (i32.const 1)";
    let mut rig = start(&[plugin("a", resume, resume, GO_ON), quiet("b")]);
    let id = rig.open_linked();
    rig.send(id, "ping");
    assert_eq!(rig.seen().upstream, "ping");
    assert_eq!(
        rig.trace(),
        ["a: create", "a: new 0", "b: create", "b: new", "a: down 4 0 0", "b: down 4 0",]
    );
}

#[test]
fn the_other_kinds_of_streams_are_answered_as_envoy_does() {
    let all =
        "(call $say (call $continue (i32.const 0))) (call $say (call $continue (i32.const 1)))
        (call $say (call $continue (i32.const 3))) (call $say (call $continue (i32.const 4)))
        (call $say (call $close (i32.const 0))) (call $say (call $close (i32.const 1)))
        (call $say (call $close (i32.const 4)))
        (call $say (call $send_reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))) (i32.const 0)";
    let mut rig = start(&[plugin("a", all, GO_ON, GO_ON)]);
    rig.open();
    assert_eq!(rig.trace(), ["a: create", "a: new 0 0 12 2 0 0 2 0"]);
    assert_eq!(rig.seen().events, ["connect"]);
}

#[test]
fn buffers_are_seen_and_changed_in_their_own_callback_only() {
    // Prepends `<`, replaces nothing in the middle, appends `>`; the other way's buffer is shut.
    let edit = |own: u32, other: u32| {
        format!(
            r#"(call $say (call $set_buffer (i32.const {own}) (i32.const 0) (i32.const 0) {{<}}))
            (call $say (call $set_buffer (i32.const {own}) (i32.const 1) (i32.const 1) {{!}}))
            (call $say (call $set_buffer (i32.const {own}) (i32.const 99) (i32.const 0) {{>}}))
            (call $say (call $set_buffer (i32.const {other}) (i32.const 0) (i32.const 0) {{!}}))
            (call $say (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) {{!}}))
            (drop (call $buffer (i32.const {own}) (i32.const 0) (i32.const 99)
              (i32.const 4096) (i32.const 4100))) (call $say_value) (i32.const 0)"#
        )
    };
    let mut rig = start(&[plugin("a", &edit(2, 3), &edit(2, 3), &edit(3, 2))]);
    let id = rig.open_linked();
    rig.send(id, "ping");
    rig.receive(id, "pong");
    let seen = rig.seen();
    assert_eq!((seen.client.as_str(), seen.upstream.as_str()), ("<pong>", "<ping>"));
    assert_eq!(
        rig.trace(),
        [
            "a: create",
            "a: new 2 2 2 2 2",
            "a: ",
            "a: down 4 0 0 2 0 2 2",
            "a: <ping>",
            "a: up 4 0 0 2 0 2 2",
            "a: <pong>",
        ]
    );
}

#[test]
fn a_buffer_that_is_full_stops_the_reading() {
    let mut rig = start(&[plugin("a", GO_ON, PAUSE, PAUSE)]);
    let id = rig.open_linked();
    let chunk = || Bytes::from(vec![b'x'; 512 * 1024]);
    rig.worker.connection_data(id, chunk(), false);
    assert!(rig.worker.reads_downstream(id));
    rig.worker.connection_data(id, chunk(), false);
    assert!(!rig.worker.reads_downstream(id));
    rig.log();
    rig.worker.connection_data(id, chunk(), false);
    assert_eq!(rig.trace(), Vec::<String>::new(), "kept, not offered");
}
