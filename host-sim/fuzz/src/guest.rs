//! A module that does what its configuration says: an interpreter of hostcalls.
//!
//! A fuzzer's input is a list of steps of [`STEP`] bytes: which hostcall, in which callback, what the
//! callback then answers, and a byte for each argument. Most bytes are small numbers, which is what
//! enums, ids and lengths are; the high ones stand for pointers and for what should hurt. The module
//! imports every hostcall there is, so that it is compiled once for all inputs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_sim_abi::{AbiVersion, HOSTCALLS, Hostcall};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Most arguments a hostcall has.
const ARGS: usize = 12;

/// Bytes of a step in the input.
pub(crate) const STEP: usize = 3 + ARGS;

/// Bytes of a step in the guest: hostcall, callback, answer, then eight bytes for each argument.
const RECORD: usize = 16 + 8 * ARGS;

/// Steps of an input that are used.
const MOST: usize = 48;

/// Where the guest keeps its steps, and where its allocator puts what the host gives.
const STEPS: usize = 65_536;
const HEAP: usize = 131_072;

/// Exports that take the steps of their number: name, parameters, whether they answer.
const CALLBACKS: [(&str, usize, bool); 17] = [
    ("proxy_on_context_create", 2, false),
    ("proxy_on_vm_start", 2, true),
    ("proxy_on_configure", 2, true),
    ("proxy_on_tick", 1, false),
    ("proxy_on_request_headers", 3, true),
    ("proxy_on_request_body", 3, true),
    ("proxy_on_request_trailers", 2, true),
    ("proxy_on_response_headers", 3, true),
    ("proxy_on_response_body", 3, true),
    ("proxy_on_response_trailers", 2, true),
    ("proxy_on_http_call_response", 5, false),
    ("proxy_on_grpc_close", 3, false),
    ("proxy_on_queue_ready", 2, false),
    ("proxy_on_log", 1, false),
    ("proxy_on_done", 1, true),
    ("proxy_on_delete", 1, false),
    ("proxy_on_grpc_receive", 3, false),
];

fn hostcalls() -> impl Iterator<Item = &'static Hostcall> {
    HOSTCALLS.iter().filter(|hostcall| hostcall.is_in(AbiVersion::V0_2_1))
}

/// A proxy with the guest in its chain, and this input as the guest's steps.
pub(crate) fn bootstrap(input: &[u8]) -> String {
    static MODULE: LazyLock<String> =
        LazyLock::new(|| STANDARD.encode(wat::parse_str(module()).expect("the text below is WAT")));
    let kinds = "type.googleapis.com/envoy.extensions.filters";
    format!(
        r#"
static_resources:
  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": {kinds}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: backend, timeout: 2s}}}}]}}]}}
          http_filters:
          - name: evil
            typed_config:
              "@type": {kinds}.http.wasm.v3.Wasm
              config:
                name: evil
                configuration: {{"@type": type.googleapis.com/google.protobuf.BytesValue, value: "{steps}"}}
                vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{inline_bytes: "{code}"}}}}}}
          - {{name: router, typed_config: {{"@type": {kinds}.http.router.v3.Router}}}}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 9001}}}}}}}}]}}]
"#,
        steps = STANDARD.encode(records(input)),
        code = *MODULE,
    )
}

fn records(input: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let count = hostcalls().count();
    for step in input.chunks_exact(STEP).take(MOST) {
        records.extend_from_slice(&(u32::from(step[0]) % count as u32).to_le_bytes());
        records.extend_from_slice(&(u32::from(step[1]) % CALLBACKS.len() as u32).to_le_bytes());
        records.extend_from_slice(&(u32::from(step[2]) % 5).to_le_bytes());
        records.extend_from_slice(&[0; 4]);
        step[3..].iter().for_each(|byte| records.extend_from_slice(&argument(*byte).to_le_bytes()));
    }
    records
}

/// 0 to 159 are themselves; the rest are pointers to texts and to nowhere, and extremes.
fn argument(byte: u8) -> u64 {
    const TEXTS: u64 = 1024;
    const HARM: [u64; 8] = [
        u64::MAX,
        u32::MAX as u64,
        0x7fff_ffff,
        0x8000_0000,
        HEAP as u64,
        262_143,
        262_144,
        65_535,
    ];
    match byte {
        0..160 => byte.into(),
        160..224 => TEXTS + u64::from(byte - 160) * 16,
        224.. => HARM[usize::from(byte) % HARM.len()],
    }
}

fn module() -> String {
    let mut text = String::from("(module\n");
    let mut cases = String::new();
    for (at, hostcall) in hostcalls().enumerate() {
        let types = |c: char| if c == 'I' { "i64" } else { "i32" };
        let params: String = hostcall.params.chars().map(|c| format!(" {}", types(c))).collect();
        let name = hostcall.name;
        let _ = writeln!(
            text,
            "(import \"env\" \"{name}\" (func ${name} (param{params}) (result i32)))"
        );
        let args: String =
            hostcall.params.chars().enumerate().fold(String::new(), |args, (n, c)| {
                format!("{args} ({}.load offset={} (local.get $at))", types(c), 16 + 8 * n)
            });
        let _ = writeln!(
            cases,
            "(if (i32.eq (local.get $call) (i32.const {at})) (then (drop (call ${name}{args}))))"
        );
    }
    let _ = write!(
        text,
        r#"(memory (export "memory") 4)
(data (i32.const 1024) ":path\00\00\00\00\00\00\00\00\00\00\00:method\00\00\00\00\00\00\00\00\00backend\00\00\00\00\00\00\00\00\00x-a\00\00\00\00\00\00\00\00\00\00\00\00\00:status\00\00\00\00\00\00\00\00\00plugin_name\00\00\00\00\00compress\00\00\00\00\00\00\00\00request.path\00\00\00\00")
(data (i32.const 1152) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00x\00")
(global $count (mut i32) (i32.const 0))
(func (export "proxy_abi_version_0_2_1"))
(func (export "malloc") (param i32) (result i32) (i32.const {HEAP}))
(func $run (param $callback i32) (result i32)
  (local $at i32) (local $n i32) (local $call i32) (local $answer i32)
  (local.set $at (i32.const {STEPS}))
  (local.set $answer (i32.eq (i32.and (local.get $callback) (i32.const -4)) (i32.const 0)))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $n) (global.get $count)))
    (if (i32.eq (i32.load offset=4 (local.get $at)) (local.get $callback)) (then
      (local.set $call (i32.load (local.get $at)))
      (local.set $answer (i32.load offset=8 (local.get $at)))
      {cases}))
    (local.set $at (i32.add (local.get $at) (i32.const {RECORD})))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br $next)))
  (local.get $answer))
(func $read
  (if (i32.eqz (call $proxy_get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const 60000)
        (i32.const 0) (i32.const 4)))
    (then
      (memory.copy (i32.const {STEPS}) (i32.load (i32.const 0)) (i32.load (i32.const 4)))
      (global.set $count (i32.div_u (i32.load (i32.const 4)) (i32.const {RECORD}))))))
"#
    );
    for (number, (name, params, answers)) in CALLBACKS.iter().enumerate() {
        let params = " i32".repeat(*params);
        let result = if *answers { " (result i32)" } else { "" };
        let read =
            if number == 0 { "(if (i32.eqz (global.get $count)) (then (call $read)))" } else { "" };
        let drop = if *answers { "" } else { "(drop)" };
        let _ = writeln!(
            text,
            "(func (export \"{name}\") (param{params}){result} {read} (call $run (i32.const {number})) {drop})"
        );
    }
    text.push(')');
    text
}
