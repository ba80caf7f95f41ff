//! What a trap does to the request, and to those after it: every callback, every failure policy.

use crate::raw::{bootstrap, listener, plugin, with_idle_timeout};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use weir_tests::{Running, eventually, on_both_hosts};

/// Traps in the callback whose letter the request's `x-trap` is: request `h`eaders, re`s`ponse
/// headers, response `b`ody, `l`og, `d`one, delete (`x`), the answer to a `c`all, a `q`ueue's
/// callback, on which the request waits. With the configuration `r`, when the root is created.
const TRAPPER: &str = r#"(module
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $mode (mut i32) (i32.const 0))
  (data (i32.const 0) "x-trap")
  (data (i32.const 16) "backend")
  (data (i32.const 32) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func $trap_if (param $letter i32)
    (if (i32.eq (global.get $mode) (local.get $letter)) (then (unreachable))))
  (func (export "proxy_on_context_create") (param i32) (param $parent i32)
    (if (i32.eqz (local.get $parent)) (then
      (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 128)
        (i32.const 132)))
      (if (i32.load (i32.const 132)) (then
        (if (i32.eq (i32.load8_u (i32.load (i32.const 128))) (i32.const 114))
          (then (unreachable))))))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (global.set $mode (i32.const 0))
    (if (i32.eqz (call $header (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 128)
        (i32.const 132)))
      (then (global.set $mode (i32.load8_u (i32.load (i32.const 128))))))
    (call $trap_if (i32.const 104))
    (if (i32.eq (global.get $mode) (i32.const 99)) (then
      (drop (call $call (i32.const 16) (i32.const 7) (i32.const 32) (i32.const 61) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 136)))
      (return (i32.const 1))))
    (if (i32.eq (global.get $mode) (i32.const 113)) (then
      (drop (call $register (i32.const 0) (i32.const 1) (i32.const 136)))
      (drop (call $enqueue (i32.load (i32.const 136)) (i32.const 0) (i32.const 1)))
      (return (i32.const 1))))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $trap_if (i32.const 115)) (i32.const 0))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
    (call $trap_if (i32.const 98)) (i32.const 0))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (call $trap_if (i32.const 99)))
  (func (export "proxy_on_queue_ready") (param i32 i32) (call $trap_if (i32.const 113)))
  (func (export "proxy_on_log") (param i32) (call $trap_if (i32.const 108)))
  (func (export "proxy_on_done") (param i32) (result i32)
    (call $trap_if (i32.const 100)) (i32.const 1))
  (func (export "proxy_on_delete") (param i32) (call $trap_if (i32.const 120))))"#;

/// Policies: the last two reload whenever asked, and never within a test.
fn policies() -> [(&'static str, Value); 5] {
    let reload = |interval: &str| {
        json!({
            "failure_policy": "FAIL_RELOAD",
            "reload_config": {"backoff": {"base_interval": interval}},
        })
    };
    [
        ("closed", json!({})),
        ("open", json!({"failure_policy": "FAIL_OPEN"})),
        ("legacy", json!({"fail_open": true})),
        ("reload", reload("0.01s")),
        ("backoff", reload("3600s")),
    ]
}

/// By callback and policy: what the trapping request gets, and the next one. `-` is a response that
/// is not whole. A request that waits for a call or a queue is answered by nobody: what it gets is
/// the connection manager's idle timeout, the 504 of which a filter that has failed makes a 503.
const OUTCOMES: &[(&str, [&str; 5])] = &[
    ("h", ["503 503", "503 200", "200 200", "503 200", "503 503"]),
    ("s", ["503 503", "503 200", "200 200", "503 200", "503 503"]),
    ("b", ["- 503", "- 200", "200 200", "- 200", "- 503"]),
    ("l", ["200 503", "200 200", "200 200", "200 200", "200 503"]),
    ("d", ["200 503", "200 200", "200 200", "200 200", "200 503"]),
    ("x", ["200 503", "200 200", "200 200", "200 200", "200 503"]),
    ("c", ["503 503", "503 200", "504 200", "503 200", "503 503"]),
    ("q", ["503 503", "503 200", "504 200", "503 200", "503 503"]),
    ("r", ["503 503", "200 200", "200 200", "503 503", "503 503"]),
];

async fn outcome(url: &str, trap: &str) -> String {
    let request = Request::get(url.to_owned()).header("x-trap", trap);
    match Client::new().send(request).await {
        Ok(response) => response.status.to_string(),
        Err(_) => "-".to_owned(),
    }
}

on_both_hosts! {
    async fn a_trap_is_what_the_failure_policy_makes_of_it(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("trapper.wasm");
        std::fs::write(&module, wat::parse_str(TRAPPER)?)?;
        let backend = Endpoint::start(EndpointOptions::named("e")).await?;
        let mut listeners = Vec::new();
        for (trap, _) in OUTCOMES {
            for (policy, fields) in policies() {
                let name = format!("{trap}_{policy}");
                // A VM for each, so that no case kills another's.
                let vm = json!({"vm_id": name});
                let filter = plugin(&name, &module, trap, &fields, &vm);
                let filter = json!({"name": name, "typed_config": filter});
                let listener = listener(&name, &[filter]);
                // Two wait for what never comes.
                let waits = matches!(*trap, "c" | "q");
                listeners.push(if waits { with_idle_timeout(listener, "1s") } else { listener });
            }
        }
        let text = bootstrap(&listeners, backend.address());
        let proxy = Running::start_with(&host, &text, NonZeroU32::MIN).await?;
        let mut wrong = Vec::new();
        for (trap, outcomes) in OUTCOMES {
            for ((policy, _), expected) in policies().iter().zip(outcomes) {
                let url = proxy.url_of(&format!("{trap}_{policy}"), "/");
                let (first, next) = expected.split_once(' ').unwrap_or_default();
                let got = outcome(&url, trap).await;
                if got != first {
                    wrong.push(format!("{trap} {policy}: expected {first}, got {got}"));
                }
                // A trap after the response may be a moment later than the client's next request.
                let what = format!("{trap} {policy}: {next} comes next");
                eventually(&what, async || Ok(outcome(&url, "none").await == next)).await?;
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", proxy.log());
        let reloads = async |name: &str, what: &str| {
            proxy.metric(&format!("envoy_wasm_{name}_vm_reload_{what}")).await
        };
        assert_eq!(reloads("h_reload", "success").await?, Some(1.0));
        assert!(reloads("h_backoff", "backoff").await? >= Some(1.0));
        assert_eq!(reloads("h_backoff", "success").await?.unwrap_or(0.0), 0.0);
        // A root that could not be created is not tried again.
        assert_eq!(reloads("r_reload", "success").await?.unwrap_or(0.0), 0.0);
        assert!(reloads("r_reload", "failure").await? >= Some(1.0));
    }
}
