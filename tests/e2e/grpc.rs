//! gRPC calls and streams of a plugin to a real service over HTTP/2: both hosts tell it the same.

use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use host_sim_rig::grpc::GrpcServer;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use weir_tests::{Running, eventually, on_both_hosts};

/// `/u/<method>` calls a method with "hi" and 300 ms of patience, `/s/<method>` says it on a stream
/// and ends it, both of the cluster `checks`; `/r/` is a stream to `refused`, `/n/` one to
/// `nowhere`, which has no endpoint. Logs what the callbacks say.
const CLIENT: &str = r#"(module
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream"
    (func $stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $send (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\0a\08\0a\06checks")
  (data (i32.const 16) "\0a\09\0a\07refused")
  (data (i32.const 32) "\0a\09\0a\07nowhere")
  (data (i32.const 48) "pkg.Svc")
  (data (i32.const 64) "hi")
  (data (i32.const 72) ":path")
  (data (i32.const 80) "closed")
  (data (i32.const 88) "initial")
  (data (i32.const 96) "trailing")
  (data (i32.const 104) "received")
  (data (i32.const 112) "asked")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func $log (param i32 i32) (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
  (func $say (param $n i32)
    (local $at i32)
    (local.set $at (i32.const 240))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (br_if $more (local.get $n)))
    (call $log (local.get $at) (i32.sub (i32.const 240) (local.get $at))))
  (func $open (param $service i32) (param $len i32) (param $method i32) (param $method_len i32)
    (call $say (call $stream (local.get $service) (local.get $len) (i32.const 48) (i32.const 7)
      (local.get $method) (local.get $method_len) (i32.const 0) (i32.const 0) (i32.const 136)))
    (if (i32.load (i32.const 136)) (then
      (drop (call $send (i32.load (i32.const 136)) (i32.const 64) (i32.const 2) (i32.const 1))))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $kind i32) (local $method i32) (local $len i32)
    (drop (call $header (i32.const 0) (i32.const 72) (i32.const 5) (i32.const 128)
      (i32.const 132)))
    (local.set $kind (i32.load8_u (i32.add (i32.load (i32.const 128)) (i32.const 1))))
    (local.set $method (i32.add (i32.load (i32.const 128)) (i32.const 3)))
    (local.set $len (i32.sub (i32.load (i32.const 132)) (i32.const 3)))
    (call $log (i32.const 112) (i32.const 5))
    (if (i32.eq (local.get $kind) (i32.const 117)) (then
      (call $say (call $call (i32.const 0) (i32.const 10) (i32.const 48) (i32.const 7)
        (local.get $method) (local.get $len) (i32.const 0) (i32.const 0) (i32.const 64)
        (i32.const 2) (i32.const 300) (i32.const 136)))))
    (if (i32.eq (local.get $kind) (i32.const 115)) (then
      (call $open (i32.const 0) (i32.const 10) (local.get $method) (local.get $len))))
    (if (i32.eq (local.get $kind) (i32.const 114)) (then
      (call $open (i32.const 16) (i32.const 11) (local.get $method) (local.get $len))))
    (if (i32.eq (local.get $kind) (i32.const 110)) (then
      (call $open (i32.const 32) (i32.const 11) (local.get $method) (local.get $len))))
    (i32.const 0))
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
    (call $log (i32.const 88) (i32.const 7)) (call $say (local.get 2)))
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
    (call $log (i32.const 104) (i32.const 8))
    (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 128)
      (i32.const 132)))
    (call $log (i32.load (i32.const 128)) (i32.load (i32.const 132))))
  (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
    (call $log (i32.const 96) (i32.const 8)) (call $say (local.get 2)))
  (func (export "proxy_on_grpc_close") (param i32 i32 i32)
    (call $log (i32.const 80) (i32.const 6)) (call $say (local.get 2))
    (drop (call $status (i32.const 140) (i32.const 128) (i32.const 132)))
    (call $log (i32.load (i32.const 128)) (i32.load (i32.const 132)))))"#;

/// Stands in the way to `checks`, and says when a request of it is over.
const UPSTREAM: &str = r#"(module
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "gone")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_done") (param i32) (result i32)
    (drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 4))) (i32.const 1)))"#;

/// What the plugin hears, by path: status of the hostcall, then the callbacks; `gone` is said by the
/// upstream's filter.
const CASES: &[(&str, &[&str])] = &[
    ("/u/Echo", &["0", "gone", "received", "hi"]),
    ("/u/Fail", &["0", "gone", "closed", "7", "no way{via_upstream}"]),
    ("/u/FailAtOnce", &["0", "gone", "closed", "5", "gone{via_upstream}"]),
    ("/u/NoTrailers", &["0", "gone", "closed", "2", "via_upstream"]),
    ("/u/NotGrpc", &["0", "closed", "12", "via_upstream", "gone"]),
    ("/u/Garbage", &["0", "gone", "closed", "13", "via_upstream"]),
    (
        "/u/CutOff",
        &["0", "gone", "closed", "13", "upstream_reset_after_response_started{remote_reset}"],
    ),
    ("/u/Hang", &["0", "gone", "closed", "14", "upstream request timeout{response_timeout}"]),
    (
        "/s/Echo",
        &[
            "0",
            "initial",
            "4",
            "received",
            "hi",
            "gone",
            "trailing",
            "1",
            "closed",
            "0",
            "via_upstream",
        ],
    ),
    (
        "/s/Fail",
        &["0", "initial", "4", "gone", "trailing", "2", "closed", "7", "no way{via_upstream}"],
    ),
    ("/s/NotGrpc", &["0", "initial", "0", "trailing", "0", "closed", "12", "via_upstream", "gone"]),
    (
        "/s/NoTrailers",
        &[
            "0",
            "initial",
            "5",
            "gone",
            "received",
            "alone",
            "trailing",
            "0",
            "closed",
            "2",
            "via_upstream",
        ],
    ),
    (
        "/r/Echo",
        &[
            "0",
            "initial",
            "0",
            "trailing",
            "4",
            "closed",
            "14",
            "upstream connect error or disconnect/reset before headers. reset reason: remote \
             connection failure{upstream_reset_before_response_started{remote_connection_failure|\
             delayed_connect_error:_Connection_refused}}",
        ],
    ),
    (
        "/n/Echo",
        &[
            "initial",
            "0",
            "trailing",
            "4",
            "10",
            "closed",
            "14",
            "no healthy upstream{no_healthy_upstream}",
        ],
    ),
];

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn filter(name: &str, module: &Path) -> Value {
    json!({"name": name, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"name": name, "root_id": "grpc", "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        }},
    }})
}

fn cluster(name: &str, endpoint: Option<SocketAddr>, http2: bool) -> Value {
    let endpoints: Vec<_> = endpoint
        .iter()
        .map(|address| {
            json!({"endpoint": {"address": {"socket_address": {
                "address": address.ip().to_string(), "port_value": address.port(),
            }}}})
        })
        .collect();
    let protocol = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            OPTIONS: {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}},
            },
        },
    })
}

fn bootstrap(module: &Path, clusters: &[Value]) -> String {
    let socket = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    json!({
        "admin": {"address": socket},
        "static_resources": {
            "listeners": [{
                "name": "weir",
                "address": socket,
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "weir",
                        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                            {"match": {"prefix": "/"}, "route": {"cluster": "backend"}},
                        ]}]},
                        "http_filters": [
                            filter("client", module),
                            {"name": "envoy.filters.http.router", "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                            }},
                        ],
                    },
                }]}],
            }],
            "clusters": clusters,
        },
    })
    .to_string()
}

/// What the plugin has said since request number `nth` came.
fn said(proxy: &Running, nth: usize) -> Vec<String> {
    let log = proxy.log();
    let own = log.lines().filter_map(|line| line.split_once("wasm log")?.1.split_once("grpc: "));
    let mut lines = own.map(|(_, text)| text.to_owned());
    for _ in 0..=nth {
        lines.by_ref().find(|line| line == "asked");
    }
    lines.collect()
}

on_both_hosts! {
    async fn a_plugin_hears_the_same_of_a_real_grpc_service(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("client.wasm");
        std::fs::write(&module, wat::parse_str(CLIENT)?)?;
        let upstream = directory.path().join("upstream.wasm");
        std::fs::write(&upstream, wat::parse_str(UPSTREAM)?)?;
        let service = GrpcServer::start().await?;
        let backend = Endpoint::start(EndpointOptions::named("e")).await?;
        let refused = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut clusters = [
            cluster("backend", Some(backend.address()), false),
            cluster("checks", Some(service.address()), true),
            cluster("refused", Some(refused), true),
            cluster("nowhere", None, true),
        ];
        clusters[1]["typed_extension_protocol_options"][OPTIONS]["http_filters"] = json!([
            filter("upstream", &upstream),
            {"name": "envoy.filters.http.upstream_codec", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            }},
        ]);
        let proxy = Running::start(&host, &bootstrap(&module, &clusters)).await?;
        for (nth, (path, expected)) in CASES.iter().enumerate() {
            assert_eq!(proxy.get(path).await?.status, 200);
            eventually(&format!("all is said of {path}"), async || {
                proxy.metric("nothing").await?;
                Ok(said(&proxy, nth).len() >= expected.len())
            })
            .await
            .map_err(|error| error.context(format!("{:?}", said(&proxy, nth))))?;
            assert_eq!(said(&proxy, nth), *expected, "{path}");
        }
    }
}
