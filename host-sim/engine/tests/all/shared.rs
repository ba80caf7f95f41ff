//! What VMs share: data, queues, metrics.

use crate::rig::{Plugin, Setup};

#[test]
fn the_canarys_put_if_absent_wins_and_every_later_one_loses() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $say (call $set_shared {key} {value} (i32.const 77)))
        (i32.const 1))"#;
    let rig = Setup::of([Plugin::new("p", body)]).start();
    assert_eq!(rig.canary, ["p: 0"]);
    assert_eq!(rig.log(), ["p: 8"]);
    assert_eq!(rig.engine.shared_data().get("", b"key").unwrap().1, 1);
}

#[test]
fn an_empty_value_is_a_null_pointer_with_a_cas_number() {
    let body = r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32)
        (call $say (call $get_shared {k} (i32.const 4096) (i32.const 4100) (i32.const 4104)))
        (drop (call $set_shared {k} {} (i32.const 0)))
        (call $say (call $get_shared {k} (i32.const 4096) (i32.const 4100) (i32.const 4104)))
        (call $say (i32.load (i32.const 4096)))
        (call $say (i32.load (i32.const 4104)))
        (i32.const 1))"#;
    let rig = Setup::of([Plugin::new("p", body)]).start();
    assert_eq!(rig.canary, ["p: 1", "p: 0", "p: 0", "p: 1"]);
}

const QUEUE: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $register_queue {q} (i32.const 4096))) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $enqueue (i32.load (i32.const 4096)) {item})) (i32.const 0))
  (func (export "proxy_on_queue_ready") (param $root i32) (param $token i32)
    (call $log {ready}) (call $say (local.get $token)))
"#;

#[test]
fn only_the_last_registrant_of_a_queue_is_woken() {
    let mut rig = Setup::of([Plugin::new("q", QUEUE)]).start();
    let mut last = rig.engine.worker(1).unwrap();
    rig.get("/");
    assert!(last.next_deadline().is_some());
    rig.worker.on_deadline();
    assert_eq!(rig.log(), [] as [&str; 0]);
    last.on_deadline();
    assert_eq!(rig.log(), ["q: ready", "q: 1"]);
}

#[test]
fn metrics_are_one_value_for_all_vms_and_types_are_in_the_id() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $define (i32.const 0) {hits} (i32.const 4096)))
        (call $say (i32.load (i32.const 4096)))
        (call $say (call $increment (i32.load (i32.const 4096)) (i64.const 3)))
        (call $say (call $increment (i32.load (i32.const 4096)) (i64.const 0)))
        (drop (call $record (i32.load (i32.const 4096)) (i64.const 4)))
        (drop (call $define (i32.const 1) {level} (i32.const 4096)))
        (call $say (i32.load (i32.const 4096)))
        (drop (call $increment (i32.load (i32.const 4096)) (i64.const -2)))
        (drop (call $define (i32.const 2) {size} (i32.const 4096)))
        (call $say (i32.load (i32.const 4096)))
        (call $say (call $increment (i32.load (i32.const 4096)) (i64.const 1)))
        (call $say (call $increment (i32.const 400) (i64.const 1)))
        (i32.const 1))"#;
    let rig = Setup::of([Plugin::new("m", body)]).start();
    assert_eq!(rig.canary, ["m: 4", "m: 0", "m: 2", "m: 5", "m: 6", "m: 2", "m: 1"]);
    // Canary and worker: twice 3 + 4, twice -2 below zero.
    assert_eq!(rig.engine.stats().counter_value("wasmcustom.hits"), 14);
    assert_eq!(rig.engine.stats().gauge_value("wasmcustom.level"), u64::MAX - 3);
}
