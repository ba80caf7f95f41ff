//! A plugin as a network filter before the TCP proxy: both hosts call it the same, with the same
//! bytes, and do the same of what it asks for.

use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_tests::{Running, eventually, on_both_hosts};

/// Logs its callbacks. The first byte from the client says what it does with a read: `h` holds
/// what is shorter than eight bytes, `c` holds until a call is answered, `w` wraps it in brackets,
/// `x` closes, `t` fails; anything else passes.
const TAP: &str = r#"
  (global $waiting (mut i32) (i32.const 0))
  (func $show (param $type i32)
    (drop (call $buffer (local.get $type) (i32.const 0) (i32.const 64)
      (i32.const 4096) (i32.const 4100)))
    (call $say_value))
  (func (export "proxy_on_context_create") (param i32 i32)
    (if (local.get 1) (then (call $log {create}))))
  (func (export "proxy_on_new_connection") (param i32) (result i32)
    (call $log {new})
    (call $say (call $property {xds\00cluster_name}
      (i32.const 4096) (i32.const 4100)))
    (i32.const 0))
  (func (export "proxy_on_downstream_data") (param $c i32) (param $n i32) (param $end i32)
    (result i32)
    (local $first i32)
    (call $log {down})
    (call $say (local.get $n)) (call $say (local.get $end))
    (if (i32.eqz (local.get $n)) (then (return (i32.const 0))))
    (call $show (i32.const 2))
    (local.set $first (i32.load8_u (i32.load (i32.const 4096))))
    (if (i32.eq (local.get $first) (i32.const 104))
      (then (return (i32.lt_u (local.get $n) (i32.const 8)))))
    (if (i32.eq (local.get $first) (i32.const 99)) (then
      (global.set $waiting (local.get $c))
      (call $say (call $http_call {calls}
        {\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00x\00}
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 4096)))
      (return (i32.const 1))))
    (if (i32.eq (local.get $first) (i32.const 119)) (then
      (call $say (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0) {[}))
      (call $say (call $set_buffer (i32.const 2) (i32.const 1) (i32.const 1) {[}))
      (call $say (call $set_buffer (i32.const 2) (i32.const 99) (i32.const 0) {]}))
      (call $say (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0) {]}))
      (call $say (call $property {xds\00cluster_name}
      (i32.const 4096) (i32.const 4100)))
      (call $say_value)))
    (if (i32.eq (local.get $first) (i32.const 120))
      (then (call $say (call $close (i32.const 2)))))
    (if (i32.eq (local.get $first) (i32.const 116)) (then unreachable))
    (i32.const 0))
  (func (export "proxy_on_upstream_data") (param $c i32) (param $n i32) (param $end i32)
    (result i32)
    (call $log {up})
    (call $say (local.get $n)) (call $say (local.get $end))
    (if (local.get $n) (then (call $show (i32.const 3))))
    (i32.const 0))
  (func (export "proxy_on_downstream_connection_close") (param i32 i32)
    (call $log {closed}) (call $say (local.get 1)))
  (func (export "proxy_on_upstream_connection_close") (param i32 i32)
    (call $log {upstream closed}) (call $say (local.get 1)))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (call $log {answered})
    (call $say (call $effective (global.get $waiting)))
    (call $show (i32.const 2))
    (call $say (call $continue (i32.const 3)))
    (call $say (call $continue (i32.const 2))))
  (func (export "proxy_on_done") (param i32) (result i32)
    (call $log {done}) (i32.const 1))
  (func (export "proxy_on_log") (param i32) (call $log {log}))
  (func (export "proxy_on_delete") (param i32) (call $log {delete}))"#;

/// What a connection's end says, when the client has closed its half first.
const ENDING: &[&str] = &[
    "down",
    "0",
    "1",
    "up",
    "0",
    "1",
    "upstream closed",
    "0",
    "closed",
    "1",
    "done",
    "log",
    "delete",
];

/// The same when the proxy closes.
const CLOSING: &[&str] = &["closed", "1", "done", "log", "delete"];

/// What the client sends, each behind the answer to the one before; what it gets in all; what the
/// plugin says between `new` and the end, and the end.
type Case =
    (&'static [&'static str], &'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    (
        &["ping", "pong!"],
        "pingpong!",
        &[
            "down", "4", "0", "ping", "up", "4", "0", "ping", "down", "5", "0", "pong!", "up", "5",
            "0", "pong!",
        ],
        ENDING,
    ),
    (
        &["w"],
        "[w]",
        &["down", "1", "0", "w", "0", "2", "0", "2", "0", "echo", "up", "3", "0", "[w]"],
        ENDING,
    ),
    (
        &["call"],
        "call",
        &[
            "down", "4", "0", "call", "0", "answered", "0", "call", "12", "0", "up", "4", "0",
            "call",
        ],
        ENDING,
    ),
    (&["x"], "", &["down", "1", "0", "x", "0"], CLOSING),
    // Nothing more is said: the VM is gone.
    (&["trap"], "", &["down", "4", "0", "trap"], &[]),
];

async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.into_split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    Ok(address)
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {
                "address": address.ip().to_string(), "port_value": address.port(),
            }}}},
        ]}]},
    })
}

fn bootstrap(module: &Path, log: &Path, clusters: &[Value]) -> String {
    let socket = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let network = "type.googleapis.com/envoy.extensions.filters.network";
    json!({
        "admin": {"address": socket},
        "static_resources": {
            "listeners": [{
                "name": "weir",
                "address": socket,
                "filter_chains": [{"filters": [
                    {"name": "envoy.filters.network.wasm", "typed_config": {
                        "@type": format!("{network}.wasm.v3.Wasm"),
                        "config": {"name": "t", "root_id": "tap", "vm_config": {
                            "runtime": "envoy.wasm.runtime.v8",
                            "code": {"local": {"filename": module}},
                        }},
                    }},
                    {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                        "@type": format!("{network}.tcp_proxy.v3.TcpProxy"),
                        "stat_prefix": "weir",
                        "cluster": "echo",
                        "access_log": [{"name": "file", "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                            "path": log,
                            "log_format": {"text_format_source": {"inline_string":
                                "%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% %PROTOCOL% %UPSTREAM_CLUSTER%\n"}},
                        }}],
                    }},
                ]}],
            }],
            "clusters": clusters,
        },
    })
    .to_string()
}

/// What the plugin has said of the connection number `nth`.
fn said(proxy: &Running, nth: usize) -> Vec<String> {
    let log = proxy.log();
    let own = log.lines().filter_map(|line| line.split_once("wasm log")?.1.split_once("tap: "));
    let mut lines = own.map(|(_, text)| text.to_owned());
    for _ in 0..=nth {
        lines.by_ref().find(|line| line == "create");
    }
    lines.take_while(|line| line != "create").collect()
}

/// Sends the texts, each when the answer to the one before is there; gives all that came.
async fn talk(address: SocketAddr, texts: &[&str], wanted: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut got = Vec::new();
    for text in texts {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; if wanted.is_empty() { 0 } else { text.len() }];
        if stream.read_exact(&mut answer).await.is_ok() {
            got.extend(answer);
        }
    }
    if !wanted.is_empty() {
        stream.shutdown().await?;
    }
    stream.read_to_end(&mut got).await?;
    Ok(String::from_utf8(got)?)
}

on_both_hosts! {
    async fn a_network_filter_sees_the_same_connection(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("tap.wasm");
        let log = directory.path().join("access.log");
        std::fs::write(&module, host_sim_guest::module(TAP))?;
        let backend = Endpoint::start(EndpointOptions::named("e")).await?;
        let clusters = [cluster("echo", echo().await?), cluster("calls", backend.address())];
        let proxy = Running::start(&host, &bootstrap(&module, &log, &clusters)).await?;
        for (nth, (texts, wanted, middle, end)) in CASES.iter().enumerate() {
            assert_eq!(talk(proxy.address("weir"), texts, wanted).await?, *wanted, "{texts:?}");
            // The cluster is not known before the chain's end has been reached.
            let expected = [&["new", "1"], *middle, *end].concat();
            eventually(&format!("all is said of {texts:?}"), async || {
                proxy.metric("nothing").await?;
                Ok(said(&proxy, nth).len() >= expected.len())
            })
            .await
            .map_err(|error| error.context(format!("{:?}", said(&proxy, nth))))?;
            assert_eq!(said(&proxy, nth), expected, "{texts:?}");
        }
        assert_eq!(proxy.metric("envoy_tcp_downstream_cx_total").await?, Some(5.0));
        drop(proxy);
        let lines = std::fs::read_to_string(log)?;
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines, [
            "9 9 - - echo", "1 3 - - echo", "4 4 - - echo", "1 0 - - echo", "4 0 - - echo",
        ]);
    }
}

on_both_hosts! {
    async fn what_a_network_filter_holds_comes_again_with_what_is_new(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("tap.wasm");
        let log = directory.path().join("access.log");
        std::fs::write(&module, host_sim_guest::module(TAP))?;
        let clusters = [cluster("echo", echo().await?)];
        let proxy = Running::start(&host, &bootstrap(&module, &log, &clusters)).await?;
        let mut stream = TcpStream::connect(proxy.address("weir")).await?;
        stream.write_all(b"hold").await?;
        eventually("the first half has come", async || {
            proxy.metric("nothing").await?;
            Ok(said(&proxy, 0).len() >= 6)
        })
        .await?;
        stream.write_all(b"more").await?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"holdmore");
        // What Envoy logs comes by another way than what it sends.
        eventually("the answer is in the log", async || {
            proxy.metric("nothing").await?;
            Ok(said(&proxy, 0).len() >= 13)
        })
        .await?;
        assert_eq!(said(&proxy, 0)[2..13], [
            "down", "4", "0", "hold", "down", "8", "0", "holdmore", "up", "8", "0",
        ]);
    }
}
