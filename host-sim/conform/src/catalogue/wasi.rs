//! WASI, in every callback: what Envoy does of it, and with which errno it refuses the rest.

use crate::case::{Case, Exchange};
use crate::op::{Agree, Arg, Op, text};
use crate::{Phase, wasi};

use Arg::{End, High, Imm, OutInt};

/// Where the probe keeps sixteen digits, and where nothing is.
const DIGITS: u32 = 64;

pub(super) fn cases() -> Vec<Case> {
    let ops = Phase::HTTP.iter().flat_map(|phase| ops(*phase)).collect();
    let restricted = Phase::HTTP.iter().flat_map(|phase| ops_of_all(*phase)).collect();
    vec![
        Case::new("wasi", ops, Exchange::whole("main")),
        Case::new("wasi/refused", refused(), Exchange::whole("main")),
        Case::new("restricted/wasi", restricted, Exchange::whole("restricted")),
    ]
}

pub(super) fn ops(phase: Phase) -> Vec<Op> {
    let call = |name: &str, what: &str, args| Op::wasi(phase, name, what, args);
    let mut out = vec![
        call("args_sizes_get", "", vec![OutInt(0), OutInt(1)]),
        call("args_get", "", vec![OutInt(0), OutInt(1)]),
        call("environ_sizes_get", "", vec![OutInt(0), OutInt(1)]),
        call("environ_get", "", vec![OutInt(0), OutInt(1)]),
        call("random_get", "4", vec![OutInt(0), Imm(4)]).agree(Agree::Status),
        call("random_get", "nothing", vec![OutInt(0), Imm(0)]),
        call("random_get", "65536", vec![End(-65_536), Imm(65_536)]),
        call("random_get", "65537", vec![End(-65_537), Imm(65_537)]),
        call("random_get", "over the end", vec![End(-2), Imm(4)]),
        call("poll_oneoff", "nothing", vec![Imm(DIGITS), Imm(DIGITS), Imm(0), OutInt(0)]),
        call("poll_oneoff", "something", vec![Imm(DIGITS), Imm(DIGITS), Imm(1), OutInt(0)]),
        call("poll_oneoff", "over the end", vec![Imm(DIGITS), Imm(DIGITS), Imm(0), End(-2)]),
        call("sched_yield", "", vec![]),
        call("proc_exit", "3", vec![Imm(3)]),
    ];
    for clock in [0, 1, 2, 3, u32::MAX] {
        let what = clock.cast_signed().to_string();
        let args = vec![Imm(clock), Imm(1), OutInt(0)];
        out.push(call("clock_time_get", &what, args).agree(Agree::Status));
        out.push(call("clock_res_get", &what, vec![Imm(clock), OutInt(0)]));
    }
    out.push(call("clock_time_get", "over the end", vec![Imm(0), Imm(1), End(-2)]));
    out.push(call("clock_res_get", "over the end", vec![Imm(0), End(-2)]));
    out.push(call("environ_get", "over the end", vec![End(-2), OutInt(1)]));
    out.push(call("environ_sizes_get", "over the end", vec![End(-2), OutInt(1)]));
    out.push(call("args_sizes_get", "over the end", vec![End(-2), OutInt(1)]));
    for file in [0, 1, 2, 3, u32::MAX] {
        let what = |more: &str| format!("{}{more}", file.cast_signed());
        let vector =
            |bytes: Vec<u8>, count: u32| vec![Imm(file), Arg::Data(bytes), Imm(count), OutInt(0)];
        out.push(call("fd_write", &what(""), vector(io(&[(DIGITS, 4)]), 1)));
        out.push(call("fd_write", &what(", two"), vector(io(&[(DIGITS, 4), (DIGITS, 5)]), 2)));
        out.push(call("fd_write", &what(", none"), vector(io(&[]), 0)));
        out.push(call("fd_write", &what(", empty"), vector(io(&[(DIGITS, 0)]), 1)));
        let args = [vector(io(&[(DIGITS, 4)]), 1), vec![High(7)]].concat();
        let args = [&args[..3], &args[4..], &args[3..4]].concat();
        out.push(call("fd_pwrite", &what(""), args));
        out.push(call("fd_write", &what(", far"), vector(io(&[(0xffff_fff0, 4)]), 1)));
        let args = vec![Imm(file), End(-4), Imm(1), OutInt(0)];
        out.push(call("fd_write", &what(", over the end"), args));
        let args = vec![Imm(file), Arg::Data(io(&[(DIGITS, 4)])), Imm(1), End(-2)];
        out.push(call("fd_write", &what(", written over the end"), args));
        out.push(call("fd_fdstat_get", &what(""), vec![Imm(file), OutInt(0)]));
        out.push(call("fd_fdstat_get", &what(", over the end"), vec![Imm(file), End(-2)]));
        out.push(call("fd_seek", &what(""), vec![Imm(file), High(0), Imm(0), OutInt(0)]));
        out.push(call("fd_close", &what(""), vec![Imm(file)]));
    }
    out
}

fn io(vectors: &[(u32, u32)]) -> Vec<u8> {
    vectors.iter().flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()]).flatten().collect()
}

/// What Envoy refuses, with each of the standard descriptors and one that is not open.
fn refused() -> Vec<Op> {
    let mut out = Vec::new();
    let working = ["proc_exit", "random_get"];
    for phase in [Phase::RequestHeaders, Phase::Log] {
        for (name, params) in wasi::FUNCTIONS.iter().filter(|(name, _)| !working.contains(name)) {
            for first in [0, 1, 2, 3, 9] {
                let mut args = numbers(params);
                if let Some(arg) = args.first_mut() {
                    *arg = Imm(first);
                }
                let op = Op::wasi(phase, name, &format!("{first}"), args);
                out.push(op.agree(Agree::Status));
            }
        }
    }
    out
}

/// Each function once.
fn ops_of_all(phase: Phase) -> Vec<Op> {
    let all = wasi::FUNCTIONS.iter();
    all.map(|(name, params)| Op::wasi(phase, name, "", numbers(params)).agree(Agree::Status))
        .collect()
}

/// Pointers to sixteen digits, and small numbers.
fn numbers(params: &str) -> Vec<Arg> {
    let [digits, _] = text("0123456789abcdef");
    let arg = |letter| if letter == 'I' { High(0) } else { digits.clone() };
    params.chars().map(arg).collect()
}
