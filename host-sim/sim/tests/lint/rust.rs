//! The same with the Rust SDK: traps are joined to what caused them, and lines are the author's.

use super::{Setup, bootstrap, listed};
use host_sim::HostOptions;
use host_sim::lint::{Finding, lint_bootstrap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where this repository begins.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The plugin, built once, with the debug information of a development build.
static MODULE: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = root();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    // A directory of its own: cargo locks the one it builds in.
    let target = target.join("planted");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "planted", "--target", "wasm32-wasip1", "--target-dir"])
        .arg(&target)
        .current_dir(&root)
        .status();
    assert!(built.unwrap().success(), "the planted plugin does not build");
    target.join("wasm32-wasip1/debug/planted.wasm")
});

fn lint(mistake: &'static str) -> Vec<Finding> {
    let options = HostOptions {
        workers: 2,
        module_cache: host_sim_engine::ModuleCache::off(),
        ..HostOptions::default()
    };
    lint_bootstrap(&bootstrap(&MODULE, Setup::Configured(mistake)), options)
}

/// The line that makes a mistake, as a diagnosis names it.
fn line_of(mistake: &str) -> String {
    let file = "tests/planted/src/lib.rs";
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let end = format!("// MISTAKE {mistake}");
    let at = text.lines().position(|line| line.trim_end().ends_with(&end)).unwrap();
    format!("{file}:{}", at + 1)
}

/// The finding of a lint, with the author's line in it.
#[track_caller]
fn found(mistake: &'static str, lint_name: &str) -> Finding {
    let findings = lint(mistake);
    let found = findings.iter().find(|finding| finding.lint == lint_name);
    let found = found.unwrap_or_else(|| panic!("no {lint_name}, but\n{}", listed(&findings)));
    let place = found.place.clone().unwrap_or_default();
    assert!(place.ends_with(&line_of(mistake)), "{place} is not {}\n{found}", line_of(mistake));
    found.clone()
}

#[test]
fn a_read_in_the_wrong_phase_is_placed_and_its_trap_is_joined_to_it() {
    let read = found("phase", "phase-invalid-read");
    assert!(read.mend.contains("on_http_request_headers"), "{read}");
    let trap = found("phase", "trap");
    assert!(trap.message.contains("unexpected status: 2"), "{trap}");
    let cause = "proxy_get_header_map_value(request headers, \":path\") = BadArgument (2)";
    assert!(trap.message.contains(cause), "{trap}");
    assert!(
        trap.message.contains("request headers cannot be read in a response callback"),
        "{trap}"
    );
    assert!(trap.mend.contains("read them in proxy_on_request_headers"), "{trap}");
}

#[test]
fn a_second_borrow_is_told_from_other_panics() {
    let trap = found("borrow", "borrow-panic");
    assert!(trap.message.contains("already borrowed"), "{trap}");
}

#[test]
fn unwrap_of_a_missing_header_names_the_line() {
    let trap = found("unwrap", "trap");
    assert!(trap.message.contains("`None` value"), "{trap}");
    assert!(
        trap.message.contains("proxy_get_header_map_value(request headers, \"x-tenant\")"),
        "{trap}"
    );
}

#[test]
fn an_index_out_of_bounds_names_the_line() {
    let trap = found("index", "trap");
    assert!(trap.message.contains("index out of bounds: the len is 1"), "{trap}");
}

#[test]
fn what_does_not_trap_is_placed_too() {
    for (mistake, lint_name) in [
        ("keys", "unbounded-shared-keys"),
        ("race", "lost-update"),
        ("timeout", "call-without-timeout"),
        ("counter", "counter-in-configure"),
        ("path", "dotted-property-path"),
    ] {
        found(mistake, lint_name);
    }
}

#[test]
fn resuming_before_pausing_is_found_in_a_rust_plugin() {
    let findings = lint("resume");
    assert!(findings.iter().any(|f| f.lint == "resume-before-pause"), "{}", listed(&findings));
}

#[test]
fn a_plugin_that_makes_no_mistake_is_not_complained_of() {
    let findings = lint("none");
    assert!(findings.is_empty(), "{}", listed(&findings));
}
