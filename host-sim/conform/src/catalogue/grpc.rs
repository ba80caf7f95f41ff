//! gRPC calls and streams: what comes back, by what the service does.

use super::hostcalls::*;
use crate::Phase;
use crate::case::{Case, Exchange};
use crate::op::{Agree, Arg, Op};
use std::time::Duration;

use Arg::Reg;
use Phase::{GrpcClose, GrpcInitial, GrpcReceive, GrpcTrailing, RequestHeaders};

pub(super) fn cases() -> Vec<Case> {
    [answers(), clusters(), requests(), phases(), ends(), sends()].concat()
}

const SHAPES: &[&str] = &[
    "grpc",
    "grpc_two",
    "grpc_none",
    "grpc_failed",
    "grpc_odd_status",
    "grpc_text_status",
    "grpc_no_trailers",
    "grpc_flagged",
    "grpc_bad_flag",
    "grpc_short",
    "grpc_denied",
    "grpc_404",
    "grpc_html",
    "grpc_empty",
];

fn rpc<'a>(cluster: &'a str, metadata: &'a [(&'a str, &'a str)]) -> Rpc<'a> {
    Rpc { cluster, service: "conform.Service", method: "Method", metadata }
}

/// What a callback of gRPC can read.
fn looks(phase: Phase) -> Vec<Op> {
    vec![
        map_pairs(phase, 4),
        map_size(phase, 4),
        header(phase, 4, ":status"),
        map_pairs(phase, 5),
        map_size(phase, 5),
        header(phase, 5, "grpc-status"),
        header(phase, 5, "x-missing"),
        add(phase, 5, "x-added", "1"),
        buffer(phase, 5, 0, 1000),
        buffer(phase, 5, 2, 2),
        buffer_status(phase, 5),
        set_buffer(phase, 5, 0, 1, "x"),
        set_buffer(phase, 5, 2, 1, "mid"),
        set_buffer(phase, 5, 100, 1, "end"),
        buffer(phase, 5, 0, 100),
        buffer(phase, 4, 0, 1000),
        map_pairs(phase, 6),
        status(phase),
        property(phase, &["plugin_name"]),
        property(phase, &["request", "path"]),
        header(phase, 0, ":path"),
    ]
}

const CALLBACKS: [Phase; 4] = [GrpcInitial, GrpcReceive, GrpcTrailing, GrpcClose];

/// Begins in `phase` and pauses there; resumed by one of these.
fn paused(phase: Phase, begin: Vec<Op>, by: &[Phase]) -> Vec<Op> {
    let way = u32::from(matches!(
        phase,
        Phase::ResponseHeaders | Phase::ResponseBody | Phase::ResponseTrailers
    ));
    let mut ops = vec![keep_context(phase).once()];
    ops.extend(begin.into_iter().map(Op::once));
    ops.push(Op::answer(phase, 1));
    ops.extend(CALLBACKS.into_iter().flat_map(looks));
    for phase in by {
        ops.push(kept(*phase));
        ops.push(Op { label: "the stream's path".to_owned(), ..header(*phase, 0, ":path") });
        ops.push(resume(*phase, way).once());
    }
    ops
}

fn call_ends(begin: Vec<Op>) -> Vec<Op> {
    paused(RequestHeaders, begin, &[GrpcReceive, GrpcClose])
}

fn stream_ends(begin: Vec<Op>) -> Vec<Op> {
    paused(RequestHeaders, begin, &[GrpcClose])
}

/// A stream that says one thing and ends.
fn whole_stream(phase: Phase, rpc: Rpc<'_>) -> Vec<Op> {
    vec![grpc_stream(phase, rpc.cluster, rpc).save(6), grpc_send(phase, Reg(6), "question", 1)]
}

fn answers() -> Vec<Case> {
    let mut out = Vec::new();
    for shape in SHAPES {
        let metadata = [("x-shape", *shape), ("x-by", "probe")];
        let rpc = rpc("echo2", &metadata);
        let call = grpc_call(RequestHeaders, shape, rpc, "question", 500);
        let name = format!("grpc/call_{shape}");
        out.push(Case::new(name, call_ends(vec![call]), Exchange::get("main")));
        let name = format!("grpc/stream_{shape}");
        let stream = whole_stream(RequestHeaders, rpc);
        out.push(Case::new(name, stream_ends(stream), Exchange::get("main")));
    }
    out
}

/// Services that fail before they answer.
fn clusters() -> Vec<Case> {
    let mut out = Vec::new();
    for cluster in ["echo", "silent", "reset", "closed", "garbage", "refused"] {
        let rpc = rpc(cluster, &[("x-shape", "grpc")]);
        let call = grpc_call(RequestHeaders, cluster, rpc, "question", 200);
        let name = format!("grpc/call_to_{cluster}");
        out.push(Case::new(name, call_ends(vec![call]), Exchange::get("main")));
        if cluster != "silent" {
            let name = format!("grpc/stream_to_{cluster}");
            let ops = stream_ends(whole_stream(RequestHeaders, rpc));
            out.push(Case::new(name, ops, Exchange::get("main")));
        }
    }
    // Nobody, or no such cluster: closed at once, and the call fails.
    for cluster in ["nobody", "no-such"] {
        let rpc = rpc(cluster, &[]);
        let mut ops = vec![grpc_call(RequestHeaders, cluster, rpc, "question", 200)];
        ops.extend(CALLBACKS.into_iter().flat_map(looks));
        let exchange = Exchange::get("main");
        out.push(Case::new(format!("grpc/call_to_{cluster}"), ops, exchange).until(GrpcClose));
        let mut ops = vec![grpc_stream(RequestHeaders, cluster, rpc)];
        ops.extend(CALLBACKS.into_iter().flat_map(looks));
        let exchange = Exchange::get("main");
        out.push(Case::new(format!("grpc/stream_to_{cluster}"), ops, exchange).until(GrpcClose));
    }
    out
}

/// What is sent.
fn requests() -> Vec<Case> {
    let fine: &[(&str, &str)] = &[("x-shape", "grpc")];
    let plain = rpc("echo2", fine);
    let more: Vec<_> = [fine, &[("X-Upper", "1"), ("x-twice", "a"), ("x-twice", "b")]].concat();
    let path: Vec<_> = [fine, &[(":path", "/other")]].concat();
    let te: Vec<_> = [fine, &[("te", "none")]].concat();
    let host: Vec<_> = [fine, &[("host", "other")]].concat();
    let kind: Vec<_> = [fine, &[("content-type", "application/json")]].concat();
    let calls = [
        ("no_metadata", Rpc { metadata: &[], ..plain }, "question"),
        ("metadata", Rpc { metadata: &more, ..plain }, "question"),
        ("path", Rpc { metadata: &path, ..plain }, "question"),
        ("host", Rpc { metadata: &host, ..plain }, "question"),
        ("content_type", Rpc { metadata: &kind, ..plain }, "question"),
        ("no_message", plain, ""),
        ("no_service", Rpc { service: "", ..plain }, "question"),
        ("no_method", Rpc { method: "", ..plain }, "question"),
        ("odd_names", Rpc { service: "a/b", method: "c d", ..plain }, "question"),
    ];
    let mut out = Vec::new();
    for (name, rpc, body) in calls {
        let call = grpc_call(RequestHeaders, name, rpc, body, 500);
        let ops = call_ends(vec![call]);
        out.push(Case::new(format!("grpc_sends/call_{name}"), ops, Exchange::get("main")));
    }
    // On a VM of its own: the code of a close stays for the callbacks of later cases.
    let call = grpc_call(RequestHeaders, "te", Rpc { metadata: &te, ..plain }, "question", 500);
    out.push(Case::new("grpc_sends/call_te", call_ends(vec![call]), Exchange::get("te")));
    let begin = vec![
        grpc_stream(RequestHeaders, "echo2", plain).save(6),
        grpc_send(RequestHeaders, Reg(6), "one", 0),
        grpc_send(RequestHeaders, Reg(6), "", 0),
        grpc_send(RequestHeaders, Reg(6), "two", 1),
        grpc_send(RequestHeaders, Reg(6), "late", 0),
        grpc_send(RequestHeaders, Reg(6), "late", 1),
    ];
    let ops = stream_ends(begin);
    out.push(Case::new("grpc_sends/stream", ops, Exchange::get("main")));
    out
}

/// From each callback.
fn phases() -> Vec<Case> {
    let mut out = Vec::new();
    for phase in Phase::HTTP.iter().copied().filter(|phase| *phase != Phase::Create) {
        let rpc = rpc("echo2", &[("x-shape", "grpc")]);
        let over = matches!(phase, Phase::Log | Phase::Done | Phase::Delete);
        // Trailers would end a pause of the body.
        let exchange = match phase {
            Phase::RequestBody => {
                Exchange::post("main", crate::Body::Chunked(vec!["request body"]))
            }
            Phase::ResponseBody => Exchange::get("main"),
            _ => Exchange::whole("main"),
        };
        let call = grpc_call(phase, "echo2", rpc, "question", 500);
        let ops = paused(phase, vec![call], &[GrpcReceive, GrpcClose]);
        let case = Case::new(format!("grpc_from/call_{}", phase.name()), ops, exchange.clone());
        out.push(if over { case.until(GrpcReceive) } else { case });
        let ops = paused(phase, whole_stream(phase, rpc), &[GrpcClose]);
        let case = Case::new(format!("grpc_from/stream_{}", phase.name()), ops, exchange);
        out.push(if over { case.until(GrpcClose) } else { case });
    }
    out
}

/// Cancelled and closed, at once and in each callback, twice.
fn ends() -> Vec<Case> {
    let mut out = Vec::new();
    let early = [("x-shape", "early_grpc")];
    let rpc = rpc("echo2", &early);
    let hangs = || Exchange { patience: Duration::from_millis(150), ..Exchange::get("main") };
    let twice = |phase, call: &str| {
        let again = |op: Op| Op { label: format!("again: {}", op.label), ..op };
        vec![
            grpc_end(phase, call, Reg(6)),
            again(grpc_end(phase, call, Reg(6))),
            grpc_send(phase, Reg(6), "late", 0),
            grpc_send(phase, Reg(6), "late", 1),
        ]
    };
    for end in ["grpc_cancel", "grpc_close"] {
        let mut ops = vec![grpc_call(RequestHeaders, "echo2", rpc, "question", 500).save(6)];
        ops.extend(twice(RequestHeaders, end));
        ops.extend(CALLBACKS.into_iter().flat_map(looks));
        out.push(Case::new(format!("{end}/call_at_once"), ops, Exchange::get("main")));
        let mut ops = vec![
            grpc_stream(RequestHeaders, "echo2", rpc).save(6),
            grpc_send(RequestHeaders, Reg(6), "question", 0),
        ];
        ops.extend(twice(RequestHeaders, end));
        // What was closed is answered, what was cancelled is not.
        let ops = match end {
            "grpc_close" => stream_ends(ops),
            _ => [ops, CALLBACKS.into_iter().flat_map(looks).collect()].concat(),
        };
        out.push(Case::new(format!("{end}/stream_at_once"), ops, Exchange::get("main")));
        for phase in CALLBACKS {
            let begin = vec![
                grpc_stream(RequestHeaders, "echo2", rpc).save(6),
                grpc_send(RequestHeaders, Reg(6), "question", 0),
            ];
            let mut ops = paused(RequestHeaders, begin, &[GrpcClose]);
            ops.extend(twice(phase, end).into_iter().map(Op::once));
            let name = format!("{end}/stream_in_{}", phase.name());
            out.push(Case::new(name, ops, hangs()));
        }
    }
    for end in ["grpc_cancel", "grpc_close"] {
        let begin = vec![grpc_call(RequestHeaders, "echo2", rpc, "question", 500).save(6)];
        let mut ops = paused(RequestHeaders, begin, &[GrpcReceive, GrpcClose]);
        ops.extend(twice(GrpcReceive, end).into_iter().map(Op::once));
        out.push(Case::new(format!("{end}/call_in_grpc_receive"), ops, hangs()));
    }
    out
}

/// Sent from the callbacks of a stream.
fn sends() -> Vec<Case> {
    let early = [("x-shape", "early_grpc")];
    let rpc = rpc("echo2", &early);
    CALLBACKS
        .into_iter()
        .map(|phase| {
            let begin = vec![grpc_stream(RequestHeaders, "echo2", rpc).save(6)];
            let mut ops = paused(RequestHeaders, begin, &[GrpcClose]);
            ops.push(grpc_send(phase, Reg(6), "from a callback", 1).once());
            let name = format!("grpc_sends/in_{}", phase.name());
            Case::new(name, ops, Exchange::get("main")).unawaited()
        })
        .collect()
}

/// Begun by a root.
pub(super) fn from_root(phase: Phase) -> Vec<Op> {
    let rpc = rpc("echo2", &[("x-shape", "grpc")]);
    vec![
        grpc_call(phase, "echo2", rpc, "question", 500).agree(Agree::Status).once(),
        grpc_stream(phase, "echo2", rpc).agree(Agree::Status).once(),
    ]
}
