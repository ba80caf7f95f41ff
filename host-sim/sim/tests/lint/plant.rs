//! Plugins in a few words: callbacks with bodies in WebAssembly text.
//!
//! `{text}` stands for pointer and length of that text (`|` in it is a NUL byte), `[a=b;c=d]` for
//! those of an encoded header map, `@7` for `(i32.const 7)`, `VALUE` for pointer and length of what
//! the host has put at 4096 and 4100. Hostcalls are called by their names without `proxy_`, and
//! only those that are called are imported.

use host_sim_abi::{HOSTCALLS, pairs};
use host_sim_guest::ALLOCATOR;
use std::fmt::Write as _;

/// Parameters, whether there is a result, and what is returned at the end.
const CALLBACKS: [(&str, usize, Option<u32>); 15] = [
    ("on_context_create", 2, None),
    ("on_vm_start", 2, Some(1)),
    ("on_configure", 2, Some(1)),
    ("on_tick", 1, None),
    ("on_queue_ready", 2, None),
    ("on_request_headers", 3, Some(0)),
    ("on_request_body", 3, Some(0)),
    ("on_request_trailers", 2, Some(0)),
    ("on_response_headers", 3, Some(0)),
    ("on_response_body", 3, Some(0)),
    ("on_response_trailers", 2, Some(0)),
    ("on_http_call_response", 5, None),
    ("on_log", 1, None),
    ("on_done", 1, Some(1)),
    ("on_delete", 1, None),
];

/// What every module has.
const PRELUDE: &str = r#"
  (memory (export "memory") 4)
  (func (export "proxy_abi_version_0_2_1"))
  (global $count (mut i32) (i32.const 0))
"#;

/// A module of these callbacks.
pub(crate) fn module(callbacks: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Data { at: 8192, segments: String::new() };
    let mut functions = String::new();
    for (name, body) in callbacks {
        let (_, params, result) =
            CALLBACKS.iter().find(|(own, ..)| own == name).expect("a callback");
        let _ = write!(
            functions,
            "  (func (export \"proxy_{name}\") (param{})",
            " i32".repeat(*params)
        );
        functions += if result.is_some() { " (result i32)\n" } else { "\n" };
        functions += &expand(body, &mut data);
        if let Some(value) = result {
            let _ = write!(functions, " (i32.const {value})");
        }
        functions += ")\n";
    }
    let mut imports = String::new();
    for call in HOSTCALLS {
        let short = call.name.trim_start_matches("proxy_");
        if functions.contains(&format!("${short} ")) {
            let params: String =
                call.params.chars().map(|c| if c == 'I' { " i64" } else { " i32" }).collect();
            let _ = writeln!(
                imports,
                "  (import \"env\" \"{}\" (func ${short} (param{params}) (result i32)))",
                call.name
            );
        }
    }
    let text = format!("(module\n{imports}{PRELUDE}{ALLOCATOR}{functions}{})", data.segments);
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

struct Data {
    at: usize,
    segments: String,
}

impl Data {
    /// Pointer and length of bytes put into the module.
    fn put(&mut self, bytes: &[u8]) -> String {
        let at = self.at;
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let _ = writeln!(self.segments, "  (data (i32.const {at}) \"{escaped}\")");
        self.at += bytes.len();
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }
}

fn expand(body: &str, data: &mut Data) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some(at) = rest.find(['{', '[', '@']) {
        out += &rest[..at];
        let kind = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        if kind == b'@' {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
            let _ = write!(out, "(i32.const {})", &rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let close = if kind == b'{' { '}' } else { ']' };
        let (inner, after) = rest.split_once(close).expect("a closing bracket");
        rest = after;
        out += &if kind == b'{' {
            data.put(inner.replace('|', "\0").as_bytes())
        } else {
            let mut bytes = Vec::new();
            let split = inner.split(';').filter_map(|pair| pair.split_once('='));
            let all: Vec<_> = split.map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            pairs::encode(all, &mut bytes);
            data.put(&bytes)
        };
    }
    out += rest;
    out.replace("VALUE", "(i32.load (i32.const 4096)) (i32.load (i32.const 4100))")
}
