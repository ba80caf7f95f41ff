//! Local replies from every callback, and what is in them.

use super::hostcalls::*;
use crate::Phase;
use crate::case::{Body, Case, Exchange};
use crate::op::Op;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    [phases(), contents(), twice(), roots()].concat()
}

const PHASES: &[Phase] = &[
    Phase::RequestHeaders,
    Phase::RequestBody,
    Phase::RequestTrailers,
    Phase::ResponseHeaders,
    Phase::ResponseBody,
    Phase::ResponseTrailers,
];

fn looks() -> Vec<Op> {
    vec![
        header(Phase::ResponseHeaders, 0, ":path"),
        map_pairs(Phase::ResponseHeaders, 2),
        property(Phase::ResponseHeaders, &["response", "code_details"]),
        buffer(Phase::ResponseBody, 1, 0, 1000),
        property(Phase::Log, &["response", "code"]),
        property(Phase::Log, &["response", "code_details"]),
        property(Phase::Log, &["response", "flags"]),
    ]
}

fn case(name: String, mut ops: Vec<Op>, exchange: Exchange) -> Case {
    ops.extend(looks());
    let patience = Duration::from_millis(250);
    Case::new(name, ops, Exchange { patience, ..exchange })
}

/// From each callback, over either protocol, with either answer.
fn phases() -> Vec<Case> {
    let mut out = Vec::new();
    for phase in PHASES.iter().copied() {
        for (kind, exchange) in [
            ("whole", Exchange::whole("main")),
            ("sized", Exchange::post("main", Body::Sized(vec!["one body"]))),
            ("stop", Exchange::whole("stop")),
        ] {
            for answer in [0, 1] {
                let ops = vec![
                    reply(phase, "plain", Reply::PLAIN).once(),
                    header(phase, 0, ":path").once(),
                    Op::answer(phase, answer),
                ];
                let name = format!("reply/{}_{kind}_{answer}", phase.name());
                out.push(case(name, ops, exchange.clone()));
            }
        }
    }
    out
}

/// Statuses, headers, bodies, details.
fn contents() -> Vec<Case> {
    let plain = Reply::PLAIN;
    let replies = [
        ("empty", Reply { body: "", details: "", ..plain }),
        ("status_0", Reply { status: 0, ..plain }),
        ("status_200", Reply { status: 200, ..plain }),
        ("status_204", Reply { status: 204, body: "", ..plain }),
        ("status_304", Reply { status: 304, body: "", ..plain }),
        ("status_999", Reply { status: 999, ..plain }),
        ("details_with_space", Reply { details: "two words\tand a tab", ..plain }),
        (
            "headers",
            Reply { headers: &[("X-Upper", "V"), ("x-twice", "a"), ("x-twice", "b")], ..plain },
        ),
        ("content_type", Reply { headers: &[("content-type", "application/json")], ..plain }),
        ("content_length", Reply { headers: &[("content-length", "4")], ..plain }),
        ("server_header", Reply { headers: &[("server", "probe")], ..plain }),
        ("retry_after", Reply { status: 429, headers: &[("retry-after", "1")], ..plain }),
        ("grpc_status", Reply { grpc: 7, ..plain }),
    ];
    let mut out = Vec::new();
    for (name, content) in replies {
        let ops = vec![reply(Phase::RequestHeaders, name, content)];
        out.push(case(format!("reply_content/{name}"), ops, Exchange::get("main")));
    }
    for grpc in [-1, 0, 7, 16, 17] {
        let ops = vec![reply(Phase::RequestHeaders, "grpc", Reply { grpc, ..plain })];
        let exchange = Exchange::whole("main").header("content-type", "application/grpc");
        out.push(case(format!("reply_grpc/{grpc}"), ops, exchange));
    }
    let ops = vec![reply(Phase::RequestHeaders, "plain", plain)];
    let head = Exchange { method: "HEAD", ..Exchange::get("main") };
    out.push(case("reply_content/head".to_owned(), ops, head));
    out
}

/// A second reply, and what else comes too late.
fn twice() -> Vec<Case> {
    let again = Reply { status: 404, body: "again", ..Reply::PLAIN };
    let mut out = Vec::new();
    for (first, second) in [
        (Phase::RequestHeaders, Phase::RequestHeaders),
        (Phase::RequestHeaders, Phase::ResponseHeaders),
        (Phase::RequestBody, Phase::ResponseBody),
        (Phase::ResponseHeaders, Phase::ResponseBody),
    ] {
        let ops =
            vec![reply(first, "first", Reply::PLAIN).once(), reply(second, "second", again).once()];
        let name = format!("reply_twice/{}_{}", first.name(), second.name());
        out.push(case(name, ops, Exchange::whole("main")));
    }
    // The sender's own callbacks may change its reply.
    let ops = vec![
        reply(Phase::RequestHeaders, "plain", Reply::PLAIN),
        add(Phase::ResponseHeaders, 2, "x-own", "1"),
        set_buffer(Phase::ResponseBody, 1, 0, 9999, "changed!!"),
    ];
    out.push(case("reply_changed".to_owned(), ops, Exchange::get("main")));
    let ops = vec![
        reply(Phase::RequestHeaders, "plain", Reply::PLAIN),
        resume(Phase::RequestHeaders, 0),
        Op::answer(Phase::RequestHeaders, 1),
    ];
    out.push(case("reply_and_resume".to_owned(), ops, Exchange::get("main")));
    let ops = vec![
        resume(Phase::RequestHeaders, 0),
        reply(Phase::RequestHeaders, "plain", Reply::PLAIN),
        Op::answer(Phase::RequestHeaders, 1),
    ];
    out.push(case("resume_and_reply".to_owned(), ops, Exchange::get("main")));
    out
}

/// From a tick: for nobody, and for a paused stream.
fn roots() -> Vec<Case> {
    let paused = |phase: Phase| {
        vec![
            keep_context(phase).once(),
            tick(phase, 40).once(),
            Op::answer(phase, 1).once(),
            reply(Phase::Tick, "for nobody", Reply::PLAIN).once(),
            kept(Phase::Tick).once(),
            reply(Phase::Tick, "for the stream", Reply::PLAIN).once(),
            tick(Phase::Tick, 0),
        ]
    };
    let case = |phase: &Phase| {
        let name = format!("reply_from_tick/{}", phase.name());
        case(name, paused(*phase), Exchange::whole("main")).until(Phase::Tick)
    };
    PHASES.iter().map(case).collect()
}
