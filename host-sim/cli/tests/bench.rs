//! `host-sim bench` as users run it.

use std::path::Path;
use std::process::{Command, Output};

const MODULE: &str = r#"(module
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) ":path")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 68)))
    (i32.const 0)))"#;

fn bootstrap(directory: &Path) -> String {
    let module = directory.join("module.wasm");
    std::fs::write(&module, wat::parse_str(MODULE).unwrap()).unwrap();
    let reader = host_sim_guest::filter("reader", &format!("filename: {}", module.display()));
    let endpoint = ([192, 0, 2, 1], 80).into();
    let file = host_sim_guest::bootstrap(&[reader], &[("backend", endpoint)]);
    let path = directory.join("envoy.yaml");
    std::fs::write(&path, file).unwrap();
    path.display().to_string()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-sim"));
    command.arg("bench").args(args);
    command
}

fn bench(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn json(file: &str) -> serde_json::Value {
    let output = bench(&["-c", file, "--requests", "50", "--workers", "2", "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_tells_what_a_request_costs_and_is_the_same_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = bootstrap(directory.path());
    let mut first = json(&file);
    assert_eq!(first["statuses"]["200"], 50);
    assert_eq!(first["per_request"]["hostcalls"], 1.0);
    assert_eq!(first["per_request"]["bytes_given"], 1.0);
    let headers = &first["callbacks"][1];
    assert_eq!(headers["callback"], "proxy_on_request_headers");
    assert_eq!(headers["plugin"], "reader");
    assert_eq!(headers["calls"], 50);
    assert_eq!(headers["hostcalls_by_name"]["proxy_get_header_map_value"], 1.0);
    assert!(headers["instructions"]["p99"].as_u64() > Some(5), "{headers}");
    let speed = first.as_object_mut().unwrap().remove("simulator").unwrap();
    assert!(speed["requests_per_second"].as_f64() > Some(0.0), "{speed}");
    let mut second = json(&file);
    second.as_object_mut().unwrap().remove("simulator");
    for report in [&mut first, &mut second] {
        report.as_object_mut().unwrap().remove("start");
    }
    assert_eq!(first, second);
}

#[test]
fn the_second_start_compiles_nothing_and_a_spoilt_cache_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let (file, cache) = (bootstrap(directory.path()), directory.path().join("cache"));
    let start = |more: &[&str]| {
        let args = [&["-c", &file, "--requests", "1", "--format", "json"], more].concat();
        let output = command(&args).env("HOST_SIM_CACHE", &cache).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let start = &report["start"];
        assert!(start["milliseconds"].as_f64() > Some(0.0), "{start}");
        (start["compiled"].as_u64().unwrap(), start["from_cache"].as_u64().unwrap())
    };
    assert_eq!(start(&["--no-cache"]), (1, 0));
    assert!(!cache.exists());
    assert_eq!([start(&[]), start(&[]), start(&["--no-cache"])], [(1, 0), (0, 1), (1, 0)]);
    let entries: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!entries.is_empty());
    for entry in entries {
        std::fs::write(entry, "not what was compiled").unwrap();
    }
    assert_eq!([start(&[]), start(&[])], [(1, 0), (0, 1)]);
}

#[test]
fn text_names_the_plugin_and_warns_that_the_speed_is_this_machine_s() {
    let directory = tempfile::tempdir().unwrap();
    let file = bootstrap(directory.path());
    let output = bench(&["-c", &file, "--requests", "20"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("answered: 20 with 200"), "{text}");
    assert!(text.contains("reader  on_request_headers"), "{text}");
    assert!(text.contains("of this machine"), "{text}");
}

#[test]
fn a_missing_file_and_no_requests_are_unusable() {
    assert_eq!(bench(&["-c", "no-such-file.yaml"]).status.code(), Some(2));
    assert_eq!(bench(&["-c", "x.yaml", "--requests", "0"]).status.code(), Some(2));
}
