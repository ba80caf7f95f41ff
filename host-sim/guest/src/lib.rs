//! Small plugins in WebAssembly text, and a bootstrap to load them from: what the tests of the host
//! have in common.
//!
//! A test is about a few callbacks. Memory, allocator, imports and a way to say a number are the
//! same in each, so they stand here once, and a test writes callbacks only. In these `{text}`
//! stands for pointer and length of that text, so that nobody counts bytes by hand. The text of a
//! module is what fails when it is wrong, with the compiler's message: everything here panics, as
//! tests do.

mod bootstrap;

pub use bootstrap::{bootstrap, filter};

/// Imports every test module may use; unused ones cost nothing.
const PRELUDE: &str = r#"
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_done" (func $proxy_done (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_get_status" (func $get_status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value"
    (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value"
    (func $replace_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value"
    (func $remove_header (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_size" (func $map_size (param i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes"
    (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $send_reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_http_call"
    (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_call"
    (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream"
    (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
  (import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
  (import "env" "proxy_get_shared_data"
    (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data"
    (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue"
    (func $register_queue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue"
    (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue"
    (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
  (import "env" "proxy_call_foreign_function"
    (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))

  (memory (export "memory") 4)
  (func (export "proxy_abi_version_0_2_1"))
  (func $log (param $ptr i32) (param $len i32)
    (drop (call $proxy_log (i32.const 2) (local.get $ptr) (local.get $len))))
  ;; Pointer and length of a number in decimal.
  (func $decimal (param $n i32) (result i32 i32)
    (local $at i32)
    (local.set $at (i32.const 4090))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (br_if $more (local.get $n)))
    (local.get $at) (i32.sub (i32.const 4090) (local.get $at)))
  (func $say (param $n i32) (call $log (call $decimal (local.get $n))))
  ;; Logs what a hostcall has left at 4096 (pointer) and 4100 (length).
  (func $say_value (call $log (i32.load (i32.const 4096)) (i32.load (i32.const 4100))))
"#;

/// The allocator of every module that does not bring another.
pub const ALLOCATOR: &str = r#"
  (global $heap (mut i32) (i32.const 131072))
  ;; A bump allocator that starts over: tests never hold two long values at once.
  (func $malloc (export "malloc") (param $size i32) (result i32)
    (local $ptr i32)
    (if (i32.gt_u (global.get $heap) (i32.const 196608))
      (then (global.set $heap (i32.const 131072))))
    (local.set $ptr (global.get $heap))
    (global.set $heap (i32.add (local.get $ptr)
      (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $ptr))
"#;

/// Logs the name of every callback, and goes on.
pub const TRACER: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32) (call $log {create}))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (call $log {vm_start}) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (call $log {configure}) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $log {request_headers}) (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (call $log {request_body}) (i32.const 0))
  (func (export "proxy_on_request_trailers") (param i32 i32) (result i32)
    (call $log {request_trailers}) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $log {response_headers}) (i32.const 0))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
    (call $log {response_body}) (i32.const 0))
  (func (export "proxy_on_response_trailers") (param i32 i32) (result i32)
    (call $log {response_trailers}) (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $log {log}))
  (func (export "proxy_on_done") (param i32) (result i32) (call $log {done}) (i32.const 1))
  (func (export "proxy_on_delete") (param i32) (call $log {delete}))
"#;

/// A module from a body in which `{text}` stands for the pointer and length of that text, and `\hh`
/// in it for a byte.
pub fn module(body: &str) -> Vec<u8> {
    module_with(PRELUDE, body, ALLOCATOR)
}

/// A module with other ABI markers, in their order, and more imports. Without 0.2 among the markers
/// it does not import what 0.2.0 brought.
pub fn module_of_abi(markers: &[&str], imports: &str, body: &str) -> Vec<u8> {
    const MARKER: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    const NEW: [&str; 2] = ["proxy_continue_stream", "proxy_close_stream"];
    let marker = |version: &&str| format!("(func (export \"proxy_abi_version_{version}\"))");
    let markers: String = markers.iter().map(marker).collect();
    let old = markers.contains("0_1_0");
    let kept = |line: &&str| !(old && NEW.iter().any(|new| line.contains(new)));
    let prelude: String = PRELUDE.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
    let prelude = format!("{imports}\n{}", prelude.replace(MARKER, &markers));
    module_with(&prelude, body, ALLOCATOR)
}

/// The same with an allocator of the test's own: the body of `malloc`.
pub fn module_allocating(body: &str, allocator: &str) -> Vec<u8> {
    let malloc = "(func (export \"malloc\") (param $size i32) (result i32)";
    module_with(PRELUDE, body, &format!("{malloc} {allocator})"))
}

fn module_with(prelude: &str, body: &str, allocator: &str) -> Vec<u8> {
    let mut data = String::new();
    let mut out = String::new();
    let mut at = 8192;
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('{') {
        let (text, after) = after.split_once('}').expect("a closing brace");
        let bytes = unescaped(text);
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        data += &format!("  (data (i32.const {at}) \"{escaped}\")\n");
        out += before;
        out += &format!("(i32.const {at}) (i32.const {})", bytes.len());
        at += bytes.len();
        rest = after;
    }
    out += rest;
    let text = format!("(module {prelude}\n{allocator}\n{out}\n{data})");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

/// The bytes of a text in which `\hh` stands for one of them.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (digits, after) = after.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits behind a backslash"));
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A header map in its encoding, as the text of a `{..}`.
pub fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    host_sim_abi::pairs::encode(pairs, &mut out);
    String::from_utf8(out).expect("small lengths are ASCII")
}
