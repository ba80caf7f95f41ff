//! Traps, and what the failure policies make of them. The rows are those measured on Envoy: two
//! good requests around each of two trapping ones.

use crate::rig::{Plugin, Rig, Setup, request};
use host_sim_engine::StartError;
use std::time::Duration;

/// Traps on requests to /trap.
const TRAPPER: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $header (i32.const 0) {:path} (i32.const 4096) (i32.const 4100)))
    (if (i32.eq (i32.load (i32.const 4100)) (i32.const 5)) (then (unreachable)))
    (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $log {log}))
"#;

fn status(rig: &mut Rig, path: &str) -> u16 {
    let id = rig.begin();
    rig.worker.request_headers(id, request("GET", path), true);
    let mut answer = rig.answer(id);
    if let Some(attempt) = rig.attempts.pop_front() {
        rig.respond(attempt.id, "200", "");
        answer = rig.answer(id);
    }
    rig.worker.downstream_complete(id);
    answer.status()
}

fn row(policy: &'static str) -> [u16; 5] {
    let mut rig = Setup::of([Plugin::new("t", TRAPPER).more(policy)]).start();
    rig.advance(Duration::from_secs(10));
    ["/x", "/trap", "/x", "/trap", "/x"].map(|path| status(&mut rig, path))
}

#[test]
fn fail_closed_answers_503_from_the_trap_on() {
    assert_eq!(row(""), [200, 503, 503, 503, 503]);
}

#[test]
fn fail_open_still_answers_503_to_the_request_that_trapped() {
    assert_eq!(row("failure_policy: FAIL_OPEN"), [200, 503, 200, 200, 200]);
}

#[test]
fn legacy_fail_open_lets_even_that_request_pass() {
    assert_eq!(row("fail_open: true"), [200, 200, 200, 200, 200]);
}

#[test]
fn fail_reload_makes_a_new_vm_for_the_next_request_but_not_within_the_back_off() {
    assert_eq!(row("failure_policy: FAIL_RELOAD"), [200, 503, 200, 503, 503]);
}

#[test]
fn a_reloaded_vm_counts_contexts_from_the_start_and_the_old_streams_get_no_log() {
    let mut rig =
        Setup::of([Plugin::new("t", TRAPPER).more("failure_policy: FAIL_RELOAD")]).start();
    rig.advance(Duration::from_secs(10));
    status(&mut rig, "/trap");
    assert!(rig.log().iter().all(|line| line != "t: log"));
    status(&mut rig, "/x");
    assert!(rig.log().contains(&"t: log".to_owned()));
    assert_eq!(rig.engine.stats().counter_value("wasm.t.vm_reload_success"), 1);
}

#[test]
fn one_plugins_trap_kills_every_plugin_of_its_vm_each_by_its_own_policy() {
    let open = Plugin { name: "other", ..Plugin::new("t", TRAPPER) }.more("fail_open: true");
    let mut rig = Setup::of([Plugin::new("t", TRAPPER), open]).start();
    assert_eq!(status(&mut rig, "/trap"), 503);
    assert!(rig.worker.failure("other").is_some());
    assert_eq!(status(&mut rig, "/x"), 503);
}

fn rejected(body: &str) -> StartError {
    Setup::of([Plugin::new("bad", body).more("failure_policy: FAIL_OPEN")])
        .try_start()
        .err()
        .expect("a rejection")
}

#[test]
fn a_rejected_configuration_quotes_the_modules_own_words() {
    let error = rejected(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $proxy_log (i32.const 4) {/rate: must be positive}))
        (i32.const 0))"#,
    );
    assert_eq!(error.plugin, "bad");
    assert_eq!(error.reason, "Unable to create Wasm plugin bad: proxy_on_configure returned false");
    assert_eq!(error.log, ["/rate: must be positive"]);
}

#[test]
fn a_trap_in_on_configure_rejects_even_with_fail_open() {
    let error = rejected(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) unreachable)"#,
    );
    assert!(error.reason.contains("proxy_on_configure failed: Uncaught RuntimeError: unreachable"));
}

#[test]
fn a_trap_when_the_root_is_created_loads_and_then_fails_closed() {
    let body = r#"(func (export "proxy_on_context_create") (param i32 i32) unreachable)"#;
    let mut rig = Setup::of([Plugin::new("t", body)]).start();
    assert_eq!(status(&mut rig, "/x"), 503);
}

#[test]
fn an_import_that_envoy_does_not_have_is_named() {
    let code = wat::parse_str(
        r#"(module (import "env" "proxy_get_upstream_hosts" (func)) (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32) (i32.const 0))
        (func (export "proxy_abi_version_0_2_1")))"#,
    )
    .unwrap();
    let plugin = Plugin { name: "dialect", code, ..Plugin::default() };
    let error = Setup::of([plugin]).try_start().err().expect("a rejection");
    assert!(error.reason.contains("proxy_get_upstream_hosts"), "{error}");
}

#[test]
fn a_module_without_an_allocator_is_refused() {
    let code = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#,
    )
    .unwrap();
    let plugin = Plugin { name: "mute", code, ..Plugin::default() };
    let error = Setup::of([plugin]).try_start().err().expect("a rejection");
    assert!(error.reason.contains("malloc"), "{error}");
}

#[test]
fn a_hostcall_in_the_allocator_fails_the_vm() {
    let code = wat::parse_str(
        r#"(module
        (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
        (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "plugin_name")
        (func (export "malloc") (param i32) (result i32)
          (drop (call $now (i32.const 8))) (i32.const 1024))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $property (i32.const 64) (i32.const 11) (i32.const 0) (i32.const 4)))
        (func (export "proxy_abi_version_0_2_1")))"#,
    )
    .unwrap();
    let mut rig = Setup::of([Plugin { name: "a", code, ..Plugin::default() }]).start();
    assert_eq!(status(&mut rig, "/x"), 503);
    assert!(rig.worker.failure("a").unwrap().contains("restricted_callback"));
}

#[test]
fn a_blocked_capability_answers_ten_and_the_request_is_served() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say (call $now (i32.const 4096))) (i32.const 0))"#;
    let more = "capability_restriction_config: {allowed_capabilities: {proxy_log: {}, \
                proxy_on_request_headers: {}}}";
    let mut rig = Setup::of([Plugin::new("p", body).more(more)]).start();
    assert_eq!(status(&mut rig, "/x"), 200);
    assert_eq!(
        rig.log(),
        [
            "p: Attempted call to restricted proxy-wasm capability: \
             proxy_get_current_time_nanoseconds",
            "p: 10"
        ]
    );
}

/// Two plugins of one VM, of which the first traps on /trap.
fn pair(first: &'static str, second: &'static str) -> Rig {
    let other = Plugin { name: "other", ..Plugin::new("t", TRAPPER) }.more(second);
    let mut rig = Setup::of([Plugin::new("t", TRAPPER).more(first), other]).start();
    rig.advance(Duration::from_secs(10));
    rig
}

const RELOAD: &str = "failure_policy: FAIL_RELOAD";

#[test]
fn two_plugins_of_a_vm_come_back_one_by_one_into_one_new_vm() {
    let mut rig = pair(RELOAD, RELOAD);
    assert_eq!(status(&mut rig, "/trap"), 503);
    rig.log();
    assert_eq!(status(&mut rig, "/x"), 200);
    let reloads: Vec<_> =
        rig.log().into_iter().filter(|line| line.ends_with("VM reload: success")).collect();
    assert_eq!(reloads, ["t: VM reload: success", "other: VM reload: success"]);
    let memory = rig.worker.memory_bytes();
    assert_eq!(memory, pair(RELOAD, RELOAD).worker.memory_bytes());
}

#[test]
fn a_plugin_that_reloads_does_not_take_a_closed_one_of_its_vm_along() {
    let mut rig = pair(RELOAD, "");
    status(&mut rig, "/trap");
    // The first filter serves again, the second one refuses.
    assert_eq!([status(&mut rig, "/x"), status(&mut rig, "/x")], [503, 503]);
    assert_eq!(rig.worker.failure("t"), None);
    assert!(rig.worker.failure("other").is_some());
    let count = |name: &str| rig.engine.stats().counter_value(name);
    assert_eq!(count("wasm.t.vm_reload_success"), 1);
    assert_eq!(count("wasm.other.vm_reload_success"), 0);
}

#[test]
fn an_open_plugin_is_left_out_while_the_other_one_of_its_vm_reloads() {
    let mut rig = pair("failure_policy: FAIL_OPEN", RELOAD);
    assert_eq!(status(&mut rig, "/trap"), 503);
    assert_eq!(status(&mut rig, "/x"), 200);
    assert!(rig.worker.failure("t").is_some());
    assert_eq!(rig.worker.failure("other"), None);
}

#[test]
fn a_root_that_traps_when_it_is_created_still_gets_vm_start_and_is_never_tried_again() {
    let body = r#"
      (func (export "proxy_on_context_create") (param i32 i32) (call $log {create}) unreachable)
      (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
        (call $log {vm_start}) (i32.const 1))
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $log {configure}) (i32.const 1))"#;
    let mut rig = Setup::of([Plugin::new("t", body).more(RELOAD)]).start();
    let own = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| line.starts_with("t: ") && line.len() < 14).collect()
    };
    assert_eq!(own(rig.log()), ["t: create", "t: vm_start"]);
    rig.advance(Duration::from_secs(10));
    assert_eq!(status(&mut rig, "/x"), 503);
    assert_eq!(own(rig.log()), [] as [&str; 0]);
    assert_eq!(rig.engine.stats().counter_value("wasm.t.vm_reload_failure"), 1);
}

#[test]
fn a_trap_in_a_tick_leaves_the_other_threads_alone() {
    let body = r#"
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $tick (i32.const 100))) (i32.const 1))
      (func (export "proxy_on_tick") (param i32) (call $log {tick}) unreachable)"#;
    let mut rig = Setup::of([Plugin::new("t", body)]).start();
    let mut main = rig.engine.main_thread().unwrap();
    rig.advance(Duration::from_millis(100));
    assert_eq!(status(&mut rig, "/x"), 503);
    assert_eq!(main.failure("t"), None);
    rig.log();
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.log(), [] as [&str; 0]);
    main.on_deadline();
    assert!(main.failure("t").is_some());
}
