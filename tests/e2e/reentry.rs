//! A plugin that calls a cluster whose upstream filter runs in its own VM: the call enters the VM a
//! second time, before it returns.

use crate::raw::{bootstrap, listener, plugin, with_idle_timeout};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use weir_tests::{Running, eventually, on_both_hosts};

/// The downstream filter calls the cluster `called`, and waits for the answer; the upstream filter
/// says that it was there. With the path `/t` the module does not bear to be entered a second time,
/// as the Rust SDK does not; with `/r` the upstream filter answers the call itself.
fn module() -> anyhow::Result<Vec<u8>> {
    let mut calls = String::new();
    let mut length = 0;
    for (at, path) in [(2048, "/n"), (2304, "/t"), (2560, "/r")] {
        let pairs = [(":method", "GET"), (":path", path), (":authority", "inner")];
        let mut encoded = u32::to_le_bytes(3).to_vec();
        for (name, value) in pairs {
            encoded.extend(u32::to_le_bytes(name.len() as u32));
            encoded.extend(u32::to_le_bytes(value.len() as u32));
        }
        for text in pairs.into_iter().flat_map(|(name, value)| [name, value]) {
            encoded.extend(text.as_bytes());
            encoded.push(0);
        }
        length = encoded.len();
        let text: String = encoded.iter().map(|byte| format!("\\{byte:02x}")).collect();
        calls.push_str(&format!("(data (i32.const {at}) \"{text}\")"));
    }
    let text = format!(
        r#"(module
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_call" (func $grpc
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "create")
  (data (i32.const 8) "before")
  (data (i32.const 16) "after")
  (data (i32.const 24) "within")
  (data (i32.const 32) "answered")
  (data (i32.const 48) "response")
  (data (i32.const 56) "done")
  (data (i32.const 64) "delete")
  (data (i32.const 72) ":path")
  (data (i32.const 80) ":authority")
  (data (i32.const 96) "called")
  (data (i32.const 112) "\0a\08\0a\06called")
  (data (i32.const 128) "Service")
  (data (i32.const 144) "Replied")
  (data (i32.const 160) "closed")
  {calls}
  (global $waiting (mut i32) (i32.const 0))
  (global $guard (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func $log (param i32 i32) (drop (call $proxy_log (i32.const 2) (local.get 0) (local.get 1))))
  (func $say (param i32)
    (i32.store8 (i32.const 1024) (i32.add (i32.const 48) (i32.div_u (local.get 0) (i32.const 10))))
    (i32.store8 (i32.const 1025) (i32.add (i32.const 48) (i32.rem_u (local.get 0) (i32.const 10))))
    (call $log (i32.const 1024) (i32.const 2)))
  (func (export "proxy_on_context_create") (param i32 i32)
    (if (local.get 1) (then (call $log (i32.const 0) (i32.const 6))))
    (if (global.get $guard) (then unreachable)))
  ;; The second character of the path.
  (func $path (result i32)
    (drop (call $header (i32.const 0) (i32.const 72) (i32.const 5) (i32.const 512) (i32.const 516)))
    (i32.load8_u (i32.add (i32.load (i32.const 512)) (i32.const 1))))
  ;; Whether the path ends in Replied.
  (func $replied (result i32)
    (drop (call $header (i32.const 0) (i32.const 72) (i32.const 5) (i32.const 512) (i32.const 516)))
    (i32.eq (i32.load8_u (i32.add (i32.load (i32.const 512)) (i32.const 9))) (i32.const 82)))
  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    (local $path i32) (local $at i32)
    (local.set $path (call $path))
    (drop (call $header (i32.const 0) (i32.const 80) (i32.const 10)
      (i32.const 512) (i32.const 516)))
    (if (i32.ne (i32.load8_u (i32.load (i32.const 512))) (i32.const 49)) (then
      (call $log (i32.const 24) (i32.const 6))
      (if (i32.or (i32.eq (local.get $path) (i32.const 114)) (call $replied))
        (then (drop (call $reply (i32.const 418) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))))
      (return (i32.const 0))))
    (call $log (i32.const 8) (i32.const 6))
    (global.set $waiting (local.get $context))
    (if (i32.or (i32.eq (local.get $path) (i32.const 103))
      (i32.eq (local.get $path) (i32.const 104))) (then
        (call $say (call $grpc (i32.const 112) (i32.const 10) (i32.const 128) (i32.const 7)
          (select (i32.const 144) (i32.const 128) (i32.eq (local.get $path) (i32.const 104)))
          (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 5000) (i32.const 512)))
        (call $log (i32.const 16) (i32.const 5))
        (return (i32.const 1))))
    (local.set $at (i32.const 2048))
    (if (i32.eq (local.get $path) (i32.const 116)) (then
      (global.set $guard (i32.const 1))
      (local.set $at (i32.const 2304))))
    (if (i32.eq (local.get $path) (i32.const 114)) (then (local.set $at (i32.const 2560))))
    (call $say (call $call (i32.const 96) (i32.const 6) (local.get $at) (i32.const {length})
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5000) (i32.const 512)))
    (call $log (i32.const 16) (i32.const 5))
    (i32.const 1))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $log (i32.const 48) (i32.const 8)) (i32.const 0))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (call $log (i32.const 32) (i32.const 8))
    (drop (call $effective (global.get $waiting)))
    (drop (call $continue (i32.const 0))))
  (func (export "proxy_on_grpc_close") (param i32 i32 i32)
    (call $log (i32.const 160) (i32.const 6))
    (call $say (local.get 2))
    (drop (call $effective (global.get $waiting)))
    (drop (call $continue (i32.const 0))))
  (func (export "proxy_on_done") (param i32) (result i32)
    (call $log (i32.const 56) (i32.const 4)) (i32.const 1))
  (func (export "proxy_on_delete") (param i32) (call $log (i32.const 64) (i32.const 6))))"#
    );
    Ok(wat::parse_str(text)?)
}

/// `down`, with a configuration, on the listener, `up` in the cluster `called`.
fn file(
    module: &Path,
    configuration: &str,
    backend: SocketAddr,
    vm: [&Value; 2],
) -> anyhow::Result<Value> {
    let filter = |name: &str, configuration: &str, vm: &Value| {
        let config = plugin(name, module, configuration, &json!({}), vm);
        json!({"name": name, "typed_config": config})
    };
    let listener = listener("weir", &[filter("down", configuration, vm[0])]);
    let text = bootstrap(&[with_idle_timeout(listener, "5s")], backend);
    let mut file: Value = serde_json::from_str(&text)?;
    let options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let codec = "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
    let mut called = file["static_resources"]["clusters"][0].clone();
    called["name"] = json!("called");
    called["load_assignment"]["cluster_name"] = json!("called");
    called["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options,
            "explicit_http_config": {"http_protocol_options": {}},
            "http_filters": [
                filter("up", "", vm[1]),
                {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": codec}},
            ],
        },
    });
    let clusters = file["static_resources"]["clusters"].as_array_mut().expect("clusters");
    clusters.push(called);
    Ok(file)
}

/// What both plugins have said, `down before` or `up within`, roots' ends left out.
fn said(proxy: &Running) -> Vec<String> {
    let log = proxy.log();
    let own = log.lines().filter_map(|line| line.split_once("wasm log ")?.1.split_once(": "));
    own.map(|(who, text)| format!("{} {text}", who.split(' ').next().unwrap_or(who))).collect()
}

async fn lines(proxy: &Running, count: usize) -> anyhow::Result<Vec<String>> {
    eventually("all is said", async || {
        proxy.metric("nothing").await?;
        Ok(said(proxy).len() >= count)
    })
    .await
    .map_err(|error| error.context(format!("{:?}", said(proxy))))?;
    Ok(said(proxy))
}

async fn start(host: &weir_tests::Host, vm: [&Value; 2]) -> anyhow::Result<(Running, Endpoint)> {
    let directory = tempfile::tempdir()?;
    let file_name = directory.path().join("reentry.wasm");
    std::fs::write(&file_name, module()?)?;
    let backend = Endpoint::start(EndpointOptions::named("e")).await?;
    let file = file(&file_name, "", backend.address(), vm)?;
    let proxy = Running::start(host, &file.to_string()).await?;
    Ok((proxy, backend))
}

/// A plugin on the Rust SDK, which makes a call with each request if it is configured so.
fn planted() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    // A directory of its own: cargo locks the one it builds in.
    let target = target.join("planted");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "planted", "--target", "wasm32-wasip1", "--target-dir"])
        .arg(&target)
        .current_dir(&root)
        .status()?;
    anyhow::ensure!(built.success(), "the planted plugin does not build");
    Ok(target.join("wasm32-wasip1/debug/planted.wasm").canonicalize()?)
}

const AROUND: [&str; 12] = [
    "down create",
    "down before",
    "up create",
    "up within",
    "down 00",
    "down after",
    "up response",
    "up done",
    "up delete",
    "down answered",
    "down response",
    "down done",
];

on_both_hosts! {
    async fn a_call_enters_its_own_vm_before_it_returns(host: Host) {
        let (proxy, _backend) = start(&host, [&json!({}), &json!({})]).await?;
        assert_eq!(proxy.get("/n").await?.status, 200);
        assert_eq!(lines(&proxy, AROUND.len() + 1).await?[..AROUND.len()], AROUND);
    }

    async fn a_call_enters_another_vm_before_it_returns_too(host: Host) {
        let other = json!({"configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": "another",
        }});
        let (proxy, _backend) = start(&host, [&json!({}), &other]).await?;
        assert_eq!(proxy.get("/n").await?.status, 200);
        assert_eq!(lines(&proxy, AROUND.len() + 1).await?[..AROUND.len()], AROUND);
    }

    async fn a_guest_that_does_not_bear_it_fails_and_is_not_called_again(host: Host) {
        let (proxy, _backend) = start(&host, [&json!({}), &json!({})]).await?;
        assert_eq!(proxy.get("/t").await?.status, 503);
        let expected =
            ["down create", "down before", "up create", "down 10", "down after"];
        assert_eq!(lines(&proxy, expected.len()).await?, expected);
        eventually("the VM has failed", async || {
            proxy.metric("nothing").await?;
            Ok(proxy.log().contains("Function: proxy_on_context_create failed"))
        })
        .await?;
    }

    async fn a_call_that_is_answered_before_it_returns_was_never_made(host: Host) {
        let other = json!({"configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": "another",
        }});
        let (proxy, _backend) = start(&host, [&json!({}), &other]).await?;
        // The filter waits for an answer that never comes.
        assert_eq!(proxy.get("/r").await?.status, 504);
        let expected = [
            "down create", "down before", "up create", "up within", "up done", "up delete",
            "down 10", "down after", "down response", "down done", "down delete",
        ];
        assert_eq!(lines(&proxy, expected.len()).await?, expected);
    }

    async fn a_plugin_on_the_rust_sdk_panics_with_its_words(host: Host) {
        let backend = Endpoint::start(EndpointOptions::named("e")).await?;
        let vm = [&json!({}), &json!({})];
        let mut file = file(&planted()?, "timeout", backend.address(), vm)?;
        // The plugin calls `backend`.
        file["static_resources"]["clusters"][0]["name"] = json!("nobody's");
        file["static_resources"]["clusters"][1]["name"] = json!("backend");
        let proxy = Running::start(&host, &file.to_string()).await?;
        assert_eq!(proxy.get("/").await?.status, 503);
        let words = ["panicked at", "already borrowed", "Function: proxy_on_context_create failed"];
        eventually("the SDK has said why", async || {
            proxy.metric("nothing").await?;
            Ok(words.iter().all(|word| proxy.log().contains(word)))
        })
        .await
        .map_err(|error| error.context(proxy.log()))?;
        assert_eq!(proxy.get("/").await?.status, 503);
    }

    async fn grpc_calls_enter_vms_before_they_return_too(host: Host) {
        let other = json!({"configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": "another",
        }});
        let around = &[
            "down create", "down before", "up create", "up within", "down 00", "down after",
        ][..];
        // Over before it returns, the call has failed, and is closed all the same.
        let replied = &[
            "down create", "down before", "up create", "up within", "up done", "up delete",
            "down 10", "down after", "down closed", "down 02",
        ][..];
        let cases =
            [("/g", json!({}), around), ("/g", other.clone(), around), ("/h", other, replied)];
        for (path, vm, expected) in cases {
            let (proxy, _backend) = start(&host, [&json!({}), &vm]).await?;
            assert_eq!(proxy.get(path).await?.status, 200);
            assert_eq!(lines(&proxy, expected.len()).await?[..expected.len()], *expected);
        }
    }
}
