//! A network filter before the TCP proxy.
//!
//! A connection cannot name a program; a request to an HTTP listener with the same VM does it for
//! the connection that comes next.

use super::hostcalls::*;
use crate::case::{Case, Exchange};
use crate::op::{Arg, Op};
use crate::{Call, Ending, Phase};
use std::time::Duration;

use Phase::{DownstreamClose, DownstreamData, NewConnection, UpstreamClose, UpstreamData};

const PHASES: [Phase; 9] = [
    Phase::Create,
    NewConnection,
    DownstreamData,
    UpstreamData,
    UpstreamClose,
    DownstreamClose,
    Phase::Done,
    Phase::Log,
    Phase::Delete,
];

/// The request that names the program of the connection, then the connection.
pub(super) fn case(name: String, listener: &str, ops: Vec<Op>, connection: Exchange) -> Case {
    let after_this = vec![Arg::Imm(1)];
    let next = Op::new(Phase::RequestHeaders, "next".to_owned(), Call::Next, after_this);
    let control = Exchange::get(format!("{listener}_control"));
    Case::new(name, vec![next], control).and('t', ops).then(connection.unprobed())
}

fn on(listener: &str, name: &str, ops: Vec<Op>, pieces: &[&'static str], ending: Ending) -> Case {
    let patience = Duration::from_millis(120);
    let connection = Exchange { patience, ..Exchange::tcp(listener, pieces, ending) };
    // Of some connections nobody hears the end.
    Case { patience, ..case(format!("tcp/{name}"), listener, ops, connection) }
}

pub(super) fn cases() -> Vec<Case> {
    [matrix(), courses(), pauses(), edits(), closes(), calls()].concat()
}

/// Hostcalls in every callback.
fn matrix() -> Vec<Case> {
    super::matrix::steady_groups()
        .map(|(name, group)| {
            let ops = PHASES.iter().flat_map(|phase| group(*phase)).collect();
            on("tcp", &format!("matrix_{name}"), ops, &["hello"], Ending::Fin)
        })
        .collect()
}

fn looks() -> Vec<Op> {
    let reads = [DownstreamData, UpstreamData].into_iter().flat_map(|phase| {
        [buffer(phase, 2, 0, 1000), buffer(phase, 3, 0, 1000), buffer_status(phase, 2)]
    });
    let mut ops: Vec<_> = reads.collect();
    ops.extend([DownstreamClose, UpstreamClose, Phase::Log].into_iter().flat_map(|phase| {
        [
            property(phase, &["connection", "termination_details"]),
            property(phase, &["upstream", "address"]),
            property(phase, &["upstream", "transport_failure_reason"]),
            property(phase, &["response", "flags"]),
            buffer(phase, 2, 0, 10),
        ]
    }));
    ops
}

/// What comes in which callback.
fn courses() -> Vec<Case> {
    vec![
        on("tcp", "one", looks(), &["hello"], Ending::Fin),
        on("tcp", "two", looks(), &["hello", "again"], Ending::Fin),
        on("tcp", "nothing", looks(), &[], Ending::Fin),
        on("tcp", "quiet", looks(), &["quiet"], Ending::Fin),
        on("tcp", "upstream_ends", looks(), &["bye"], Ending::Stay),
        on("tcp", "upstream_ends_at_once", looks(), &["last"], Ending::Stay),
        on("tcp", "upstream_resets", looks(), &["reset"], Ending::Stay),
        on("tcp", "client_resets", looks(), &["hello"], Ending::Reset),
        on("tcp_refused", "refused", looks(), &["hello"], Ending::Stay),
        on("tcp_reset", "reset", looks(), &["hello"], Ending::Stay),
        on("tcp_closed", "closed", looks(), &["hello"], Ending::Stay),
        on("tcp_nobody", "nobody", looks(), &["hello"], Ending::Stay),
    ]
}

/// Paused, and resumed from a tick or never.
fn pauses() -> Vec<Case> {
    let mut out = Vec::new();
    for phase in [NewConnection, DownstreamData, UpstreamData] {
        for answer in [1, 2, u32::MAX] {
            let name = format!("answer_{}_{}", phase.name(), answer.cast_signed());
            let ops = [vec![Op::answer(phase, answer).once()], looks()].concat();
            out.push(on("tcp", &name, ops, &["hello", "again"], Ending::Fin));
        }
        for way in [0, 2, 3] {
            let ops = vec![
                keep_context(phase).once(),
                tick(phase, 40).once(),
                Op::answer(phase, 1).once(),
                kept(Phase::Tick).once(),
                buffer(Phase::Tick, 2, 0, 100).once(),
                buffer(Phase::Tick, 3, 0, 100).once(),
                resume(Phase::Tick, way).once(),
                tick(Phase::Tick, 0),
            ];
            let ops = [ops, looks()].concat();
            let name = format!("pause_{}_{way}", phase.name());
            out.push(on("tcp", &name, ops, &["hello"], Ending::Stay));
        }
    }
    out
}

fn edits() -> Vec<Case> {
    let edits = [
        (0, 0, "pre"),
        (0, 2, "pre"),
        (0, 9999, "all"),
        (0, 9999, ""),
        (2, 1, "mid"),
        (9999, 0, "end"),
    ];
    let mut out = Vec::new();
    for (phase, kind) in [(DownstreamData, 2), (UpstreamData, 3)] {
        for (start, size, value) in edits {
            let name = format!("edit_{}_{start}_{size}_{value}", phase.name());
            let ops = vec![
                set_buffer(phase, kind, start, size, value).once(),
                buffer(phase, kind, 0, 100).once(),
                set_buffer(phase, 5 - kind, 0, 0, "other").once(),
            ];
            out.push(on("tcp", &name, [ops, looks()].concat(), &["hello"], Ending::Fin));
        }
    }
    out
}

fn closes() -> Vec<Case> {
    let mut out = Vec::new();
    for phase in [NewConnection, DownstreamData, UpstreamData] {
        for stream in [0, 2, 3] {
            let name = format!("close_{}_{stream}", phase.name());
            let ops = [vec![close(phase, stream).once()], looks()].concat();
            out.push(on("tcp", &name, ops, &["hello"], Ending::Stay));
        }
    }
    out
}

/// Calls from a connection's callbacks; a local reply there.
fn calls() -> Vec<Case> {
    let mut out = Vec::new();
    for phase in [NewConnection, DownstreamData, UpstreamData] {
        let ops = vec![
            keep_context(phase).once(),
            http_call(phase, "echo", CALL_HEADERS, "", 500).agree(crate::Agree::Status).once(),
            Op::answer(phase, 1).once(),
            kept(Phase::HttpCall),
            header(Phase::HttpCall, 6, ":status"),
            resume(Phase::HttpCall, 2),
            resume(Phase::HttpCall, 3),
        ];
        let name = format!("call_{}", phase.name());
        out.push(on("tcp", &name, [ops, looks()].concat(), &["hello"], Ending::Stay));
        let ops = vec![reply(phase, "plain", Reply::PLAIN).once()];
        let name = format!("reply_{}", phase.name());
        out.push(on("tcp", &name, [ops, looks()].concat(), &["hello"], Ending::Fin));
    }
    out
}
