//! Plugins as network filters before the TCP proxy. What is expected here was logged by Envoy.

use crate::rig::{Plugin, Rig, Setup};
use bytes::Bytes;
use host_sim_engine::{
    ConnectionId, Downstream, Output, Protocol, UpstreamFailure, UpstreamFailureKind,
};
use std::time::Duration;

/// A plugin that logs each callback with its numbers. The three bodies answer what a callback
/// returns; `$c` is the context, `$n` the size, `$end` the end.
fn plugin(name: &'static str, new: &str, down: &str, up: &str) -> Plugin {
    Plugin::new(
        name,
        &format!(
            r#"
  (import_marker)
  (func (export "proxy_on_context_create") (param $c i32) (param $root i32)
    (if (local.get $root) (then (global.set $last (local.get $c)) (call $log {{create}}))))
  (global $last (mut i32) (i32.const 0))
  (func (export "proxy_on_new_connection") (param $c i32) (result i32)
    (call $log {{new}}) {new})
  (func (export "proxy_on_downstream_data")
    (param $c i32) (param $n i32) (param $end i32) (result i32)
    (call $log {{down}}) (call $say (local.get $n)) (call $say (local.get $end)) {down})
  (func (export "proxy_on_upstream_data")
    (param $c i32) (param $n i32) (param $end i32) (result i32)
    (call $log {{up}}) (call $say (local.get $n)) (call $say (local.get $end)) {up})
  (func (export "proxy_on_downstream_connection_close") (param $c i32) (param $by i32)
    (call $log {{closed}}) (call $say (local.get $by)))
  (func (export "proxy_on_upstream_connection_close") (param $c i32) (param $by i32)
    (call $log {{upstream_closed}}) (call $say (local.get $by)))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (drop (call $effective (global.get $last)))
    (call $log {{resume}}) (call $say (call $continue (i32.const 2))))
  (func (export "proxy_on_done") (param i32) (result i32) (call $log {{done}}) (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $log {{log}}))
  (func (export "proxy_on_delete") (param i32) (call $log {{delete}}))"#
        )
        .replace("(import_marker)", ""),
    )
}

const GO_ON: &str = "(i32.const 0)";
const PAUSE: &str = "(i32.const 1)";

fn quiet(name: &'static str) -> Plugin {
    plugin(name, GO_ON, GO_ON, GO_ON)
}

/// The chain of these plugins and a TCP proxy with these fields.
fn setup(plugins: &[Plugin], fields: &str) -> Setup {
    let network = "type.googleapis.com/envoy.extensions.filters.network";
    let fields = if fields.is_empty() { "cluster: backend" } else { fields };
    let log = r#"access_log: [{name: l, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: {text_format_source: {inline_string: "%RESPONSE_FLAGS% rx %BYTES_RECEIVED% tx %BYTES_SENT% %UPSTREAM_HOST% %PROTOCOL% %UPSTREAM_TRANSPORT_FAILURE_REASON%"}}}}]"#;
    let mut chain = String::new();
    for plugin in plugins {
        chain += &plugin.filter().replace("filters.http.wasm", "filters.network.wasm");
        chain += ", ";
    }
    chain += &format!(
        r#"{{name: tcp, typed_config: {{"@type": {network}.tcp_proxy.v3.TcpProxy, stat_prefix: t, {fields}, {log}}}}}"#
    );
    Setup { chain: Some(chain), ports: vec![9001], ..Setup::default() }
}

fn start(plugins: &[Plugin]) -> Rig {
    let rig = setup(plugins, "").start();
    rig.log();
    rig
}

/// What a connection's two ends got since the last look.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    client: String,
    upstream: String,
    /// What else happened: `connect`, `client end`, `upstream end`, `close`, `upstream close`,
    /// `reset`, `upstream reset`.
    events: Vec<&'static str>,
}

trait Tcp {
    fn open(&mut self) -> ConnectionId;
    fn open_linked(&mut self) -> ConnectionId;
    fn send(&mut self, id: ConnectionId, text: &'static str);
    fn end(&mut self, id: ConnectionId);
    fn receive(&mut self, id: ConnectionId, text: &'static str);
    fn upstream_end(&mut self, id: ConnectionId);
    fn seen(&mut self) -> Seen;
    fn trace(&self) -> Vec<String>;
}

impl Tcp for Rig {
    fn open(&mut self) -> ConnectionId {
        let downstream = Downstream {
            remote: ([10, 0, 0, 1], 4000).into(),
            local: ([127, 0, 0, 1], 8080).into(),
            tls: None,
            protocol: Protocol::Http11,
            connection_id: 7,
        };
        self.worker.open_connection(0, downstream)
    }

    /// A connection whose upstream is there.
    fn open_linked(&mut self) -> ConnectionId {
        let id = self.open();
        assert_eq!(self.seen().events, ["connect"]);
        self.worker.upstream_connected(id, ([127, 0, 0, 1], 5000).into());
        id
    }

    fn send(&mut self, id: ConnectionId, text: &'static str) {
        self.worker.connection_data(id, Bytes::from_static(text.as_bytes()), false);
    }

    fn end(&mut self, id: ConnectionId) {
        self.worker.connection_data(id, Bytes::new(), true);
    }

    fn receive(&mut self, id: ConnectionId, text: &'static str) {
        self.worker.connection_upstream_data(id, Bytes::from_static(text.as_bytes()), false);
    }

    fn upstream_end(&mut self, id: ConnectionId) {
        self.worker.connection_upstream_data(id, Bytes::new(), true);
    }

    fn seen(&mut self) -> Seen {
        let mut seen = Seen::default();
        while let Some(output) = self.worker.poll_output() {
            let text = |data: &Bytes| String::from_utf8(data.to_vec()).unwrap();
            match output {
                Output::ConnectUpstream { endpoint, .. } => {
                    assert_eq!(endpoint.port(), 9001);
                    seen.events.push("connect");
                }
                Output::UpstreamBytes { data, end_stream, .. } => {
                    seen.upstream += &text(&data);
                    seen.events.extend(end_stream.then_some("upstream end"));
                }
                Output::DownstreamBytes { data, end_stream, .. } => {
                    seen.client += &text(&data);
                    seen.events.extend(end_stream.then_some("client end"));
                }
                Output::CloseUpstream { reset, .. } => {
                    seen.events.push(if reset { "upstream reset" } else { "upstream close" });
                }
                Output::CloseDownstream { reset, .. } => {
                    seen.events.push(if reset { "reset" } else { "close" });
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        seen
    }

    /// Log lines since the last look, a callback's numbers behind its name.
    fn trace(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for line in self.log() {
            let text = line.split_once(": ").map_or("", |(_, text)| text);
            match lines.last_mut().filter(|_| text.parse::<u64>().is_ok()) {
                Some(last) => *last = format!("{last} {text}"),
                None => lines.push(line),
            }
        }
        lines
    }
}

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
fn nobody_reads_from_a_client_before_there_is_an_upstream() {
    let mut rig = start(&[quiet("a")]);
    let id = rig.open();
    assert!(!rig.worker.reads_downstream(id));
    rig.send(id, "abc");
    rig.end(id);
    assert_eq!(rig.trace(), ["a: create", "a: new"]);
    rig.worker.upstream_connected(id, ([127, 0, 0, 1], 5000).into());
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
    let call = call.replace("HEADERS", &crate::guest::encoded(&headers));
    let mut rig = start(&[plugin("a", &format!("{call} {PAUSE}"), GO_ON, GO_ON), quiet("b")]);
    let id = rig.open();
    let attempt = rig.attempt();
    assert_eq!(rig.trace(), ["a: create", "a: new"]);
    rig.respond(attempt.id, "200", "");
    assert_eq!(rig.trace(), ["a: resume 0", "b: create", "b: new"]);
    assert_eq!(rig.seen().events, ["connect"]);
    // The same in the middle of the bytes: filters behind get them when the first one resumes.
    rig.worker.upstream_connected(id, ([127, 0, 0, 1], 5000).into());
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
            rig.worker.upstream_connected(id, ([127, 0, 0, 1], 5000).into());
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

/// Logs the named properties, each as its status or its bytes.
fn properties(names: &[&str]) -> String {
    let mut body = String::new();
    for name in names {
        let path = name.replace('.', "\0");
        body += &format!(
            r#"(if (i32.eqz (call $property {{{path}}} (i32.const 4096) (i32.const 4100)))
              (then (call $say_value)) (else (call $log {{-}})))"#
        );
    }
    body
}

#[test]
fn properties_are_the_connections_own() {
    let names = [
        "source.address",
        "destination.address",
        "upstream.address",
        "upstream.local_address",
        "xds.cluster_name",
        "connection.requested_server_name",
        "connection.tls_version",
        "upstream.transport_failure_reason",
        "request.path",
        "request.protocol",
        "response.code",
        "xds.route_name",
        "plugin_name",
        "metadata",
    ];
    let body = format!("{} (i32.const 0)", properties(&names));
    let mut rig = start(&[plugin("a", &body, &body, GO_ON)]);
    let id = rig.open_linked();
    let new = rig.trace();
    assert_eq!(
        new[2..],
        [
            "a: 10.0.0.1:4000",
            "a: 127.0.0.1:8080",
            "a: -",
            "a: -",
            "a: -",
            "a: ",
            "a: -",
            "a: ",
            "a: -",
            "a: -",
            "a: -",
            "a: -",
            "a: a",
            "a: ",
        ]
    );
    rig.send(id, "ping");
    let down = rig.trace();
    assert_eq!(
        down[1..7],
        [
            "a: 10.0.0.1:4000",
            "a: 127.0.0.1:8080",
            "a: 127.0.0.1:9001",
            "a: 127.0.0.1:5000",
            "a: backend",
            "a: ",
        ]
    );
}

#[test]
fn a_property_that_a_plugin_sets_is_seen_by_the_next_one() {
    let set = r#"(drop (call $set_property {foo} {bar})) (i32.const 0)"#;
    let get = format!("{} (i32.const 0)", properties(&["foo"]));
    let mut rig = start(&[plugin("a", set, GO_ON, GO_ON), plugin("b", &get, GO_ON, GO_ON)]);
    rig.open();
    assert_eq!(rig.trace()[4], "b: bar");
}

#[test]
fn a_plugin_names_the_cluster_in_filter_state() {
    // SetEnvoyFilterStateArguments: path = 1, value = 2.
    let args = "\u{a}\u{17}envoy.tcp_proxy.cluster\u{12}\u{7}backend";
    let set = format!(
        r#"(call $say (call $foreign {{set_envoy_filter_state}} {{{args}}}
             (i32.const 4096) (i32.const 4100))) (i32.const 0)"#
    );
    let mut rig = setup(&[plugin("a", &set, GO_ON, GO_ON)], "cluster: empty").start();
    rig.open();
    assert_eq!(rig.seen().events, ["connect"]);
}

#[test]
fn a_callback_that_is_not_allowed_is_not_called_and_a_hostcall_answers_10() {
    let resume = "(call $say (call $continue (i32.const 2))) (i32.const 0)";
    let allowed = "capability_restriction_config: {allowed_capabilities: {malloc: {}, \
                   proxy_log: {}, proxy_on_context_create: {}, proxy_on_downstream_data: {}, \
                   proxy_on_delete: {}}}";
    let mut rig = start(&[plugin("a", PAUSE, resume, PAUSE).more(allowed)]);
    let id = rig.open_linked();
    rig.send(id, "x");
    rig.receive(id, "y");
    let seen = rig.seen();
    assert_eq!((seen.client.as_str(), seen.upstream.as_str()), ("y", "x"));
    rig.worker.connection_reset(id);
    let trace = rig.trace();
    assert!(trace[2].ends_with("capability: proxy_continue_stream 10"), "{trace:?}");
    assert_eq!([&trace[0], &trace[1], &trace[3]], ["a: create", "a: down 1 0", "a: delete"]);
    assert_eq!(trace.len(), 5, "the access log, and nothing else: {trace:?}");
}

#[test]
fn http_behind_network_filters_sees_what_they_let_through_and_their_filter_state() {
    let set = r#"(drop (call $set_property {foo} {bar})) (i32.const 0)"#;
    let network = plugin("a", set, GO_ON, GO_ON);
    let get = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             {} (i32.const 0))"#,
        properties(&["foo"])
    );
    let http = Plugin::new("h", &get);
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let chain = format!(
        r#"{}, {{name: h, typed_config: {{"@type": {manager}, stat_prefix: x,
        access_log: [{{name: l, typed_config: {{"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}}}],
        route_config: {{virtual_hosts: [{{name: a, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}]}},
        http_filters: [{}, {{name: r, typed_config: {{"@type": {router}}}}}]}}}}"#,
        network.filter().replace("filters.http.wasm", "filters.network.wasm"),
        http.filter(),
    );
    let mut rig = Setup { chain: Some(chain), ..Setup::default() }.start();
    rig.log();
    let id = rig.open();
    assert!(matches!(rig.worker.poll_output(), Some(Output::ServeHttp { .. })));
    assert!(rig.worker.reads_downstream(id), "HTTP needs no upstream to be read");
    rig.send(id, "GET");
    assert_eq!(rig.seen().upstream, "GET");
    assert_eq!(rig.trace(), ["a: create", "a: new", "a: down 3 0"]);
    let downstream = Downstream {
        remote: ([10, 0, 0, 1], 4000).into(),
        local: ([127, 0, 0, 1], 8080).into(),
        tls: None,
        protocol: Protocol::Http11,
        connection_id: 7,
    };
    let exchange = rig.worker.start_exchange(0, downstream);
    rig.worker.request_headers(exchange, crate::rig::request("GET", "/"), true);
    assert_eq!(rig.trace(), ["h: bar"]);
    // A client that closes its half has closed all of it, and no filter is told of an end.
    rig.attempt();
    rig.end(id);
    assert_eq!(rig.seen().events, ["upstream close", "close"]);
    let ending = ["a: closed 2", "a: done", "a: log", "a: delete"];
    assert_eq!(rig.trace(), ending, "no access log: that is the request's");
}
