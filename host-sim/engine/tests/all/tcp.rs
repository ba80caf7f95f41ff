//! Plugins as network filters before the TCP proxy. What is expected here was logged by Envoy.

mod ending;
mod passing;
mod state;

use crate::rig::{Plugin, Rig, Setup, link};
use bytes::Bytes;
use host_sim_engine::{ConnectionId, Downstream, Output, Protocol};

/// A plugin that logs each callback with its numbers. The three bodies answer what a callback
/// returns; `$c` is the context, `$n` the size, `$end` the end.
fn plugin(name: &'static str, new: &str, down: &str, up: &str) -> Plugin {
    Plugin::new(
        name,
        &format!(
            r#"
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
        ),
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

fn client() -> Downstream {
    Downstream {
        remote: ([10, 0, 0, 1], 4000).into(),
        local: ([127, 0, 0, 1], 8080).into(),
        tls: None,
        protocol: Protocol::Http11,
        connection_id: 7,
    }
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
        self.worker.open_connection(0, client())
    }

    /// A connection whose upstream is there.
    fn open_linked(&mut self) -> ConnectionId {
        let id = self.open();
        assert_eq!(self.seen().events, ["connect"]);
        self.worker.upstream_connected(id, link());
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
