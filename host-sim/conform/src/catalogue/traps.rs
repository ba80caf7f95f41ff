//! A module that traps: under each failure policy, and in each callback.
//!
//! These come last. Each has a listener of its own, because its VM is dead afterwards.

use super::hostcalls::*;
use crate::Phase;
use crate::case::{Case, Exchange};
use crate::op::{Agree, Arg, Op};
use crate::{Call, Ending};
use std::time::Duration;

use Phase::RequestHeaders;

const POLICIES: [&str; 3] = ["closed", "open", "reload"];

pub(super) fn cases() -> Vec<Case> {
    let sequences = ["closed", "open", "legacy", "reload"].into_iter().map(sequence);
    sequences.chain(streams()).chain(roots()).chain(starts()).chain(connections()).collect()
}

/// Good, trap, good, trap, good.
fn sequence(listener: &'static str) -> Case {
    let ops = vec![Op::trap(RequestHeaders)];
    let patience = Duration::from_millis(500);
    let good = || Exchange { patience, ..Exchange::get(listener).unprobed() };
    let bad = || Exchange { patience, ..Exchange::get(listener) };
    Case::new(format!("trap/{listener}"), ops, good())
        .then(bad())
        .then(good())
        .then(bad())
        .then(good())
        .unawaited()
}

fn patient(exchange: Exchange) -> Exchange {
    Exchange { patience: Duration::from_millis(120), ..exchange }
}

/// Trap, good, good.
fn once(policy: &str, phase: Phase, before: Vec<Op>) -> Case {
    let listener = format!("trap_{policy}_{}", phase.name());
    let ops = before.into_iter().chain([Op::trap(phase)]).collect();
    let good = || patient(Exchange::get(&listener).unprobed());
    let bad = patient(Exchange::whole(&listener));
    let name = format!("trap_in/{policy}_{}", phase.name());
    Case::new(name, ops, bad).then(good()).then(good()).unawaited()
}

/// In the callbacks of a stream.
fn streams() -> Vec<Case> {
    let mut out = Vec::new();
    for policy in POLICIES {
        for phase in Phase::HTTP {
            let before = match phase {
                // The next stream's.
                Phase::Create => {
                    vec![Op::new(RequestHeaders, "next".to_owned(), Call::Next, vec![]).once()]
                }
                _ => vec![],
            };
            out.push(once(policy, *phase, before));
        }
    }
    out
}

/// In the callbacks of a root, while a stream waits for them.
fn roots() -> Vec<Case> {
    let rpc = Rpc {
        cluster: "echo2",
        service: "conform.Service",
        method: "Method",
        metadata: &[("x-shape", "grpc")],
    };
    let begun = [
        (Phase::Tick, vec![tick(RequestHeaders, 10)]),
        (
            Phase::Queue,
            vec![
                register_queue(RequestHeaders, "trap").save(5).agree(Agree::Status),
                enqueue(RequestHeaders, "own", Arg::Reg(5), "one"),
            ],
        ),
        (
            Phase::HttpCall,
            vec![http_call(RequestHeaders, "echo", CALL_HEADERS, "", 500).agree(Agree::Status)],
        ),
        (Phase::GrpcReceive, vec![grpc_call(RequestHeaders, "echo2", rpc, "question", 500)]),
        (Phase::GrpcInitial, stream(rpc)),
        (Phase::GrpcTrailing, stream(rpc)),
        (Phase::GrpcClose, stream(rpc)),
    ];
    let mut out = Vec::new();
    for policy in POLICIES {
        for (phase, begin) in &begun {
            let mut before = begin.clone();
            before.push(Op::answer(RequestHeaders, 1));
            out.push(once(policy, *phase, before));
        }
    }
    out
}

fn stream(rpc: Rpc<'_>) -> Vec<Op> {
    vec![
        grpc_stream(RequestHeaders, "echo2", rpc).save(6),
        grpc_send(RequestHeaders, Arg::Reg(6), "question", 1),
    ]
}

/// As a root is created. Where it traps later in its start, Envoy refuses the configuration.
fn starts() -> Vec<Case> {
    let mut out = Vec::new();
    for policy in POLICIES {
        let listener = format!("trap_{policy}_{}", Phase::RootCreate.name());
        let good = || patient(Exchange::get(&listener).unprobed());
        let name = format!("trap_in/{policy}_root_create");
        let case = Case::new(name, vec![], good()).then(good()).unawaited();
        let root =
            Case::root(format!("trap_root/{listener}"), 'a', vec![Op::trap(Phase::RootCreate)]);
        out.push(Case { patience: Duration::from_millis(20), ..root });
        out.push(case);
    }
    out
}

/// In the callbacks of a connection.
fn connections() -> Vec<Case> {
    let phases = [
        Phase::Create,
        Phase::NewConnection,
        Phase::DownstreamData,
        Phase::UpstreamData,
        Phase::UpstreamClose,
        Phase::DownstreamClose,
        Phase::Log,
        Phase::Done,
        Phase::Delete,
    ];
    let mut out = Vec::new();
    for policy in POLICIES {
        for phase in phases {
            let listener = format!("tcp_trap_{policy}_{}", phase.name());
            let bad = patient(Exchange::tcp(&listener, &["hello"], Ending::Fin));
            let good = || patient(Exchange::tcp(&listener, &["again"], Ending::Fin).unprobed());
            let name = format!("trap_in/tcp_{policy}_{}", phase.name());
            let case = super::tcp::case(name, &listener, vec![Op::trap(phase)], bad);
            out.push(case.then(good()).then(good()).unawaited());
        }
    }
    out
}
