//! Starts, ticks, sharing of VMs, teardown.

use crate::rig::{Plugin, Setup};
use host_sim_guest::TRACER;
use std::time::Duration;

#[test]
fn every_thread_configures_for_itself_and_so_does_the_canary() {
    let rig = Setup::of([Plugin::new("a", TRACER)]).start();
    assert_eq!(rig.canary, ["a: create", "a: vm_start", "a: configure"]);
    rig.log();
    let _main = rig.engine.main_thread().unwrap();
    let _second = rig.engine.worker(1).unwrap();
    let configured = rig.log().iter().filter(|line| *line == "a: configure").count();
    // With the canary and the first worker: N + 2.
    assert_eq!(configured, 2);
}

#[test]
fn plugins_of_one_vm_key_share_a_vm_and_each_is_started() {
    let body = r#"
      (global $started (mut i32) (i32.const 0))
      (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
        (global.set $started (i32.add (global.get $started) (i32.const 1)))
        (call $say (local.get 0))
        (call $say (global.get $started)) (i32.const 1))"#;
    let second = Plugin { name: "b", ..Plugin::new("a", body) };
    let other = Plugin { name: "c", ..Plugin::new("a", body) }.vm_configuration("x");
    let mut rig = Setup::of([Plugin::new("a", body), second, other]).start();
    assert_eq!(rig.log(), ["a: 1", "a: 1", "b: 2", "b: 2", "c: 1", "c: 1"]);
    assert_eq!(rig.get_ok("/").status(), 200);
}

const TICKER: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 100))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (call $log {tick}))
"#;

#[test]
fn ticks_come_on_the_main_thread_and_on_every_worker() {
    let mut rig = Setup::of([Plugin::new("t", TICKER)]).start();
    let mut main = rig.engine.main_thread().unwrap();
    rig.advance(Duration::from_millis(100));
    main.on_deadline();
    assert_eq!(rig.log(), ["t: tick", "t: tick"]);
    rig.advance(Duration::from_millis(99));
    assert_eq!(rig.log(), [] as [&str; 0]);
    rig.advance(Duration::from_millis(1));
    assert_eq!(rig.log(), ["t: tick"]);
}

#[test]
fn period_zero_stops_the_tick() {
    let body = TICKER.replace("(call $log {tick})", "(drop (call $tick (i32.const 0)))");
    let mut rig = Setup::of([Plugin::new("t", &body)]).start();
    assert!(rig.worker.next_deadline().is_some());
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.worker.next_deadline(), None);
}

#[test]
fn shutdown_ends_the_roots() {
    let mut rig = Setup::of([Plugin::new("a", TRACER)]).start();
    rig.log();
    rig.worker.shutdown();
    assert_eq!(rig.log(), ["a: done", "a: delete"]);
}

#[test]
fn the_configuration_can_be_read_while_configuring_and_not_later() {
    let body = r#"
      (func (export "proxy_on_configure") (param $root i32) (param $len i32) (result i32)
        (call $say (local.get $len))
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 99)
          (i32.const 4096) (i32.const 4100)))
        (call $say_value) (i32.const 1))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say (call $buffer (i32.const 7) (i32.const 0) (i32.const 99)
          (i32.const 4096) (i32.const 4100)))
        (call $say (call $buffer (i32.const 6) (i32.const 0) (i32.const 99)
          (i32.const 4096) (i32.const 4100)))
        (call $say_value) (i32.const 0))"#;
    let plugin = Plugin::new("c", body).configuration("hello").vm_configuration("vm");
    let mut rig = Setup::of([plugin]).start();
    assert_eq!(rig.log(), ["c: 5", "c: hello"]);
    rig.get("/");
    assert_eq!(rig.log(), ["c: 1", "c: 0", "c: vm"]);
}

#[test]
fn the_last_filters_root_ends_first_and_one_that_waits_is_not_waited_for() {
    let waits = r#"
      (func (export "proxy_on_done") (param i32) (result i32) (call $log {done}) (i32.const 0))
      (func (export "proxy_on_delete") (param i32) (call $log {delete}))"#;
    let plugins = [("a", waits), ("b", TRACER), ("c", TRACER)];
    let mut rig = Setup::of(plugins.map(|(name, body)| Plugin::new(name, body))).start();
    rig.log();
    rig.worker.shutdown();
    assert_eq!(rig.log(), ["c: done", "c: delete", "b: done", "b: delete", "a: done"]);
}

#[test]
fn plugins_with_other_variables_or_capabilities_do_not_share_a_vm() {
    let body = r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32)
      (call $say (local.get 0)) (i32.const 1))"#;
    let with = |name, more| Plugin { name, ..Plugin::new("a", body) }.more(more);
    let capabilities = "capability_restriction_config: {allowed_capabilities: {proxy_log: {}, \
                        proxy_on_vm_start: {}}}";
    let rig = Setup::of([with("a", ""), with("b", ""), with("c", capabilities)]).start();
    assert_eq!(rig.log(), ["a: 1", "b: 2", "c: 1"]);
}

#[test]
fn what_the_canary_wrote_to_shared_data_stays() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $set_shared {key} {value} (i32.const 0))) (i32.const 1))"#;
    let rig = Setup::of([Plugin::new("a", body)]).start();
    // The canary's and the worker's.
    assert_eq!(rig.engine.shared_data().get("", b"key").map(|(_, cas)| cas), Some(2));
}
