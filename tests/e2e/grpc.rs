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
const CLIENT: &str = r#"
  (func $open (param $service i32) (param $len i32) (param $method i32) (param $method_len i32)
    (call $say (call $grpc_stream (local.get $service) (local.get $len) {pkg.Svc}
      (local.get $method) (local.get $method_len) (i32.const 0) (i32.const 0) (i32.const 136)))
    (if (i32.load (i32.const 136)) (then
      (drop (call $grpc_send (i32.load (i32.const 136)) {hi} (i32.const 1))))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $kind i32) (local $method i32) (local $len i32)
    (drop (call $header (i32.const 0) {:path} (i32.const 4096) (i32.const 4100)))
    (local.set $kind (i32.load8_u (i32.add (i32.load (i32.const 4096)) (i32.const 1))))
    (local.set $method (i32.add (i32.load (i32.const 4096)) (i32.const 3)))
    (local.set $len (i32.sub (i32.load (i32.const 4100)) (i32.const 3)))
    (call $log {asked})
    (if (i32.eq (local.get $kind) (i32.const 117)) (then
      (call $say (call $grpc_call {\0a\08\0a\06checks} {pkg.Svc}
        (local.get $method) (local.get $len) (i32.const 0) (i32.const 0) {hi}
        (i32.const 3000) (i32.const 136)))))
    (if (i32.eq (local.get $kind) (i32.const 115)) (then
      (call $open {\0a\08\0a\06checks} (local.get $method) (local.get $len))))
    (if (i32.eq (local.get $kind) (i32.const 114)) (then
      (call $open {\0a\09\0a\07refused} (local.get $method) (local.get $len))))
    (if (i32.eq (local.get $kind) (i32.const 110)) (then
      (call $open {\0a\09\0a\07nowhere} (local.get $method) (local.get $len))))
    (i32.const 0))
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
    (call $log {initial}) (call $say (local.get 2)))
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
    (call $log {received})
    (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 4096)
      (i32.const 4100)))
    (call $say_value))
  (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
    (call $log {trailing}) (call $say (local.get 2)))
  (func (export "proxy_on_grpc_close") (param i32 i32 i32)
    (call $log {closed}) (call $say (local.get 2))
    (drop (call $get_status (i32.const 140) (i32.const 4096) (i32.const 4100)))
    (call $say_value))"#;

/// Stands in the way to `checks`, and says when a request of it is over.
const UPSTREAM: &str = r#"
  (func (export "proxy_on_done") (param i32) (result i32) (call $log {gone}) (i32.const 1))"#;

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
        std::fs::write(&module, host_sim_guest::module(CLIENT))?;
        let upstream = directory.path().join("upstream.wasm");
        std::fs::write(&upstream, host_sim_guest::module(UPSTREAM))?;
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
