//! The probe: a module in WebAssembly text that interprets programs of hostcalls.
//!
//! Raw ABI, no SDK: nothing stands between a cell and the host. The imports and the dispatcher are
//! generated from the table of hostcalls, so that a hostcall added there can be probed at once.
//!
//! Every operation is one line of the log, at the level critical:
//! `CELL|program|context|phase|operation|status|number,..|pointer is null|length|bytes`, and every
//! callback begins with one: `CELL|program|context|phase|@|argument|argument`. Numbers are in
//! hexadecimal, because that is what a few lines of WebAssembly can write.

use crate::op::WASI;
use crate::{Phase, wasi};
use host_sim_abi::{AbiVersion, HOSTCALLS};
use std::fmt::Write;

/// What a probe's line begins with.
pub(crate) const MARK: &str = "CELL|";

/// Request header that names the program of the plugin with that letter.
pub(crate) fn header(letter: char) -> String {
    format!("x-cell-{letter}")
}

/// A plugin's configuration: its root's program and its letter.
pub(crate) fn configuration(root_program: usize, letter: char) -> String {
    format!("{root_program:04x}{letter}")
}

/// Out slots, registers, the line, contexts and their parents, programs: where they begin. The heap comes last.
const OUT: u32 = 1024;
const REGS: u32 = 2048;
const LINE: u32 = 0x1_0000;
const CONTEXTS: u32 = 0x2_0000;
const PARENTS: u32 = 0x3_0000;
const TABLE: u32 = 0x4_0000;

/// The module for one version of the ABI, with its table of programs.
pub(crate) fn module(version: AbiVersion, table: &[u8]) -> Vec<u8> {
    let source = source(version, table);
    wat::parse_str(&source).unwrap_or_else(|error| panic!("{error}"))
}

fn source(version: AbiVersion, table: &[u8]) -> String {
    let mut out = String::from("(module\n");
    let calls = || HOSTCALLS.iter().enumerate().filter(|(_, call)| call.is_in(version));
    for (index, call) in calls() {
        let params = call.params.chars().map(kind).collect::<Vec<_>>().join(" ");
        let name = call.name;
        let import = format!("(func $h{index} (param {params}) (result i32))");
        let _ = writeln!(out, r#"(import "env" "{name}" {import})"#);
    }
    for (index, (name, params)) in wasi::FUNCTIONS.iter().enumerate() {
        let params = params.chars().map(kind).collect::<Vec<_>>().join(" ");
        let result = if wasi::answers(name) { "(result i32)" } else { "" };
        let number = WASI + index;
        let import = format!("(func $h{number} (param {params}) {result})");
        let _ = writeln!(out, r#"(import "wasi_snapshot_preview1" "{name}" {import})"#);
    }
    out += &fixed(version, table.len());
    out += &data(table);
    out += "(func $dispatch (param $op i32) (param $call i32) (result i32)\n";
    for (index, call) in calls() {
        let _ = writeln!(
            out,
            "(if (i32.eq (local.get $call) (i32.const {index})) (then (return {})))",
            invoke(index, call.params)
        );
    }
    for (index, (name, params)) in wasi::FUNCTIONS.iter().enumerate() {
        let number = WASI + index;
        let call = invoke(number, params);
        let call = if wasi::answers(name) {
            format!("(return {call})")
        } else {
            format!("{call} (return (i32.const 0))")
        };
        let _ = writeln!(out, "(if (i32.eq (local.get $call) (i32.const {number})) (then {call}))");
    }
    out += "(i32.const -1))\n";
    out += &callbacks(version);
    out += ")\n";
    out
}

fn kind(letter: char) -> &'static str {
    if letter == 'I' { "i64" } else { "i32" }
}

fn invoke(index: usize, params: &str) -> String {
    let mut out = format!("(call $h{index}");
    for (at, letter) in params.chars().enumerate() {
        let width = if letter == 'I' { "arg64" } else { "arg" };
        let _ = write!(out, " (call ${width} (local.get $op) (i32.const {at}))");
    }
    out + ")"
}

/// A callback: its export, parameters, result, phase, and the values reported with it.
struct Callback {
    name: &'static str,
    params: usize,
    result: bool,
    phase: Phase,
    default: u32,
}

const fn callback(
    name: &'static str,
    params: usize,
    phase: Phase,
    default: Option<u32>,
) -> Callback {
    let (result, default) = match default {
        Some(value) => (true, value),
        None => (false, 0),
    };
    Callback { name, params, result, phase, default }
}

fn callbacks(version: AbiVersion) -> String {
    let headers = if version == AbiVersion::V0_1_0 { 2 } else { 3 };
    let all = [
        callback("vm_start", 2, Phase::VmStart, Some(1)),
        callback("configure", 2, Phase::Configure, Some(1)),
        callback("tick", 1, Phase::Tick, None),
        callback("request_headers", headers, Phase::RequestHeaders, Some(0)),
        callback("request_body", 3, Phase::RequestBody, Some(0)),
        callback("request_trailers", 2, Phase::RequestTrailers, Some(0)),
        callback("response_headers", headers, Phase::ResponseHeaders, Some(0)),
        callback("response_body", 3, Phase::ResponseBody, Some(0)),
        callback("response_trailers", 2, Phase::ResponseTrailers, Some(0)),
        callback("log", 1, Phase::Log, None),
        callback("done", 1, Phase::Done, Some(1)),
        callback("delete", 1, Phase::Delete, None),
        callback("http_call_response", 5, Phase::HttpCall, None),
        callback("grpc_receive_initial_metadata", 3, Phase::GrpcInitial, None),
        callback("grpc_receive", 3, Phase::GrpcReceive, None),
        callback("grpc_receive_trailing_metadata", 3, Phase::GrpcTrailing, None),
        callback("grpc_close", 3, Phase::GrpcClose, None),
        callback("queue_ready", 2, Phase::Queue, None),
        callback("new_connection", 1, Phase::NewConnection, Some(0)),
        callback("downstream_data", 3, Phase::DownstreamData, Some(0)),
        callback("downstream_connection_close", 2, Phase::DownstreamClose, None),
        callback("upstream_data", 3, Phase::UpstreamData, Some(0)),
        callback("upstream_connection_close", 2, Phase::UpstreamClose, None),
    ];
    all.iter().map(export).collect()
}

fn export(callback: &Callback) -> String {
    let Callback { name, params, result, phase, default } = callback;
    let before = match phase {
        Phase::Configure => "(call $configure (local.get 0))",
        Phase::RequestHeaders => "(call $select (local.get 0))",
        _ => "",
    };
    // Reported: the two arguments after the context, and of a call's answer the counts.
    let local = |at: usize| match at < *params {
        true => format!("(local.get {at})"),
        false => "(i32.const 0)".to_owned(),
    };
    let (first, second) = match phase {
        Phase::HttpCall => (
            local(2),
            // Body and trailers: what is there, in one number.
            "(i32.add (i32.shl (local.get 3) (i32.const 8)) (local.get 4))".to_owned(),
        ),
        Phase::GrpcInitial | Phase::GrpcReceive | Phase::GrpcTrailing | Phase::GrpcClose => {
            (local(2), "(i32.const 0)".to_owned())
        }
        Phase::Queue => ("(i32.const 0)".to_owned(), "(i32.const 0)".to_owned()),
        _ => (local(1), local(2)),
    };
    let result_type = if *result { "(result i32)" } else { "" };
    let value = if *result { "(global.get $ret)" } else { "" };
    let number = *phase as u8;
    format!(
        "(func (export \"proxy_on_{name}\") (param {}) {result_type} {before}\n  \
         (global.set $ret (i32.const {default}))\n  \
         (call $run (i32.const {number}) (local.get 0) {first} {second}) {value})\n",
        ["i32"].repeat(*params).join(" ")
    )
}

/// The table as a data segment.
fn data(table: &[u8]) -> String {
    let mut out = format!("(data (i32.const {TABLE}) \"");
    for byte in table {
        let _ = write!(out, "\\{byte:02x}");
    }
    out + "\")\n"
}

/// What does not depend on the table of hostcalls.
fn fixed(version: AbiVersion, table: usize) -> String {
    let heap = (TABLE as usize + table).next_multiple_of(0x1_0000);
    // Room for two megabytes of answers before the allocator starts over.
    let pages = heap / 0x1_0000 + 32;
    let marker = version.marker();
    let number = |name: &str| HOSTCALLS.iter().position(|call| call.name == name).unwrap_or(0);
    let (log, buffer) = (number("proxy_log"), number("proxy_get_buffer_bytes"));
    let value = number("proxy_get_header_map_value");
    let config_text = match version {
        // Configurations are no buffers there.
        AbiVersion::V0_1_0 => {
            let get = number("proxy_get_configuration");
            format!("(call $h{get} (i32.const {OUT}) (i32.const {}))", OUT + 4)
        }
        _ => format!(
            "(call $h{buffer} (i32.const 7) (i32.const 0) (i32.const 16) (i32.const {OUT}) (i32.const {}))",
            OUT + 4
        ),
    };
    let allocator = "malloc";
    format!(
        r#"
(memory (export "memory") {pages})
(func (export "{marker}"))
(data (i32.const 64) "0123456789abcdef")
(data (i32.const 128) "x-cell-a")
(data (i32.const {LINE}) "{MARK}")
(global $heap (mut i32) (i32.const {heap}))
(global $table i32 (i32.const {TABLE}))
(global $at (mut i32) (i32.const 0))
(global $ctx (mut i32) (i32.const 0))
(global $root (mut i32) (i32.const 0))
(global $ret (mut i32) (i32.const 0))
(global $next (mut i32) (i32.const 0))
;; A bump allocator that starts over.
(func $malloc (export "{allocator}") (param $n i32) (result i32) (local $p i32)
  (if (i32.gt_u (i32.add (global.get $heap) (local.get $n)) (i32.shl (memory.size) (i32.const 16)))
    (then (global.set $heap (i32.const {heap}))))
  (local.set $p (global.get $heap))
  (global.set $heap (i32.and (i32.add (i32.add (local.get $p) (local.get $n)) (i32.const 15)) (i32.const -8)))
  (local.get $p))
(func $put (param $c i32)
  (i32.store8 (global.get $at) (local.get $c))
  (global.set $at (i32.add (global.get $at) (i32.const 1))))
(func $hex (param $v i32) (param $digits i32)
  (loop $more
    (local.set $digits (i32.sub (local.get $digits) (i32.const 1)))
    (call $put (i32.load8_u offset=64 (i32.and (i32.const 15)
      (i32.shr_u (local.get $v) (i32.shl (local.get $digits) (i32.const 2))))))
    (br_if $more (local.get $digits))))
(func $bar (call $put (i32.const 124)))
(func $begin (param $prog i32) (param $ctx i32) (param $phase i32)
  (global.set $at (i32.const {after_mark}))
  (call $hex (local.get $prog) (i32.const 4)) (call $bar)
  (call $hex (local.get $ctx) (i32.const 8)) (call $bar)
  (call $hex (local.get $phase) (i32.const 2)) (call $bar))
(func $flush
  (drop (call $h{log} (i32.const 5) (i32.const {LINE}) (i32.sub (global.get $at) (i32.const {LINE})))))
(func $arg (param $op i32) (param $i i32) (result i32) (local $k i32) (local $v i32)
  (local.set $k (i32.and (i32.const 15) (i32.wrap_i64 (i64.shr_u (i64.load offset=8 (local.get $op))
    (i64.extend_i32_u (i32.shl (local.get $i) (i32.const 2)))))))
  (local.set $v (i32.load offset=16 (i32.add (local.get $op) (i32.shl (local.get $i) (i32.const 2)))))
  (if (i32.eq (local.get $k) (i32.const 1))
    (then (return (i32.add (global.get $table) (local.get $v)))))
  (if (i32.eq (local.get $k) (i32.const 2))
    (then (return (i32.add (i32.const {OUT}) (local.get $v)))))
  (if (i32.eq (local.get $k) (i32.const 3))
    (then (return (i32.load (i32.add (i32.const {REGS}) (i32.shl (local.get $v) (i32.const 2)))))))
  (if (i32.eq (local.get $k) (i32.const 4))
    (then (return (i32.add (global.get $ctx) (local.get $v)))))
  (if (i32.eq (local.get $k) (i32.const 6))
    (then (return (i32.add (i32.shl (memory.size) (i32.const 16)) (local.get $v)))))
  (if (i32.eq (local.get $k) (i32.const 7))
    (then (return (global.get $root))))
  (local.get $v))
(func $arg64 (param $op i32) (param $i i32) (result i64)
  (if (i32.eq (i32.const 5) (i32.and (i32.const 15) (i32.wrap_i64 (i64.shr_u (i64.load offset=8 (local.get $op))
        (i64.extend_i32_u (i32.shl (local.get $i) (i32.const 2)))))))
    (then (return (i64.shl (i64.extend_i32_u (call $arg (local.get $op) (local.get $i))) (i64.const 32)))))
  (i64.extend_i32_s (call $arg (local.get $op) (local.get $i))))
(func $entry (param $ctx i32) (result i32)
  (i32.add (i32.const {CONTEXTS}) (i32.shl (i32.and (local.get $ctx) (i32.const 0x3fff)) (i32.const 2))))
;; Where the root of a stream is kept.
(func $parent (param $ctx i32) (result i32)
  (i32.add (i32.const {PARENTS}) (i32.shl (i32.and (local.get $ctx) (i32.const 0x3fff)) (i32.const 2))))
;; Four digits as a number.
(func $number (param $p i32) (result i32) (local $i i32) (local $d i32) (local $v i32)
  (loop $more
    (local.set $d (i32.load8_u (i32.add (local.get $p) (local.get $i))))
    (local.set $d (if (result i32) (i32.gt_u (local.get $d) (i32.const 57))
      (then (i32.sub (local.get $d) (i32.const 87))) (else (i32.sub (local.get $d) (i32.const 48)))))
    (local.set $v (i32.add (i32.shl (local.get $v) (i32.const 4)) (local.get $d)))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $more (i32.lt_u (local.get $i) (i32.const 4))))
  (local.get $v))
;; Reads the root's own program and letter.
(func $configure (param $ctx i32)
  (i32.store (i32.const {out4}) (i32.const 0))
  (drop {config_text})
  (if (i32.eq (i32.load (i32.const {out4})) (i32.const 5)) (then
    (i32.store (call $entry (local.get $ctx)) (i32.or
      (i32.add (call $number (i32.load (i32.const {OUT}))) (i32.const 1))
      (i32.shl (i32.load8_u offset=4 (i32.load (i32.const {OUT}))) (i32.const 16)))))))
;; Which program a request names for this plugin. What the root receives belongs to it, too.
(func $select (param $ctx i32) (local $prog i32)
  (i32.store8 (i32.const 135) (i32.load8_u offset=2 (call $entry (local.get $ctx))))
  (i32.store (i32.const {out4}) (i32.const 0))
  (if (i32.eqz (call $h{value} (i32.const 0) (i32.const 128) (i32.const 8) (i32.const {OUT}) (i32.const {out4})))
    (then (if (i32.eq (i32.load (i32.const {out4})) (i32.const 4)) (then
      (local.set $prog (i32.add (call $number (i32.load (i32.const {OUT}))) (i32.const 1)))
      (i32.store16 (call $entry (i32.load (call $parent (local.get $ctx)))) (local.get $prog))
      (i32.store16 (call $entry (local.get $ctx)) (local.get $prog)))))))
(func (export "proxy_on_context_create") (param $ctx i32) (param $parent i32)
  (if (i32.eqz (local.get $parent))
    (then
      (global.set $root (local.get $ctx))
      (call $configure (local.get $ctx))
      (call $run (i32.const 1) (local.get $ctx) (i32.const 0) (i32.const 0)))
    (else
      (i32.store (call $parent (local.get $ctx)) (local.get $parent))
      (i32.store (call $entry (local.get $ctx)) (i32.and (i32.const 0xff0000) (i32.load (call $entry (local.get $parent)))))
      (i32.store16 (call $entry (local.get $ctx)) (global.get $next))
      (global.set $next (i32.const 0))
      (call $run (i32.const 5) (local.get $ctx) (i32.const 0) (i32.const 0)))))
(func $run (param $phase i32) (param $ctx i32) (param $a i32) (param $b i32)
  (local $prog i32) (local $op i32) (local $i i32) (local $n i32) (local $ret i32)
  (local.set $prog (i32.load16_u (call $entry (local.get $ctx))))
  (if (i32.eqz (local.get $prog)) (then (return)))
  (local.set $prog (i32.sub (local.get $prog) (i32.const 1)))
  (if (i32.ge_u (local.get $prog) (i32.load (global.get $table))) (then (return)))
  (local.set $op (i32.add (global.get $table) (i32.load offset=4
    (i32.add (global.get $table) (i32.shl (local.get $prog) (i32.const 2))))))
  (local.set $n (i32.load (local.get $op)))
  (local.set $op (i32.add (local.get $op) (i32.const 4)))
  (call $begin (local.get $prog) (local.get $ctx) (local.get $phase))
  (call $put (i32.const 64)) (call $bar)
  (call $hex (local.get $a) (i32.const 8)) (call $bar)
  (call $hex (local.get $b) (i32.const 8))
  (call $flush)
  (block $end (loop $more
    (br_if $end (i32.eq (local.get $i) (local.get $n)))
    (if (if (result i32) (i32.eq (i32.load8_u (local.get $op)) (local.get $phase))
          (then (call $due (local.get $op) (local.get $b))) (else (i32.const 0)))
      (then
        (global.set $ctx (local.get $ctx))
        (call $operate (local.get $op) (local.get $prog) (local.get $ctx) (local.get $phase) (local.get $i))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (local.set $op (i32.add (local.get $op) (i32.const 64)))
    (br $more))))
(func $due (param $op i32) (param $end i32) (result i32) (local $when i32) (local $limit i32)
  (local.set $when (i32.load8_u offset=2 (local.get $op)))
  (if (i32.and (i32.eq (local.get $when) (i32.const 1)) (i32.eqz (local.get $end)))
    (then (return (i32.const 0))))
  (if (i32.and (i32.eq (local.get $when) (i32.const 2)) (local.get $end))
    (then (return (i32.const 0))))
  (local.set $limit (i32.load8_u offset=3 (local.get $op)))
  (if (i32.eq (local.get $limit) (i32.const 255)) (then (return (i32.const 1))))
  (if (i32.eqz (local.get $limit)) (then (return (i32.const 0))))
  (i32.store8 offset=3 (local.get $op) (i32.sub (local.get $limit) (i32.const 1)))
  (i32.const 1))
(func $operate (param $op i32) (param $prog i32) (param $ctx i32) (param $phase i32) (param $index i32)
  (local $call i32) (local $status i32) (local $i i32) (local $p i32) (local $n i32)
  (local.set $call (i32.load8_u offset=1 (local.get $op)))
  (if (i32.eq (local.get $call) (i32.const 200))
    (then (global.set $ret (call $arg (local.get $op) (i32.const 0))) (return)))
  (if (i32.eq (local.get $call) (i32.const 201)) (then (unreachable)))
  (if (i32.eq (local.get $call) (i32.const 202))
    (then (i32.store (i32.add (i32.const {REGS}) (i32.shl (call $arg (local.get $op) (i32.const 0)) (i32.const 2)))
      (call $arg (local.get $op) (i32.const 1))) (return)))
  (if (i32.eq (local.get $call) (i32.const 203))
    (then (global.set $next (i32.add (i32.add (local.get $prog) (i32.const 1))
      (call $arg (local.get $op) (i32.const 0)))) (return)))
  (i64.store (i32.const {OUT}) (i64.const 0x5555555555555555))
  (i64.store (i32.const {out8}) (i64.const 0x5555555555555555))
  (local.set $status (call $dispatch (local.get $op) (local.get $call)))
  (if (i32.load8_u offset=6 (local.get $op)) (then
    (i32.store (i32.add (i32.const {REGS}) (i32.shl (i32.load8_u offset=6 (local.get $op)) (i32.const 2)))
      (i32.load (i32.add (i32.const {OUT}) (i32.shl (i32.load8_u offset=7 (local.get $op)) (i32.const 2)))))))
  (call $begin (local.get $prog) (local.get $ctx) (local.get $phase))
  (call $hex (local.get $index) (i32.const 4)) (call $bar)
  (call $hex (local.get $status) (i32.const 8)) (call $bar)
  (loop $slots
    (if (i32.and (i32.shr_u (i32.load8_u offset=4 (local.get $op)) (local.get $i)) (i32.const 1)) (then
      (call $hex (i32.load (i32.add (i32.const {OUT}) (i32.shl (local.get $i) (i32.const 2)))) (i32.const 8))
      (call $put (i32.const 44))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $slots (i32.lt_u (local.get $i) (i32.const 4))))
  (local.set $i (i32.load8_u offset=5 (local.get $op)))
  (if (i32.ne (local.get $i) (i32.const 255)) (then
    (local.set $p (i32.load (i32.add (i32.const {OUT}) (i32.shl (local.get $i) (i32.const 2)))))
    (local.set $n (i32.load offset=4 (i32.add (i32.const {OUT}) (i32.shl (local.get $i) (i32.const 2)))))
    (call $bar)
    (call $put (i32.add (i32.const 48) (i32.eqz (local.get $p)))) (call $bar)
    (call $hex (local.get $n) (i32.const 8)) (call $bar)
    (if (i32.and (i32.eqz (local.get $status)) (i32.ne (local.get $n) (i32.const 0x55555555))) (then
      (if (i32.gt_u (local.get $n) (i32.const 3000)) (then (local.set $n (i32.const 3000))))
      (block $done (loop $bytes
        (br_if $done (i32.eqz (local.get $n)))
        (call $hex (i32.load8_u (local.get $p)) (i32.const 2))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $bytes)))))))
  (call $flush))
"#,
        after_mark = LINE + 5,
        out4 = OUT + 4,
        out8 = OUT + 8,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_a_module_in_every_version_of_the_abi() {
        for version in AbiVersion::ALL {
            assert!(module(*version, &[0; 4]).starts_with(b"\0asm"), "{version:?}");
        }
    }
}
