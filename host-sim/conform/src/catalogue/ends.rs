//! Roots as their host stops: what they still can do, and who is waited for.

use super::hostcalls::*;
use super::matrix;
use crate::Phase;
use crate::case::Case;
use crate::op::{Arg, Op};

use Phase::{Delete, Done};

pub(super) fn cases() -> Vec<Case> {
    let last = [Done, Delete].into_iter().flat_map(last_acts).collect();
    vec![
        Case::end("ending", vec![('a', last)]),
        // Both say "not yet", and whoever comes later lets the other one go.
        Case::end("pending", vec![('a', not_yet()), ('b', not_yet())]),
    ]
}

fn last_acts(phase: Phase) -> Vec<Op> {
    // Their clusters go, too.
    let calls = ["http_call(", "grpc_call(", "grpc_stream("];
    let groups = matrix::steady_groups().flat_map(|(_, group)| group(phase));
    let ops = groups.filter(|op| !calls.iter().any(|call| op.label.starts_with(call)));
    ops.map(matrix::steady).collect()
}

fn not_yet() -> Vec<Op> {
    let done = |phase, whose: &str| Op::host(phase, "done", whose, Vec::new());
    vec![
        done(Done, "its own"),
        effective(Done, "the first", Arg::Imm(1)),
        done(Done, "the first's"),
        effective(Done, "the second", Arg::Imm(2)),
        done(Done, "the second's"),
        effective(Done, "itself", Arg::Context(0)),
        property(Done, &["plugin_name"]),
        Op::answer(Done, 0),
        done(Delete, "its own"),
        property(Delete, &["plugin_name"]),
    ]
}
