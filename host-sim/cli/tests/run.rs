//! `host-sim run` and `host-sim schema` as users run them.

use std::path::Path;
use std::process::{Command, Output};

fn host_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_host-sim")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn write(folder: &Path, name: &str, contents: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, contents).unwrap();
    path.display().to_string()
}

#[test]
fn the_schema_is_printed_as_json() {
    let output = host_sim(&["schema", "scenario"]);
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["scenario", "steps"]));
}

#[test]
fn a_folder_holds_scenarios_and_suites_and_the_exit_code_is_the_worst() {
    let folder = tempfile::tempdir().unwrap();
    let module = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#;
    let module = write(folder.path(), "module.wasm", &wat::parse_str(module).unwrap());
    let steps = "suite: {filters: []}\nendpoints: {127.0.0.1:9001: {}}\nsteps: [{send: {}, expect: {statuses: {200: 1}}}]";
    write(folder.path(), "a.yaml", format!("scenario: it passes\n{steps}").as_bytes());
    write(folder.path(), "b.textpb", b"test { name: 'Loads' }");
    let all = folder.path().display().to_string();
    let output = host_sim(&["run", &all, "--plugin", &module]);
    let out = text(&output.stdout);
    assert!(out.contains("ok   it passes (1 worker)") && out.contains("ok   Loads"), "{out}");
    assert!(out.contains("2 passed, 0 failed") && !out.contains('\x1b'), "{out}");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));

    let wrong = write(
        folder.path(),
        "c.yaml",
        format!("scenario: x\n{steps}").replace("200", "204").as_bytes(),
    );
    assert_eq!(host_sim(&["run", &wrong]).status.code(), Some(1));
    write(folder.path(), "d.yaml", b"scenario: [\n");
    let output = host_sim(&["run", &all, "--plugin", &module, "--format", "tap"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).starts_with("TAP version 13\n1..4\n"), "{}", text(&output.stdout));
}
