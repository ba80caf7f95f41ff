//! What ABI 0.1.0 and 0.2.0 do otherwise, which version a module has, and what Envoy adds.

use crate::rig::{Plugin, Rig, Setup};
use bytes::Bytes;
use host_sim_guest::{module_allocating, module_of_abi};

/// What 0.1.0 has and later versions do not.
const OLD: &str = r#"
  (import "env" "proxy_continue_request" (func $continue_request (result i32)))
  (import "env" "proxy_continue_response" (func $continue_response (result i32)))
  (import "env" "proxy_clear_route_cache" (func $clear_route_cache (result i32)))
  (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
"#;

const LOG_LEVEL: &str =
    r#"(import "env" "proxy_get_log_level" (func $level (param i32) (result i32)))"#;

const DNS: &str =
    r#"(import "env" "envoy_resolve_dns" (func $dns (param i32 i32 i32) (result i32)))"#;

fn plugin(markers: &[&str], imports: &str, body: &str) -> Plugin {
    let code = module_of_abi(markers, imports, body);
    Plugin { name: "p", code, ..Plugin::default() }
}

fn log(rig: &Rig) -> Vec<String> {
    rig.log().iter().map(|line| line.strip_prefix("p: ").unwrap_or(line).to_owned()).collect()
}

fn refusal(plugin: Plugin) -> String {
    Setup::of([plugin]).try_start().err().unwrap().to_string()
}

/// Logs status and value of a header of map 0, or of what was there before.
fn header(name: &str) -> String {
    format!(
        "(i32.store (i32.const 4100) (i32.const 99)) \
         (call $say (call $header (i32.const 0) {{{name}}} (i32.const 4096) (i32.const 4100))) \
         (call $say (i32.load (i32.const 4100)))"
    )
}

#[test]
fn callbacks_of_0_1_0_get_no_end_of_stream_and_resume_by_calls_of_their_own() {
    let body = r#"
      (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
        (call $say (call $clear_route_cache)) (call $say (call $continue_request)) (i32.const 1))
      (func (export "proxy_on_response_headers") (param i32 i32) (result i32)
        (call $say (call $continue_response)) (i32.const 1))"#;
    let mut rig = Setup::of([plugin(&["0_1_0"], OLD, body)]).start();
    assert_eq!(rig.get_ok("/").status(), 200);
    assert_eq!(log(&rig), ["0", "0", "0"]);
}

#[test]
fn a_headers_callback_of_another_versions_shape_does_not_load() {
    let three = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.const 0))"#;
    let two = r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)
        (i32.const 0))"#;
    for (markers, body) in [("0_1_0", three), ("0_2_0", two), ("0_2_1", two)] {
        let error = refusal(plugin(&[markers], "", body));
        assert!(error.contains("bad signature of proxy_on_request_headers"), "{error}");
    }
}

#[test]
fn the_configuration_of_0_1_0_is_the_plugins_where_that_can_be_read_and_else_the_vms() {
    let read = "(call $say (call $configuration (i32.const 4096) (i32.const 4100))) \
                (call $say_value)";
    let body = format!(
        r#"
      (func (export "proxy_on_context_create") (param i32 i32) {read})
      (func (export "proxy_on_vm_start") (param i32 i32) (result i32) {read} (i32.const 1))
      (func (export "proxy_on_configure") (param i32 i32) (result i32) {read} (i32.const 1))
      (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
        {read} (i32.const 0))"#
    );
    let plugin = plugin(&["0_1_0"], OLD, &body).configuration("own").vm_configuration("vm");
    let mut rig = Setup::of([plugin]).start();
    assert_eq!(log(&rig), ["0", "own", "0", "vm", "0", "own"]);
    rig.get("/");
    assert_eq!(log(&rig), ["0", "vm", "0", "vm"]);
}

#[test]
fn a_missing_header_is_empty_in_0_1_0_and_not_found_since() {
    let two = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)
        {} (i32.const 0))"#,
        header("absent")
    );
    let three = two.replace("(param i32 i32)", "(param i32 i32 i32)");
    for (marker, body, expected) in [
        ("0_1_0", &two, ["0", "0"]),
        ("0_2_0", &three, ["1", "99"]),
        ("0_2_1", &three, ["1", "99"]),
    ] {
        let mut rig = Setup::of([plugin(&[marker], "", body)]).start();
        rig.get("/");
        assert_eq!(log(&rig), expected, "{marker}");
    }
}

#[test]
fn calls_link_in_their_versions_only() {
    for (marker, imports, missing) in [
        ("0_1_0", LOG_LEVEL, Some("proxy_get_log_level")),
        ("0_2_0", LOG_LEVEL, Some("proxy_get_log_level")),
        ("0_2_1", LOG_LEVEL, None),
        ("0_1_0", OLD, None),
        ("0_2_0", OLD, Some("proxy_continue_request")),
        ("0_2_1", OLD, Some("proxy_continue_request")),
        ("0_1_0", DNS, None),
        ("0_2_0", DNS, None),
    ] {
        let started = Setup::of([plugin(&[marker], imports, "")]).try_start();
        match (started, missing) {
            (Ok(_), None) => {}
            (Err(error), Some(missing)) => {
                assert!(error.to_string().contains(missing), "{error}");
            }
            (started, _) => panic!("{marker} {imports}: {:?}", started.err()),
        }
    }
    // No marker of 0.2, but an import of it.
    let code = host_sim_guest::module("");
    let text = wat_without_marker(&code);
    let error = refusal(Plugin { name: "p", code: text, ..Plugin::default() });
    assert!(error.contains("proxy_continue_stream"), "{error}");
}

/// The module with the marker of 0.1.0 instead of its own: both names are of one length.
fn wat_without_marker(code: &[u8]) -> Vec<u8> {
    let (new, old) = (b"proxy_abi_version_0_2_1", b"proxy_abi_version_0_1_0");
    let at = code.windows(new.len()).position(|window| window == new).unwrap();
    [&code[..at], old, &code[at + new.len()..]].concat()
}

#[test]
fn of_two_markers_the_first_export_counts() {
    let three = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $log {three}) (i32.const 0))"#;
    let two = r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)
        (call $log {two}) (i32.const 0))"#;
    for (markers, body, expected) in [
        (["0_1_0", "0_2_1"], two, "two"),
        (["0_1_0", "0_2_0"], two, "two"),
        (["0_2_1", "0_1_0"], three, "three"),
        (["0_2_0", "0_1_0"], three, "three"),
    ] {
        let mut rig = Setup::of([plugin(&markers, "", body)]).start();
        rig.get("/");
        assert_eq!(log(&rig), [expected], "{markers:?}");
    }
}

#[test]
fn a_marker_may_be_any_function_but_no_global() {
    let odd = plugin(&[], "", "(func (export \"proxy_abi_version_0_2_1\") (param i32 i64))");
    Setup::of([odd]).start();
    let global = "(global (export \"proxy_abi_version_0_2_1\") i32 (i32.const 1))";
    let error = refusal(plugin(&[], "", global));
    assert!(error.contains("Missing or unknown Proxy-Wasm ABI version"), "{error}");
}

#[test]
fn malloc_is_preferred_to_the_specifications_allocator() {
    let body = format!(
        r#"(func (export "proxy_on_memory_allocate") (param i32) (result i32)
          (call $log {{specified}}) (i32.const 65536))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          {} (i32.const 0))"#,
        header(":path")
    );
    let mut rig = Setup::of([Plugin::new("p", &body)]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["0", "1"]);
    // Without malloc the other one does.
    let code = module_allocating(&body, "(i32.const 0)");
    let (from, to) = (b"\x06malloc", b"\x06mallow");
    let at = code.windows(from.len()).position(|window| window == from).unwrap();
    let code = [&code[..at], to, &code[at + from.len()..]].concat();
    let mut rig = Setup::of([Plugin { name: "p", code, ..Plugin::default() }]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["specified", "0", "1"]);
}

#[test]
fn effective_context_0_goes_back_to_the_callbacks_own() {
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $say (call $effective (i32.const 1))) {read}
          (call $say (call $effective (i32.const 77))) {read}
          (call $say (call $effective (i32.const 0))) {read}
          (i32.const 0))"#,
        read = header(":path")
    );
    let mut rig = Setup::of([Plugin::new("p", &body)]).start();
    rig.get("/");
    assert_eq!(log(&rig), ["0", "2", "99", "2", "2", "99", "0", "0", "1"]);
}

#[test]
fn names_that_need_no_server_are_resolved_within_the_hostcall_and_others_fail_later() {
    let body = r#"
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $say (call $dns {127.0.0.1} (i32.const 4200)))
        (call $say (i32.load (i32.const 4200)))
        (call $say (call $dns {nope.invalid} (i32.const 4200)))
        (call $say (i32.load (i32.const 4200)))
        (call $say (call $dns (i32.const -1) (i32.const 9) (i32.const 4200)))
        (call $say (call $dns {localhost} (i32.const -2)))
        (i32.const 0))
      (func (export "envoy_on_resolve_dns") (param i32 i32 i32)
        (call $say (local.get 0)) (call $say (local.get 1)) (call $say (local.get 2))
        (drop (call $buffer (i32.const 8) (i32.const 0) (i32.const 99)
          (i32.const 4096) (i32.const 4100)))
        (call $say_value))"#;
    let mut rig = Setup::of([plugin(&["0_2_1"], DNS, body)]).start();
    rig.get("/");
    let answer = "\u{1}\0\0\0\0\0\0\u{0}127.0.0.1:0\0";
    let expected =
        ["1", "2", "20", answer, "0", "2", "0", "3", "6", "6", "1", "3", "4", "\0\0\0\0"];
    assert_eq!(log(&rig), expected);
}

#[test]
fn a_body_still_tells_its_end_in_0_1_0() {
    let body = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (call $say (local.get 2)) (i32.const 0))"#;
    let mut rig = Setup::of([plugin(&["0_1_0"], "", body)]).start();
    let id = rig.begin();
    rig.worker.request_headers(id, crate::rig::request("POST", "/"), false);
    rig.worker.request_data(id, Bytes::from_static(b"a"), false);
    rig.worker.request_data(id, Bytes::new(), true);
    assert_eq!(log(&rig), ["0", "1"]);
}
