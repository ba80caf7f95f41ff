//! Pointers that point nowhere, for every hostcall and every argument of it.

use crate::case::{Case, Exchange};
use crate::op::{Arg, Op};
use crate::{Agree, Phase};
use host_sim_abi::{AbiVersion, HOSTCALLS};

/// What an argument is, one letter each: `p` pointer whose length follows, `o` out pointer,
/// `-` a number.
const ARGUMENTS: &[(&str, &str)] = &[
    ("log", "-p-"),
    ("get_log_level", "o"),
    ("get_current_time_nanoseconds", "o"),
    ("get_status", "ooo"),
    ("get_property", "p-oo"),
    ("set_property", "p-p-"),
    ("get_header_map_value", "-p-oo"),
    ("add_header_map_value", "-p-p-"),
    ("replace_header_map_value", "-p-p-"),
    ("remove_header_map_value", "-p-"),
    ("get_header_map_pairs", "-oo"),
    ("set_header_map_pairs", "-p-"),
    ("get_header_map_size", "-o"),
    ("get_buffer_bytes", "---oo"),
    ("get_buffer_status", "-oo"),
    ("set_buffer_bytes", "---p-"),
    ("http_call", "p-p-p-p--o"),
    ("grpc_call", "p-p-p-p-p--o"),
    ("grpc_stream", "p-p-p-p-o"),
    ("grpc_send", "-p--"),
    ("get_shared_data", "p-ooo"),
    ("set_shared_data", "p-p--"),
    ("register_shared_queue", "p-o"),
    ("resolve_shared_queue", "p-p-o"),
    ("enqueue_shared_queue", "-p-"),
    ("dequeue_shared_queue", "-oo"),
    ("define_metric", "-p-o"),
    ("get_metric", "-o"),
    ("call_foreign_function", "p-p-oo"),
];

pub(super) fn cases() -> Vec<Case> {
    let phases = [Phase::RequestHeaders, Phase::ResponseBody, Phase::Log];
    let ops = phases.iter().flat_map(|phase| ops(*phase)).collect();
    vec![Case::new("memory", ops, Exchange::whole("main"))]
}

fn ops(phase: Phase) -> Vec<Op> {
    let mut out = Vec::new();
    for (name, arguments) in ARGUMENTS {
        for (at, kind) in arguments.char_indices() {
            // Just outside, reaching outside, far outside.
            let bad: &[(&str, Arg, u32)] = match kind {
                'p' => &[
                    ("at the end", Arg::End(0), 1),
                    ("over the end", Arg::End(-1), 2),
                    ("far", Arg::Imm(0xffff_fff0), 1),
                    ("too long", Arg::Imm(1024), u32::MAX),
                ],
                'o' => &[
                    ("at the end", Arg::End(0), 0),
                    ("over the end", Arg::End(-2), 0),
                    ("far", Arg::Imm(0xffff_fff0), 0),
                ],
                _ => continue,
            };
            for (what, pointer, len) in bad {
                let args = call(name, arguments, at, pointer, *len);
                let what = format!("argument {at} {what}");
                out.push(Op::host(phase, name, &what, args).agree(Agree::Status));
            }
        }
    }
    out
}

/// Good arguments but for the one at `bad`.
fn call(name: &str, arguments: &str, bad: usize, pointer: &Arg, len: u32) -> Vec<Arg> {
    let kinds: Vec<char> = arguments.chars().collect();
    let mut slot = 0;
    let arg = |(at, kind): (usize, &char)| match kind {
        'p' if at == bad => pointer.clone(),
        'p' => Arg::Data(data(name, at).to_vec()),
        'o' if at == bad => pointer.clone(),
        'o' => {
            slot += 1;
            Arg::OutInt(slot - 1)
        }
        _ if at > 0 && at - 1 == bad && kinds[at - 1] == 'p' => Arg::Imm(len),
        _ if at > 0 && kinds[at - 1] == 'p' => {
            Arg::Imm(u32::try_from(data(name, at - 1).len()).unwrap_or(u32::MAX))
        }
        _ => Arg::Imm(number(name, at)),
    };
    let args: Vec<_> = kinds.iter().enumerate().map(arg).collect();
    let found = HOSTCALLS.iter().find(|call| call.name.strip_prefix("proxy_") == Some(name));
    debug_assert!(found.is_some_and(|call| call.is_in(AbiVersion::V0_2_1)));
    args
}

/// A string that the hostcall understands.
fn data(name: &str, at: usize) -> &'static [u8] {
    match (name, at) {
        ("get_property", _) => b"plugin_name",
        ("get_header_map_value", _) => b":path",
        ("http_call" | "grpc_call" | "grpc_stream", 0) => b"no-such-cluster",
        ("call_foreign_function", 0) => b"clear_route_cache",
        ("get_shared_data" | "set_shared_data", 0) => b"memory",
        (_, _) => b"x-memory",
    }
}

/// A number that the hostcall understands: buffer 6, map 0, levels and kinds.
fn number(name: &str, at: usize) -> u32 {
    match (name, at) {
        ("get_buffer_bytes" | "get_buffer_status", 0) => 6,
        ("get_buffer_bytes", 2) => 8,
        ("http_call", 8) | ("grpc_call", 10) => 1000,
        _ => 0,
    }
}
