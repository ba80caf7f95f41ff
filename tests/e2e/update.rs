//! A configuration that changes in its file while a request is in flight.

use crate::raw::{WASM, bootstrap, listener, plugin};
use anyhow::Context;
use host_sim_rig::client::Client;
use serde_json::json;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use weir_tests::{Running, eventually, on_both_hosts};

/// Puts its configuration into a response header. A root logs when it ends. Refuses a configuration
/// that begins with `x`.
const PLUGIN: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value"
    (func $replace (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 8192))
  (data (i32.const 0) "x-configuration")
  (data (i32.const 16) "the root of ")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32)
    (global.set $heap (i32.add (global.get $heap) (i32.const 64)))
    (i32.sub (global.get $heap) (i32.const 64)))
  ;; At 1024, for each context: pointer and length of its root's configuration.
  (func $at (param $context i32) (result i32)
    (i32.add (i32.const 1024) (i32.mul (local.get $context) (i32.const 8))))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32)
    (memory.copy (call $at (local.get $context)) (call $at (local.get $parent)) (i32.const 8))
    (if (i32.eqz (local.get $parent))
      (then (i64.store (call $at (local.get $context)) (i64.const 0)))))
  (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 32) (call $at (local.get $root))
      (i32.add (call $at (local.get $root)) (i32.const 4))))
    (i32.store8 (i32.add (i32.const 512) (local.get $root)) (i32.const 1))
    (i32.ne (i32.load8_u (i32.load (call $at (local.get $root)))) (i32.const 120)))
  (func (export "proxy_on_response_headers") (param $context i32) (param i32 i32) (result i32)
    (drop (call $replace (i32.const 2) (i32.const 0) (i32.const 15)
      (i32.load (call $at (local.get $context)))
      (i32.load (i32.add (call $at (local.get $context)) (i32.const 4)))))
    (i32.const 0))
  (func (export "proxy_on_done") (param $context i32) (result i32)
    (if (i32.load8_u (i32.add (i32.const 512) (local.get $context))) (then
      (memory.copy (i32.const 768) (i32.const 16) (i32.const 12))
      (memory.copy (i32.const 780) (i32.load (call $at (local.get $context))) (i32.const 3))
      (drop (call $log (i32.const 2) (i32.const 768) (i32.const 15)))))
    (i32.const 1)))"#;

/// Moves a response to where the filter looks.
fn publish(directory: &Path, version: &str, configuration: &str) -> anyhow::Result<()> {
    let module = directory.join("p.wasm");
    let document = json!({"version_info": version, "resources": [{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "limits",
        "typed_config": plugin("p", &module, configuration, &json!({}), &json!({})),
    }]});
    let fresh = directory.join("fresh.json");
    std::fs::write(&fresh, document.to_string())?;
    Ok(std::fs::rename(fresh, directory.join("ecds.json"))?)
}

/// Answers at once, but `/held` only when it is told to.
async fn gate() -> anyhow::Result<(SocketAddr, oneshot::Receiver<()>, oneshot::Sender<()>)> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    let (arrived, has_arrived) = oneshot::channel();
    let (open, opened) = oneshot::channel();
    let mut held = Some((arrived, opened));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = socket.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match connection.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let mine = if head.starts_with(b"GET /held") { held.take() } else { None };
            tokio::spawn(async move {
                if let Some((arrived, opened)) = mine {
                    let _ = arrived.send(());
                    let _ = opened.await;
                }
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                let _ = connection.write_all(answer).await;
            });
        }
    });
    Ok((address, has_arrived, open))
}

async fn configuration(proxy: &Running) -> anyhow::Result<String> {
    let response = proxy.get("/").await?;
    assert_eq!(response.status, 200);
    Ok(response.header("x-configuration").unwrap_or_default().to_owned())
}

async fn counter(proxy: &Running, name: &str) -> anyhow::Result<f64> {
    let name = format!("envoy_extension_config_discovery_http_filter_limits_{name}");
    Ok(proxy.metric(&name).await?.unwrap_or(0.0))
}

/// How many roots of a configuration have ended.
fn ended(proxy: &Running, configuration: &str) -> usize {
    proxy.log().matches(&format!("the root of {configuration}")).count()
}

on_both_hosts! {
    async fn a_request_in_flight_keeps_its_plugin_and_a_refused_update_changes_nothing(host: Host) {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("p.wasm"), wat::parse_str(PLUGIN)?)?;
        publish(directory.path(), "one", "one")?;
        let filter = json!({"name": "limits", "config_discovery": {
            "config_source": {
                "path_config_source": {"path": directory.path().join("ecds.json")},
                "resource_api_version": "V3",
            },
            "type_urls": [WASM],
        }});
        let (backend, held_arrives, open) = gate().await?;
        let text = bootstrap(&[listener("weir", &[filter])], backend);
        let proxy = Running::start_with(&host, &text, NonZeroU32::MIN).await?;
        assert_eq!(configuration(&proxy).await?, "one");
        // Of the text "one", by XXH64; and a time in milliseconds.
        assert_eq!(counter(&proxy, "version").await?, 3_907_720_005_676_474_870_u64 as f64);
        let begun = counter(&proxy, "update_time").await?;
        assert!(begun > 1.6e12, "{begun}");

        let url = proxy.url("/held");
        let held = tokio::spawn(async move { Client::new().get(&url).await });
        held_arrives.await.context("the held request")?;
        publish(directory.path(), "2", "two")?;
        eventually("the update is in force", async || Ok(configuration(&proxy).await? == "two"))
            .await?;
        eventually("the main thread's root has ended", async || {
            configuration(&proxy).await?;
            Ok(ended(&proxy, "one") == 1)
        })
        .await?;

        publish(directory.path(), "3", "x")?;
        eventually("the refusal is counted", async || {
            Ok(counter(&proxy, "update_rejected").await? == 1.0)
        })
        .await?;
        assert_eq!(configuration(&proxy).await?, "two");
        // Refused a second time it is no news.
        publish(directory.path(), "4", "x")?;
        eventually("the same again counts as a success", async || {
            Ok(counter(&proxy, "update_success").await? == 3.0)
        })
        .await?;
        assert!(counter(&proxy, "update_time").await? > begun);
        assert_eq!(counter(&proxy, "update_attempt").await?, 4.0);
        assert_eq!(counter(&proxy, "config_fail").await?, 1.0);
        assert_eq!(counter(&proxy, "config_reload").await?, 3.0);

        assert_eq!(ended(&proxy, "one"), 1);
        let _ = open.send(());
        let response = held.await??;
        assert_eq!(response.header("x-configuration"), Some("one"));
        eventually("the worker's root ends with its last request", async || {
            assert_eq!(configuration(&proxy).await?, "two");
            Ok(ended(&proxy, "one") == 2)
        })
        .await?;
        assert_eq!(ended(&proxy, "two"), 0);
    }
}
