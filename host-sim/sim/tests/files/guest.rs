//! Plugins in WebAssembly text, in which `{text}` stands for pointer and length of that text.

const PRELUDE: &str = r#"
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value"
    (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove_header (param i32 i32 i32) (result i32)))
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
  (import "env" "proxy_get_shared_data"
    (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data"
    (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))

  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 131072))
  (func (export "proxy_abi_version_0_2_1"))
  (func $log (param $ptr i32) (param $len i32)
    (drop (call $proxy_log (i32.const 2) (local.get $ptr) (local.get $len))))
  ;; Logs a number in decimal.
  (func $say (param $n i32)
    (local $at i32)
    (local.set $at (i32.const 4090))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (br_if $more (local.get $n)))
    (call $log (local.get $at) (i32.sub (i32.const 4090) (local.get $at))))
  ;; Logs what a hostcall has left at 4096 (pointer) and 4100 (length).
  (func $say_value (call $log (i32.load (i32.const 4096)) (i32.load (i32.const 4100))))
  (func $malloc (export "malloc") (param $size i32) (result i32)
    (local $ptr i32)
    (if (i32.gt_u (global.get $heap) (i32.const 196608))
      (then (global.set $heap (i32.const 131072))))
    (local.set $ptr (global.get $heap))
    (global.set $heap (i32.add (local.get $ptr)
      (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $ptr))
"#;

/// A plugin that logs its callbacks' names and lets everything pass.
pub(crate) const TRACER: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32) (call $log {create}))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (call $log {start}) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (call $log {configure}) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $log {request headers}) (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (call $log {request body}) (i32.const 0))
  (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $log {response headers}) (i32.const 0))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
    (call $log {response body}) (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $log {log}))
  (func (export "proxy_on_done") (param i32) (result i32) (call $log {done}) (i32.const 1))
  (func (export "proxy_on_delete") (param i32) (call $log {delete}))
"#;

/// The pairs `:method GET, :path /check, :authority auth`, as a hostcall wants them.
pub(crate) const CALL_HEADERS: &str = r"\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\06\00\00\00\0a\00\00\00\04\00\00\00:method\00GET\00:path\00/check\00:authority\00auth\00";

/// Assembles a module around a body.
pub(crate) fn module(body: &str) -> Vec<u8> {
    let (mut data, mut out) = (String::new(), String::new());
    let mut free = 8192;
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('{') {
        let (text, after) = after.split_once('}').unwrap();
        let escapes = text.matches('\\').count();
        let len = text.len() - 2 * escapes;
        data += &format!("(data (i32.const {free}) \"{text}\")\n");
        out += &format!("{before}(i32.const {free}) (i32.const {len})");
        free += len;
        rest = after;
    }
    wat::parse_str(format!("(module {PRELUDE} {data} {out}{rest})")).unwrap()
}
