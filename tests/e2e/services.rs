//! Plugins without traffic, `WasmService`: one on the main thread, or one on every worker.

use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use serde_json::{Value, json};
use std::path::Path;
use weir_tests::{Running, eventually, on_both_hosts};

/// Counts its starts as `<configuration>_starts`, and its environment's variables as
/// `<configuration>_variables`. The one called `a` owns a queue and counts what it gets from it,
/// the one called `b` puts something into it with every tick; each tick calls the cluster
/// `backend`, and each answer is counted.
const SERVICE: &str = r#"(module
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_resolve_shared_queue"
    (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "?_starts")
  (data (i32.const 16) "?_variables")
  (data (i32.const 32) "?_answers")
  (data (i32.const 48) "?_heard")
  (data (i32.const 64) "queue")
  (data (i32.const 80) "backend")
  (data (i32.const 96) "v")
  (data (i32.const 160) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\02\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/?\00:authority\00x\00")
  (global $me (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func $count (param $name i32) (param $len i32) (param $by i64)
    (i32.store8 (local.get $name) (global.get $me))
    (drop (call $define (i32.const 0) (local.get $name) (local.get $len) (i32.const 512)))
    (drop (call $increment (i32.load (i32.const 512)) (local.get $by))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 512) (i32.const 516)))
    (global.set $me (i32.load8_u (i32.load (i32.const 512))))
    (call $count (i32.const 0) (i32.const 8) (i64.const 1))
    (drop (call $environ (i32.const 520) (i32.const 524)))
    (call $count (i32.const 16) (i32.const 11) (i64.extend_i32_u (i32.load (i32.const 520))))
    (if (i32.eq (global.get $me) (i32.const 97))
      (then (drop (call $register (i32.const 64) (i32.const 5) (i32.const 512)))))
    (drop (call $tick (i32.const 20)))
    (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (i32.store8 (i32.const 207) (global.get $me))
    (drop (call $call (i32.const 80) (i32.const 7) (i32.const 160) (i32.const 62)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 512)))
    (if (i32.eq (global.get $me) (i32.const 98)) (then
      (if (i32.eqz (call $resolve (i32.const 96) (i32.const 1) (i32.const 64) (i32.const 5)
          (i32.const 512)))
        (then (drop (call $enqueue (i32.load (i32.const 512)) (i32.const 64) (i32.const 5))))))))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (call $count (i32.const 32) (i32.const 9) (i64.const 1)))
  (func (export "proxy_on_queue_ready") (param i32 i32)
    (if (i32.eqz (call $dequeue (local.get 1) (i32.const 512) (i32.const 516)))
      (then (call $count (i32.const 48) (i32.const 7) (i64.const 1))))))"#;

fn service(name: &str, singleton: bool, module: &Path) -> Value {
    json!({
        "name": "envoy.bootstrap.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
            "singleton": singleton,
            "config": {
                "name": name,
                "root_id": name,
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue", "value": name,
                },
                "vm_config": {
                    "vm_id": "v",
                    "runtime": "envoy.wasm.runtime.v8",
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue", "value": name,
                    },
                    "environment_variables": {"key_values": {"ONE": "1", "TWO": "2"}},
                    "code": {"local": {"filename": module}},
                },
            },
        },
    })
}

fn bootstrap(module: &Path, port: u16) -> String {
    let socket =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "admin": {"address": socket(0)},
        "bootstrap_extensions": [service("a", true, module), service("b", false, module)],
        "static_resources": {
            "listeners": [{
                "name": "weir",
                "address": socket(0),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.tcp_proxy", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "weir",
                        "cluster": "backend",
                    },
                }]}],
            }],
            "clusters": [{
                "name": "backend",
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(port)}},
                ]}]},
            }],
        },
    })
    .to_string()
}

on_both_hosts! {
    async fn a_singleton_lives_on_the_main_thread_and_the_other_on_every_thread(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("service.wasm");
        std::fs::write(&module, wat::parse_str(SERVICE)?)?;
        let endpoint = Endpoint::start(EndpointOptions::named("e")).await?;
        let text = bootstrap(&module, endpoint.address().port());
        let proxy = Running::start(&host, &text).await?;
        let metric = async |name: &str| -> anyhow::Result<f64> {
            Ok(proxy.metric(name).await?.unwrap_or(0.0))
        };
        // Ticks, calls and their answers, queue: both live.
        eventually("both have got answers, and the queue's owner items", async || {
            let answers = metric("a_answers").await? >= 3.0 && metric("b_answers").await? >= 9.0;
            Ok(answers && metric("a_heard").await? >= 3.0)
        })
        .await
        .map_err(|error| error.context(proxy.log()))?;
        // The trial, the main thread; and two workers.
        assert_eq!((metric("a_starts").await?, metric("b_starts").await?), (2.0, 4.0));
        assert_eq!((metric("a_variables").await?, metric("b_variables").await?), (4.0, 8.0));
        let requests = endpoint.requests();
        assert!(requests.iter().any(|request| request.path == "/a"), "{requests:?}");
        assert!(requests.iter().any(|request| request.path == "/b"), "{requests:?}");
    }
}
