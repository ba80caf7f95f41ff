use super::*;
use std::path::PathBuf;

/// Adds a header and counts in shared data. The code after the two hostcalls decides what a status
/// other than 0 does.
fn scenario(directory: &Path, on_failure: &str) -> PathBuf {
    let module = format!(
        r#"(module
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-key")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.eqz (call $buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 64) (i32.const 68))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.or
          (call $add (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 5))
          (call $set (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 3) (i32.const 0)))
      (then {on_failure}))
    (i32.const 0)))"#
    );
    std::fs::write(directory.join("m.wasm"), wat::parse_str(module).unwrap()).unwrap();
    let file = directory.join("s.yaml");
    let text = "
scenario: two requests pass
suite: {filters: [{module: m.wasm, configuration: {}}]}
endpoints: {127.0.0.1:9001: {}}
steps:
- send: {count: 2}
  expect: {statuses: {200: 2}}
";
    std::fs::write(&file, text).unwrap();
    file
}

fn swept(on_failure: &str, most: Option<usize>) -> Sweep {
    let directory = tempfile::tempdir().unwrap();
    let file = scenario(directory.path(), on_failure);
    let most = most.and_then(NonZeroUsize::new);
    sweep(&file, &SweepOptions { most, ..SweepOptions::default() }).unwrap()
}

#[test]
fn a_plugin_that_copes_has_no_findings() {
    let sweep = swept("", None);
    // The configuration on canary, main thread and worker; two hostcalls for each of two requests.
    assert_eq!(sweep.hostcalls, 3 + 2 * 2);
    assert!(sweep.faults > 2 * sweep.hostcalls, "{sweep}");
    assert_eq!((sweep.runs, &sweep.findings), (sweep.faults, &vec![]));
    // Each of four statuses, on the canary; elsewhere such a plugin is closed.
    assert_eq!(sweep.refused, 4);
}

/// Two statuses fit each of the two hostcalls of each of two requests.
const FAULTS_OF_REQUESTS: usize = 2 * 2 * 2;

#[test]
fn a_plugin_that_traps_is_found_with_its_hostcall_and_status() {
    let sweep = swept("unreachable", None);
    assert_eq!(sweep.findings.len(), FAULTS_OF_REQUESTS);
    let text = sweep.findings[0].to_string();
    let wanted =
        "hostcall 4: m.wasm, proxy_on_request_headers: proxy_add_header_map_value answered";
    assert!(
        text.starts_with(wanted) && text.ends_with("trapped in proxy_on_request_headers"),
        "{text}"
    );
    let lost = |finding: &Finding| {
        finding.hostcall == "proxy_set_shared_data" && finding.status == "CasMismatch"
    };
    assert_eq!(sweep.findings.iter().filter(|finding| lost(finding)).count(), 2, "{sweep}");
}

#[test]
fn a_plugin_that_pauses_for_ever_is_found() {
    let sweep = swept("(return (i32.const 1))", None);
    assert!(sweep.findings.iter().all(|finding| finding.harm == Harm::Hung(1)), "{sweep}");
    assert_eq!(sweep.findings.len(), FAULTS_OF_REQUESTS);
}

#[test]
fn a_sample_is_spread_over_all_and_does_not_depend_on_threads() {
    let some = swept("unreachable", Some(5));
    assert_eq!(some.runs, 5);
    assert!(some.refused > 0 && !some.findings.is_empty(), "{some}");
    let directory = tempfile::tempdir().unwrap();
    let file = scenario(directory.path(), "unreachable");
    let one = SweepOptions { threads: NonZeroUsize::MIN, ..SweepOptions::default() };
    let many = SweepOptions { threads: NonZeroUsize::new(3).unwrap(), ..SweepOptions::default() };
    assert_eq!(sweep(&file, &one).unwrap(), sweep(&file, &many).unwrap());
}
