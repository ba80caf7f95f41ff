//! Three plugins in a chain: two in one VM, one between them in another.

use super::hostcalls::*;
use crate::Phase;
use crate::case::{Case, Exchange};
use crate::op::Op;

const LETTERS: [char; 3] = ['a', 'b', 'c'];

pub(super) fn cases() -> Vec<Case> {
    [vec![order(), writes(), properties()], replies(), pauses()].concat()
}

fn chain(name: &str, programs: [Vec<Op>; 3], exchange: Exchange) -> Case {
    let mut case = Case::new(name, Vec::new(), exchange);
    case.programs = LETTERS.into_iter().zip(programs).collect();
    case
}

fn order() -> Case {
    chain("chain/order", Default::default(), Exchange::whole("chain"))
}

/// Each adds a header and looks at what the others did.
fn writes() -> Case {
    let program = |letter: &str| {
        vec![
            header(Phase::RequestHeaders, 0, "x-by"),
            replace(Phase::RequestHeaders, 0, "x-by", letter),
            header(Phase::ResponseHeaders, 2, "x-by"),
            replace(Phase::ResponseHeaders, 2, "x-by", letter),
            buffer(Phase::RequestBody, 0, 0, 100),
            set_buffer(Phase::RequestBody, 0, 9999, 0, letter),
            buffer(Phase::ResponseBody, 1, 0, 100),
            set_buffer(Phase::ResponseBody, 1, 9999, 0, letter),
            header(Phase::Log, 0, "x-by"),
            header(Phase::Log, 2, "x-by"),
        ]
    };
    chain("chain/writes", ["a", "b", "c"].map(program), Exchange::whole("chain"))
}

/// Filter state and shared data reach over the chain, or do not.
fn properties() -> Case {
    let program = |letter: &str| {
        let phase = Phase::RequestHeaders;
        vec![
            property(phase, &["by"]),
            set_property(phase, &["by"], letter),
            property(phase, &["by"]),
            get_shared(phase, "chain"),
            set_shared(phase, "chain", letter, crate::Arg::Imm(0)),
            property(phase, &["plugin_name"]),
            property(phase, &["plugin_vm_id"]),
            property(Phase::ResponseHeaders, &["by"]),
            property(Phase::Log, &["by"]),
        ]
    };
    chain("chain/properties", ["a", "b", "c"].map(program), Exchange::whole("chain"))
}

/// A reply of the one in the middle.
fn replies() -> Vec<Case> {
    let phases = [
        Phase::RequestHeaders,
        Phase::RequestBody,
        Phase::RequestTrailers,
        Phase::ResponseHeaders,
        Phase::ResponseBody,
        Phase::ResponseTrailers,
    ];
    let mut out = Vec::new();
    for phase in phases {
        for (at, letter) in LETTERS.into_iter().enumerate() {
            let mut programs: [Vec<Op>; 3] = Default::default();
            programs[at] = vec![reply(phase, "plain", Reply::PLAIN).once()];
            let name = format!("chain_reply/{}_{letter}", phase.name());
            let exchange = Exchange { patience: HANG, ..Exchange::whole("chain") };
            let case = chain(&name, programs, exchange);
            out.push(case);
        }
    }
    out
}

const HANG: std::time::Duration = std::time::Duration::from_millis(250);

/// A pause of each, resumed by a tick.
fn pauses() -> Vec<Case> {
    let mut out = Vec::new();
    for (phase, way) in [
        (Phase::RequestHeaders, 0),
        (Phase::RequestBody, 0),
        (Phase::RequestTrailers, 0),
        (Phase::ResponseHeaders, 1),
        (Phase::ResponseBody, 1),
        (Phase::ResponseTrailers, 1),
    ] {
        for (at, letter) in LETTERS.into_iter().enumerate() {
            let mut programs: [Vec<Op>; 3] = Default::default();
            programs[at] = vec![
                keep_context(phase).once(),
                tick(phase, 40).once(),
                Op::answer(phase, 1).once(),
                kept(Phase::Tick).once(),
                resume(Phase::Tick, way).once(),
                tick(Phase::Tick, 0),
            ];
            let name = format!("chain_pause/{}_{letter}", phase.name());
            let exchange = Exchange { patience: HANG, ..Exchange::whole("chain") };
            let case = chain(&name, programs, exchange).until(Phase::Tick);
            out.push(case);
        }
    }
    out
}
