//! `host-sim simulate` as users run it.

use std::path::Path;
use std::process::{Command, Output};

const SMALL: &str = "
experiment: two speeds
seeds: 2
duration: 2s
endpoints: [{name: e, count: 4, slots: 2, service_time: {mean: 10ms}, speeds: [0.5, 1.5]}]
load: {rho: 0.7}
arms:
- {name: turns, policy: {round_robin: {}}}
- {name: scan, policy: {least_request: {selection_method: full_scan}}}
";

fn simulate(folder: &Path, text: &str, args: &[&str]) -> Output {
    let file = folder.join("experiment.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-sim"));
    command.arg("simulate").arg(file).args(args).output().unwrap()
}

fn told(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_table_is_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let output = simulate(folder.path(), SMALL, &[]);
    let text = told(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output.stderr));
    for part in ["two speeds", "2 seeds", "P99 ms", "turns", "scan", "of this machine"] {
        assert!(text.contains(part), "missing {part} in:\n{text}");
    }
}

#[test]
fn json_is_the_same_to_the_byte_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let one = simulate(folder.path(), SMALL, &["--format", "json", "--seeds", "3"]);
    let out = folder.path().join("out.json");
    let three = ["--format", "json", "--seeds", "3", "--jobs", "3", "--out", out.to_str().unwrap()];
    let other = simulate(folder.path(), SMALL, &three);
    assert_eq!((other.status.code(), told(&other.stdout)), (Some(0), String::new()));
    let json = told(&one.stdout);
    assert_eq!(json, std::fs::read_to_string(out).unwrap());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["seeds"], serde_json::json!([1, 2, 3]));
    let ratio = &value["arms"][1]["ratios"]["turns"]["all"]["p99"]["median"];
    assert!(ratio.as_f64().is_some_and(|ratio| ratio < 1.0), "{ratio}");
    assert_eq!(value["arms"][0]["runs"][2]["shares"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_page_is_html() {
    let folder = tempfile::tempdir().unwrap();
    let page = told(&simulate(folder.path(), SMALL, &["--format", "html"]).stdout);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_lines_and_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = simulate(folder.path(), &SMALL.replace("slots", "slot"), &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = told(&output.stderr);
    assert!(text.contains("line 5 column") && text.contains("did you mean 'slots'?"), "{text}");
    let missing =
        Command::new(env!("CARGO_BIN_EXE_host-sim")).args(["simulate", "none.yaml"]).output();
    assert_eq!(missing.unwrap().status.code(), Some(2));
}
