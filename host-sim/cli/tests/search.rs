//! `run --trace`, `--replay`, `--repeat` and `explore`, as users run them.

use std::path::Path;
use std::process::{Command, Output};

/// Adds one to a key without looking whether it has changed.
const MODULE: &str = r#"(module
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $x i64)
    (if (i32.eqz (call $get (i32.const 0) (i32.const 1) (i32.const 64) (i32.const 68) (i32.const 72)))
      (then (local.set $x (i64.load (i32.load (i32.const 64))))))
    (i64.store (i32.const 80) (i64.add (local.get $x) (i64.const 1)))
    (drop (call $set (i32.const 0) (i32.const 1) (i32.const 80) (i32.const 8) (i32.const 0)))
    (i32.const 0)))"#;

const SCENARIO: &str = "
scenario: every request is counted
workers: [3]
suite: {filters: [{module: counter.wasm, name: counter}]}
endpoints: {127.0.0.1:9001: {}}
explore: {same: [shared_data]}
steps:
- send: {count: 6}
  expect: {statuses: {200: '>= 1'}}
";

fn host_sim(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_host-sim"))
        .current_dir(folder)
        .args(args)
        .args(["--no-cache"])
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("counter.wasm"), wat::parse_str(MODULE).unwrap()).unwrap();
    std::fs::write(folder.path().join("counter.yaml"), SCENARIO).unwrap();
    folder
}

#[test]
fn a_trace_replays_and_a_changed_one_does_not() {
    let folder = folder();
    let traced = host_sim(folder.path(), &["run", "counter.yaml", "--trace", "run.jsonl"]);
    assert_eq!(traced.status.code(), Some(0), "{traced:?}");
    let replayed = host_sim(folder.path(), &["run", "--replay", "run.jsonl"]);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    assert!(stdout(&replayed).contains("all the same"));
    let file = folder.path().join("run.jsonl");
    let changed = std::fs::read_to_string(&file).unwrap().replacen("\"fuel\":", "\"fuel\":1", 1);
    std::fs::write(&file, changed).unwrap();
    let replayed = host_sim(folder.path(), &["run", "--replay", "run.jsonl"]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(stdout(&replayed).contains("the runs differ at line"), "{replayed:?}");
}

#[test]
fn repeated_runs_give_one_digest() {
    let folder = folder();
    let args = ["run", "counter.yaml", "--repeat", "5", "--jobs", "2"];
    let repeated = host_sim(folder.path(), &args);
    assert_eq!(repeated.status.code(), Some(0), "{repeated:?}");
    assert!(stdout(&repeated).contains("5 of 5 runs gave"), "{repeated:?}");
    let args = ["run", "counter.yaml", "--repeat", "2", "--format", "json"];
    let repeated = host_sim(folder.path(), &args);
    serde_json::from_str::<serde_json::Value>(stdout(&repeated)).expect("one document, no more");
}

#[test]
fn what_explore_finds_is_told_step_by_step_and_can_be_kept() {
    let folder = folder();
    let found = host_sim(folder.path(), &["explore", "counter.yaml", "--save", "found.json"]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let text = stdout(&found);
    assert!(text.contains("smallest: 2 workers, 2 requests, 1 turns taken"), "{text}");
    assert!(text.contains("4. worker 0  counter  on_request_headers  set_shared_data"), "{text}");
    let again = host_sim(folder.path(), &["explore", "--replay", "found.json"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let steps = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("  counter  "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!((steps(stdout(&again)), steps(text).len()), (steps(text), 4));
    let by = |text: &str| text.lines().find(|line| line.contains("found by")).map(str::to_owned);
    assert_eq!(by(stdout(&again)), by(text));
}

#[test]
fn a_scenario_that_cannot_be_explored_is_exit_code_2() {
    let folder = folder();
    for args in [["explore", "nothing.yaml"], ["explore", "."]] {
        if args[1] == "." {
            std::fs::remove_file(folder.path().join("counter.yaml")).unwrap();
        }
        assert_eq!(host_sim(folder.path(), &args).status.code(), Some(2), "{args:?}");
    }
}
