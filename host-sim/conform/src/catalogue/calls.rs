//! HTTP calls and queues: what comes back, and when.

use super::hostcalls::*;
use crate::Phase;
use crate::case::{Body, Case, Exchange};
use crate::op::{Agree, Arg, Op};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    [outcomes(), phases(), requests(), after(), queues()].concat()
}

/// What a callback of a call can read; the call's id is checked by the order of callbacks.
fn looks() -> Vec<Op> {
    let phase = Phase::HttpCall;
    vec![
        map_pairs(phase, 6),
        header(phase, 6, ":status"),
        header(phase, 6, "x-missing"),
        map_size(phase, 6),
        map_pairs(phase, 7),
        map_size(phase, 7),
        header(phase, 7, "x-trail"),
        buffer(phase, 4, 0, 1000),
        buffer(phase, 4, 3, 2),
        buffer_status(phase, 4),
        set_buffer(phase, 4, 0, 1, "x"),
        add(phase, 6, "x-added", "1"),
        status(phase),
        header(phase, 0, ":path"),
        map_pairs(phase, 2),
        property(phase, &["plugin_name"]),
        property(phase, &["request", "path"]),
    ]
}

fn back(way: u32) -> Vec<Op> {
    let phase = Phase::HttpCall;
    let after = |op: Op| Op { label: format!("for the stream: {}", op.label), ..op };
    vec![
        kept(phase),
        after(header(phase, 0, ":path")),
        after(header(phase, 6, ":status")),
        after(buffer(phase, 4, 0, 5)),
        after(property(phase, &["request", "path"])),
        after(add(phase, 0, "x-from-callback", "1")),
        resume(phase, way),
    ]
}

fn paused(phase: Phase, call: Op) -> Vec<Op> {
    let way = u32::from(matches!(
        phase,
        Phase::ResponseHeaders | Phase::ResponseBody | Phase::ResponseTrailers
    ));
    let mut ops = vec![keep_context(phase).once(), call.once(), Op::answer(phase, 1)];
    ops.extend(looks());
    ops.extend(back(way));
    ops
}

/// To each upstream, from on_request_headers.
fn outcomes() -> Vec<Case> {
    let clusters = ["echo", "echo2", "silent", "reset", "closed", "partial", "garbage", "refused"];
    let mut out = Vec::new();
    for cluster in clusters {
        for (body, timeout) in [("", 200), ("call body", 200)] {
            let kind = if body.is_empty() { "bare" } else { "body" };
            let call = http_call(Phase::RequestHeaders, cluster, CALL_HEADERS, body, timeout);
            let ops = paused(Phase::RequestHeaders, call.agree(Agree::Status));
            let name = format!("call/{cluster}_{kind}");
            out.push(Case::new(name, ops, Exchange::get("main")));
        }
    }
    out
}

/// From each callback.
fn phases() -> Vec<Case> {
    let mut out = Vec::new();
    for phase in Phase::HTTP.iter().copied().filter(|phase| *phase != Phase::Create) {
        let call = http_call(phase, "echo", CALL_HEADERS, "", 1000).agree(Agree::Status);
        let name = format!("call_from/{}", phase.name());
        // Trailers would end a pause of the body.
        let exchange = match phase {
            Phase::RequestBody => Exchange::post("main", Body::Chunked(vec!["request body"])),
            Phase::ResponseBody => Exchange::get("main"),
            _ => Exchange::whole("main"),
        };
        let mut case = Case::new(name, paused(phase, call), exchange);
        if matches!(phase, Phase::Log | Phase::Done | Phase::Delete) {
            case = case.until(Phase::HttpCall);
        }
        out.push(case);
    }
    out
}

/// What the call sends, and shapes of the answer.
fn requests() -> Vec<Case> {
    let phase = Phase::RequestHeaders;
    let with = |name: &str, headers: &[(&str, &str)], body: &str, trailers: &[(&str, &str)]| {
        let cluster = if trailers.is_empty() { "echo" } else { "echo2" };
        let call = http_call_with(phase, name, cluster, headers, body, trailers, 1000);
        let ops = paused(phase, call.agree(Agree::Status));
        Case::new(format!("call_sends/{name}"), ops, Exchange::get("main"))
    };
    let plus = |more: &[(&'static str, &'static str)]| [CALL_HEADERS, more].concat();
    let shaped = |shape: &'static str| {
        let mut headers = CALL_HEADERS.to_vec();
        headers.iter_mut().filter(|(name, _)| *name == "x-shape").for_each(|h| h.1 = shape);
        headers
    };
    vec![
        with("get", &[(":method", "GET"), (":path", "/c"), (":authority", "a")], "", &[]),
        with("scheme", &plus(&[(":scheme", "https")]), "", &[]),
        with("host", &plus(&[("host", "other")]), "", &[]),
        with("upper", &plus(&[("X-Upper", "1")]), "", &[]),
        with("twice", &plus(&[("x-twice", "a"), ("x-twice", "b")]), "", &[]),
        with("length", &plus(&[("content-length", "3")]), "abc", &[]),
        with("trailers", CALL_HEADERS, "body", &[("x-trail", "call")]),
        with(
            "forwarded",
            &plus(&[("x-forwarded-for", "1.2.3.4"), ("x-request-id", "mine")]),
            "",
            &[],
        ),
        with("answered_404", &shaped("404"), "", &[]),
        with("answered_empty", &shaped("empty"), "", &[]),
        with("answered_chunked", &shaped("chunked"), "", &[]),
        with("answered_with_trailers", &shaped("trailers"), "x", &[("x-trail", "call")]),
    ]
}

/// A call that outlives its stream; one whose client leaves; one that is answered with a reply.
fn after() -> Vec<Case> {
    let phase = Phase::RequestHeaders;
    let call = |cluster: &str, timeout| {
        http_call(phase, cluster, CALL_HEADERS, "", timeout).agree(Agree::Status).once()
    };
    let mut outlives = vec![keep_context(phase), call("silent", 150)];
    outlives.extend([kept(Phase::HttpCall), header(Phase::HttpCall, 6, ":status")]);
    outlives.push(resume(Phase::HttpCall, 0));
    let outlives =
        Case::new("call_outlives", outlives, Exchange::get("main")).until(Phase::HttpCall);
    let mut left = vec![keep_context(phase), call("silent", 400), Op::answer(phase, 1)];
    left.extend([kept(Phase::HttpCall), header(Phase::HttpCall, 6, ":status")]);
    let left = Case::new(
        "call_client_left",
        left,
        Exchange { patience: Duration::from_millis(150), ..Exchange::get("main") },
    )
    .until(Phase::HttpCall);
    let reply_from_call = vec![
        keep_context(phase),
        call("echo", 1000),
        Op::answer(phase, 1),
        kept(Phase::HttpCall),
        reply(Phase::HttpCall, "plain", Reply::PLAIN),
        header(Phase::HttpCall, 0, ":path"),
    ];
    let reply_from_call = Case::new("call_then_reply", reply_from_call, Exchange::get("main"));
    vec![outlives, left, reply_from_call]
}

/// A queue wakes the VM that registered it last.
fn queues() -> Vec<Case> {
    let phase = Phase::RequestHeaders;
    let ops = vec![
        register_queue(phase, "wakes").save(5).agree(Agree::Status),
        enqueue(phase, "own", Arg::Reg(5), "one"),
        enqueue(phase, "own", Arg::Reg(5), ""),
        dequeue(Phase::Queue, "own", Arg::Reg(5)),
        status(Phase::Queue),
        property(Phase::Queue, &["plugin_name"]),
        header(Phase::Queue, 0, ":path"),
    ];
    vec![Case::new("queue/wakes", ops, Exchange::get("main")).until(Phase::Queue)]
}
