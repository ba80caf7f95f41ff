use super::*;
use crate::RunOptions;
use std::path::PathBuf;

/// Draws a random number, counts requests in shared data.
const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "count")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $random (i32.const 64) (i32.const 8)))
    (drop (call $get (i32.const 0) (i32.const 5) (i32.const 72) (i32.const 76) (i32.const 80)))
    (drop (call $set (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 8) (i32.const 0)))
    (i32.const 0)))"#;

const SCENARIO: &str = "
scenario: twenty requests on three workers
workers: [3]
seed: 5
suite: {filters: [{module: drawer.wat.wasm}]}
endpoints: {127.0.0.1:9001: {answer: {latency: 3ms}}}
steps:
- send: {count: 20, every: 1ms, workers: random}
  expect: {statuses: {200: 20}}
";

fn scenario() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let module = wat::parse_str(MODULE).unwrap();
    std::fs::write(folder.path().join("drawer.wat.wasm"), module).unwrap();
    let file = folder.path().join("scenario.yaml");
    std::fs::write(&file, SCENARIO).unwrap();
    (folder, file)
}

fn record(file: &Path, seed: u64) -> (String, TraceSummary) {
    let path = file.with_extension("jsonl");
    let trace = Trace::to_file(&path).unwrap();
    let options =
        RunOptions { seed: Some(seed), trace: Some(trace.clone()), ..RunOptions::default() };
    let report = crate::run(&[file.to_owned()], &options, |_| {}).unwrap();
    assert_eq!(report.exit_code(), 0, "{:?}", report.outcomes);
    let summary = trace.finish().unwrap();
    (std::fs::read_to_string(&path).unwrap(), summary)
}

#[test]
fn equal_seeds_give_equal_bytes_and_another_seed_others() {
    let (_folder, file) = scenario();
    let (first, summary) = record(&file, 1);
    assert_eq!(record(&file, 1), (first.clone(), summary));
    assert_ne!(record(&file, 2).0, first);
}

#[test]
fn every_line_is_json_and_every_kind_of_event_is_there() {
    let (_folder, file) = scenario();
    let (text, summary) = record(&file, 1);
    assert_eq!(text.lines().count() as u64, summary.lines);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["t"].is_u64() || value["run"] == 1, "{line}");
    }
    for event in ["enter", "hostcall", "exit", "draw", "send", "answer", "output"] {
        assert!(text.contains(&format!("\"event\":\"{event}\"")), "no {event}");
    }
    assert!(text.contains(r#""name":"proxy_get_shared_data""#) && text.contains(r#""of":"count""#));
    assert!(text.contains("\"given\":8") && text.contains("\"status\":1"));
}

#[test]
fn a_replay_of_an_untouched_trace_finds_nothing() {
    let (_folder, file) = scenario();
    let (text, _) = record(&file, 9);
    let replayed = replay(&file.with_extension("jsonl")).unwrap();
    let lines = text.lines().count() as u64;
    assert_eq!(replayed, Replayed { runs: 1, lines, difference: None });
}

#[test]
fn a_replay_tells_the_first_line_that_differs_with_what_came_before() {
    let (_folder, file) = scenario();
    let (text, _) = record(&file, 9);
    let at = text.lines().position(|line| line.contains("\"event\":\"exit\"")).unwrap();
    let changed: Vec<_> = text
        .lines()
        .enumerate()
        .map(|(n, line)| if n == at { line.replace("\"t\":", "\"t\":9") } else { line.to_owned() })
        .collect();
    let path = file.with_extension("jsonl");
    std::fs::write(&path, changed.join("\n") + "\n").unwrap();
    let difference = replay(&path).unwrap().difference.unwrap();
    assert_eq!(difference.line, at as u64 + 1);
    assert_eq!(difference.before.last().map(String::as_str), text.lines().nth(at - 1));
    assert_eq!(difference.now.as_deref(), text.lines().nth(at));
    assert_eq!(difference.recorded.as_ref(), changed.get(at));
}

#[test]
fn a_trace_that_was_cut_short_differs_where_it_ends() {
    let (_folder, file) = scenario();
    let (text, _) = record(&file, 9);
    let path = file.with_extension("jsonl");
    let cut: String = text.lines().take(30).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, cut).unwrap();
    let difference = replay(&path).unwrap().difference.unwrap();
    assert_eq!((difference.line, difference.recorded), (31, None));
    std::fs::write(&path, text + "{\"t\":1}\n").unwrap();
    let difference = replay(&path).unwrap().difference.unwrap();
    assert_eq!((difference.now, difference.recorded.as_deref()), (None, Some("{\"t\":1}")));
}

#[test]
fn repeated_runs_have_one_digest() {
    let (_folder, file) = scenario();
    let repeated =
        repeat(std::slice::from_ref(&file), &RunOptions::default(), 4, 2, |_| {}).unwrap();
    assert_eq!((repeated.same, repeated.others.len()), (4, 0));
    assert_eq!(repeated.trace, record(&file, 5).1);
    let error = repeat(&[file.join("none")], &RunOptions::default(), 2, 2, |_| {});
    assert!(error.is_err());
}
