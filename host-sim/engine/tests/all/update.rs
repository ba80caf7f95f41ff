//! Replacing a plugin's configuration while requests are in flight. Orders and outcomes are those
//! of Envoy under a filter configuration that changes in its file.

use crate::rig::{Plugin, Rig, Setup};
use host_sim_engine::{AttemptId, ExchangeId, StartError, Worker};
use host_sim_guest::encoded;
use std::time::Duration;

/// Says what happens to it, and with which configuration. The first letter of the configuration
/// asks for more: `r`eject, `f`ail from the second start on, `t`ick, `w`ait in on_done until a
/// tick, register a `q`ueue, make a `c`all.
fn probe() -> String {
    let call = encoded(&[(":method", "GET"), (":path", "/call"), (":authority", "a")]);
    r#"
  (global $waits (mut i32) (i32.const 0))
  ;; Contexts' roots at 20480, roots' configurations (length, text) at 16384.
  (func $root (param $c i32) (result i32)
    (i32.load (i32.add (i32.const 20480) (i32.mul (local.get $c) (i32.const 4)))))
  (func $text (param $c i32) (result i32)
    (i32.add (i32.const 16384) (i32.mul (call $root (local.get $c)) (i32.const 32))))
  (func $first (param $c i32) (result i32)
    (i32.load8_u (i32.add (call $text (local.get $c)) (i32.const 4))))
  (func $event (param $what i32) (param $n i32) (param $c i32)
    (local $at i32)
    (local.set $at (call $text (local.get $c)))
    (memory.copy (i32.const 24576) (local.get $what) (local.get $n))
    (memory.copy (i32.add (i32.const 24576) (local.get $n))
      (i32.add (local.get $at) (i32.const 4)) (i32.load (local.get $at)))
    (call $log (i32.const 24576) (i32.add (local.get $n) (i32.load (local.get $at)))))
  (func (export "proxy_on_context_create") (param $c i32) (param $parent i32)
    (i32.store (i32.add (i32.const 20480) (i32.mul (local.get $c) (i32.const 4)))
      (if (result i32) (local.get $parent) (then (local.get $parent)) (else (local.get $c)))))
  (func (export "proxy_on_configure") (param $c i32) (param $n i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 28)
      (i32.const 4096) (i32.const 4100)))
    (i32.store (call $text (local.get $c)) (i32.load (i32.const 4100)))
    (memory.copy (i32.add (call $text (local.get $c)) (i32.const 4))
      (i32.load (i32.const 4096)) (i32.load (i32.const 4100)))
    (call $event {configure } (local.get $c))
    (if (i32.or (i32.eq (call $first (local.get $c)) (i32.const 116))
                (i32.eq (call $first (local.get $c)) (i32.const 119)))
      (then (drop (call $tick (i32.const 100)))))
    (if (i32.eq (call $first (local.get $c)) (i32.const 113))
      (then (drop (call $register_queue {q} (i32.const 4104)))))
    (if (i32.eq (call $first (local.get $c)) (i32.const 99))
      (then (drop (call $http_call {backend} {CALL} {} {} (i32.const 0) (i32.const 4104)))))
    (if (i32.eq (call $first (local.get $c)) (i32.const 102))
      (then
        (if (i32.eqz (call $get_shared {n} (i32.const 4096) (i32.const 4100) (i32.const 4104)))
          (then (return (i32.const 0))))
        (drop (call $set_shared {n} {1} (i32.const 0)))))
    (i32.ne (call $first (local.get $c)) (i32.const 114)))
  (func (export "proxy_on_tick") (param $c i32)
    (call $event {tick } (local.get $c))
    (if (i32.eq (global.get $waits) (local.get $c))
      (then (global.set $waits (i32.const 0)) (call $say (call $proxy_done)))))
  (func (export "proxy_on_queue_ready") (param $c i32) (param $q i32)
    (drop (call $dequeue (local.get $q) (i32.const 4096) (i32.const 4100)))
    (call $event {ready } (local.get $c)))
  (func (export "proxy_on_http_call_response") (param $c i32) (param i32 i32 i32 i32)
    (call $event {answer } (local.get $c)))
  (func (export "proxy_on_request_headers") (param $c i32) (param i32 i32) (result i32)
    (drop (call $enqueue (i32.const 1) {x}))
    (call $event {request } (local.get $c)) (i32.const 0))
  (func (export "proxy_on_response_headers") (param $c i32) (param i32 i32) (result i32)
    (call $event {response } (local.get $c)) (i32.const 0))
  (func (export "proxy_on_done") (param $c i32) (result i32)
    (call $event {done } (local.get $c))
    (if (i32.eq (call $root (local.get $c)) (local.get $c)) (then
      (if (i32.eq (call $first (local.get $c)) (i32.const 119)) (then
        (global.set $waits (local.get $c)) (return (i32.const 0))))))
    (i32.const 1))
  (func (export "proxy_on_delete") (param $c i32) (call $event {delete } (local.get $c)))
"#
    .replace("CALL", &call)
}

fn plugin(configuration: &'static str) -> Plugin {
    Plugin::new("p", &probe()).configuration(configuration)
}

fn start(configuration: &'static str) -> (Rig, Worker) {
    let rig = Setup::of([plugin(configuration)]).start();
    let main = rig.engine.main_thread().unwrap();
    rig.log();
    (rig, main)
}

fn update(rig: &Rig, to: &str) -> Result<(), StartError> {
    rig.engine.update_plugin("p", |config| config.configuration.bytes = to.into())
}

/// Every thread's turn, in Envoy's order.
fn turn(rig: &mut Rig, main: &mut Worker) {
    main.on_deadline();
    rig.worker.on_deadline();
    main.on_deadline();
}

/// The upstream answers, and the stream ends.
fn end(rig: &mut Rig, id: ExchangeId, attempt: AttemptId) {
    rig.respond(attempt, "200", "");
    rig.answer(id);
    rig.worker.downstream_complete(id);
}

fn log(rig: &Rig) -> Vec<String> {
    rig.log().iter().map(|line| line.replacen("p: ", "", 1)).collect()
}

#[test]
fn the_canary_goes_first_then_every_thread_and_the_main_thread_lets_go_last() {
    let (mut rig, mut main) = start("A");
    update(&rig, "B").unwrap();
    assert_eq!(log(&rig), ["configure B"]);
    main.on_deadline();
    assert_eq!(log(&rig), ["configure B"]);
    rig.worker.on_deadline();
    assert_eq!(log(&rig), ["configure B", "done A", "delete A"]);
    main.on_deadline();
    assert_eq!(log(&rig), ["done A", "delete A"]);
    assert_eq!(rig.get_ok("/").status(), 200);
    assert_eq!(log(&rig), ["request B", "response B", "done B", "delete B"]);
}

#[test]
fn a_stream_goes_on_with_its_root_which_ends_after_the_last_one() {
    let (mut rig, mut main) = start("A");
    let (first, second) = (rig.get("/"), rig.get("/"));
    let attempts = (rig.attempt(), rig.attempt());
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    end(&mut rig, first, attempts.0.id);
    assert_eq!(log(&rig), ["response A", "done A", "delete A"]);
    end(&mut rig, second, attempts.1.id);
    assert_eq!(log(&rig), ["response A", "done A", "delete A", "done A", "delete A"]);
}

#[test]
fn a_refused_configuration_changes_nothing_and_is_not_tried_again() {
    let (mut rig, mut main) = start("A");
    let error = update(&rig, "reject").unwrap_err();
    assert!(error.reason.contains("proxy_on_configure returned false"), "{error}");
    assert_eq!(log(&rig), ["configure reject"]);
    let again = update(&rig, "reject").unwrap_err();
    assert!(again.reason.contains("refused before"), "{again}");
    turn(&mut rig, &mut main);
    assert_eq!(log(&rig), [] as [&str; 0]);
    rig.get_ok("/");
    assert_eq!(log(&rig)[0], "request A");
}

#[test]
fn a_plugin_that_nobody_runs_cannot_be_updated() {
    let (rig, _main) = start("A");
    let error = rig.engine.update_plugin("other", |_| {}).unwrap_err();
    assert!(error.reason.contains("no filter or service runs a plugin named \"other\""));
}

#[test]
fn going_back_while_the_old_root_drains_takes_it_back() {
    let (mut rig, mut main) = start("A");
    let id = rig.get("/");
    let attempt = rig.attempt();
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    update(&rig, "A").unwrap();
    // No canary: the VM's base remembers it. The main thread's old root is gone, a new one is made.
    turn(&mut rig, &mut main);
    assert_eq!(log(&rig), ["configure A", "done B", "delete B", "done B", "delete B"]);
    end(&mut rig, id, attempt.id);
    assert_eq!(log(&rig), ["response A", "done A", "delete A"]);
    rig.get_ok("/");
    assert_eq!(log(&rig)[0], "request A");
}

#[test]
fn ticks_of_a_draining_root_go_on_until_it_ends() {
    let (mut rig, mut main) = start("tick");
    let id = rig.get("/");
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    rig.advance(Duration::from_millis(100));
    assert_eq!(log(&rig), ["tick tick"]);
    rig.worker.downstream_reset(id);
    log(&rig);
    rig.advance(Duration::from_millis(300));
    assert_eq!(log(&rig), [] as [&str; 0]);
}

#[test]
fn a_queue_wakes_a_draining_root_and_nobody_after_it() {
    let (mut rig, mut main) = start("B");
    update(&rig, "q").unwrap();
    turn(&mut rig, &mut main);
    let id = rig.get("/");
    let attempt = rig.attempt();
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    rig.get_ok("/");
    rig.worker.on_deadline();
    assert!(log(&rig).contains(&"ready q".to_owned()));
    end(&mut rig, id, attempt.id);
    log(&rig);
    rig.get_ok("/");
    rig.worker.on_deadline();
    assert_eq!(log(&rig), ["request B", "response B", "done B", "delete B"]);
}

#[test]
fn calls_of_a_root_that_ends_are_cancelled() {
    let (mut rig, mut main) = start("A");
    update(&rig, "call").unwrap();
    turn(&mut rig, &mut main);
    let call = rig.attempt();
    let id = call.id;
    rig.attempts.push_back(call);
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    rig.answer(host_sim_engine::ExchangeId(u64::MAX));
    assert!(rig.attempts[0].cancelled);
    log(&rig);
    rig.respond(id, "200", "");
    assert_eq!(log(&rig), [] as [&str; 0]);
}

#[test]
fn shared_data_survives_an_update_and_goes_with_the_last_vm_of_its_vm_id() {
    let (mut rig, mut main) = start("A");
    let data = |rig: &Rig| rig.engine.shared_data().get("", b"k").map(|(_, cas)| cas);
    rig.engine.shared_data().set("", b"k", "v".into(), 0).unwrap();
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    assert_eq!(data(&rig), Some(1));
    let id = rig.get("/");
    rig.engine.update_plugin("p", |config| config.vm.vm_id = "other".to_owned()).unwrap();
    turn(&mut rig, &mut main);
    // A stream still runs in a VM of the old id.
    assert_eq!(data(&rig), Some(1));
    rig.worker.downstream_reset(id);
    assert_eq!(data(&rig), None);
    rig.engine.shared_data().set("other", b"k", "v".into(), 0).unwrap();
    assert_eq!(rig.engine.shared_data().get("other", b"k").map(|(_, cas)| cas), Some(2));
}

#[test]
fn a_root_that_waits_is_deleted_when_it_says_it_is_done() {
    let (mut rig, mut main) = start("wait");
    update(&rig, "B").unwrap();
    turn(&mut rig, &mut main);
    assert!(!log(&rig).contains(&"delete wait".to_owned()));
    rig.advance(Duration::from_millis(100));
    assert_eq!(log(&rig), ["tick wait", "0", "delete wait"]);
}

#[test]
fn a_root_that_waits_goes_without_a_word_when_its_vm_does() {
    let (mut rig, mut main) = start("wait");
    rig.engine
        .update_plugin("p", |config| {
            config.vm.vm_id = "other".to_owned();
            config.configuration.bytes = "B".into();
        })
        .unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    rig.advance(Duration::from_secs(1));
    assert_eq!(log(&rig), [] as [&str; 0]);
}

#[test]
fn a_plugin_that_fails_on_a_thread_only_is_absent_there_and_spoils_its_vm_key() {
    let (mut rig, mut main) = start("A");
    // The canary passes and notes it, the threads fail.
    update(&rig, "fail").unwrap();
    turn(&mut rig, &mut main);
    assert_eq!(
        log(&rig).iter().map(|line| line.lines().next().unwrap_or_default()).collect::<Vec<_>>(),
        [
            "configure fail",
            "configure fail",
            "plugin \"p\": Unable to create Wasm plugin p: proxy_on_configure returned false",
            "configure fail",
            "plugin \"p\": Unable to create Wasm plugin p: proxy_on_configure returned false",
            "done A",
            "delete A",
            "done fail",
            "delete fail",
            "done A",
            "delete A",
            "done fail",
            "delete fail",
        ]
    );
    assert_eq!(rig.get_ok("/").status(), 200);
    assert_eq!(log(&rig), [] as [&str; 0]);
    let error = update(&rig, "B").unwrap_err();
    assert!(error.reason.contains("failed on a thread"), "{error}");
    rig.engine
        .update_plugin("p", |config| {
            config.vm.vm_id = "fresh".to_owned();
            config.configuration.bytes = "B".into();
        })
        .unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    rig.get_ok("/");
    assert_eq!(log(&rig)[0], "request B");
}

#[test]
fn the_other_plugin_of_the_vm_is_not_touched() {
    let other = Plugin { name: "q", ..plugin("Q") };
    let mut rig = Setup::of([plugin("A"), other]).start();
    rig.log();
    update(&rig, "B").unwrap();
    rig.worker.on_deadline();
    assert_eq!(rig.log(), ["p: configure B", "p: configure B", "p: done A", "p: delete A"]);
    rig.get_ok("/");
    assert_eq!(rig.log()[..2], ["p: request B", "q: request Q"]);
}

#[test]
fn another_module_gets_a_vm_of_its_own() {
    let (mut rig, mut main) = start("A");
    let id = rig.get("/");
    rig.attempt();
    let other = host_sim_guest::module(host_sim_guest::TRACER);
    rig.engine
        .update_plugin("p", |config| {
            config.vm.code = host_sim_bootstrap::DataSource::Inline(other.clone());
        })
        .unwrap();
    turn(&mut rig, &mut main);
    log(&rig);
    rig.get_ok("/");
    assert_eq!(log(&rig)[..2], ["create", "request_headers"]);
    rig.worker.downstream_reset(id);
    assert_eq!(log(&rig), ["done A", "delete A", "done A", "delete A"]);
}
