//! Pausing, resuming and closing.

use super::hostcalls::*;
use crate::Phase;
use crate::case::{Body, Case, Exchange};
use crate::op::{Op, When};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    [pauses(), unresumed(), early(), answers(), closes(), upstreams()].concat()
}

const PAUSABLE: &[(Phase, u32)] = &[
    (Phase::RequestHeaders, 0),
    (Phase::RequestBody, 0),
    (Phase::RequestTrailers, 0),
    (Phase::ResponseHeaders, 1),
    (Phase::ResponseBody, 1),
    (Phase::ResponseTrailers, 1),
];

/// The exchanges that each pause meets.
fn exchanges(listener: &'static str) -> Vec<(&'static str, Exchange)> {
    vec![
        ("get", Exchange::get(listener)),
        ("sized", Exchange::post(listener, Body::Sized(vec!["one body"]))),
        ("chunked", Exchange::post(listener, Body::Chunked(vec!["one ", "body"])).shape("chunked")),
        ("whole", Exchange::whole(listener)),
    ]
}

/// Paused, and resumed from the callback of a tick.
fn pauses() -> Vec<Case> {
    let mut out = Vec::new();
    for listener in ["main", "stop"] {
        for (phase, way) in PAUSABLE.iter().copied() {
            for (kind, exchange) in exchanges(listener) {
                let body = matches!(phase, Phase::RequestBody | Phase::ResponseBody);
                let reached = match phase {
                    Phase::RequestBody => kind != "get",
                    Phase::RequestTrailers | Phase::ResponseTrailers => kind == "whole",
                    _ => true,
                };
                if !reached {
                    continue;
                }
                // When the stream has come as far as it can; that answer comes in pieces.
                let delay = if kind == "chunked" { 150 } else { 40 };
                let mut ops = vec![
                    keep_context(phase).once(),
                    tick(phase, delay).once(),
                    Op::answer(phase, 1).once(),
                    buffer(Phase::RequestBody, 0, 0, 1000),
                    buffer(Phase::ResponseBody, 1, 0, 1000),
                    kept(Phase::Tick).once(),
                    header(Phase::Tick, 0, ":path").once(),
                    header(Phase::Tick, 2, ":status").once(),
                    buffer(Phase::Tick, way, 0, 1000).once(),
                    resume(Phase::Tick, way).once(),
                    tick(Phase::Tick, 0),
                ];
                if body {
                    // What was held is there, and can be changed.
                    ops.insert(8, set_buffer(Phase::Tick, way, 0, 3, "NEW").once());
                }
                let name = format!("pause/{listener}_{}_{kind}", phase.name());
                let exchange = Exchange { patience: HANG, ..exchange };
                let case = Case::new(name, ops, exchange).until(Phase::Tick);
                out.push(case);
            }
        }
    }
    out
}

const HANG: Duration = Duration::from_millis(250);

/// Paused, and never resumed: what a client sees, and that its leaving ends the stream.
fn unresumed() -> Vec<Case> {
    let case = |(phase, _): &(Phase, u32)| {
        let exchange = Exchange::whole("main").hangs();
        let ops = vec![Op::answer(*phase, 1)];
        Case::new(format!("unresumed/{}", phase.name()), ops, exchange)
    };
    let body = |at: When, name: &str| {
        let exchange = Exchange::post("main", Body::Sized(vec!["one body"])).hangs();
        let ops = vec![Op::answer(Phase::RequestBody, 1).when(at)];
        Case::new(format!("unresumed/body_{name}"), ops, exchange)
    };
    let bodies = [body(When::BeforeEnd, "before_end"), body(When::AtEnd, "at_end")];
    PAUSABLE.iter().map(case).chain(bodies).collect()
}

/// Resumed before the pause.
fn early() -> Vec<Case> {
    let mut out = Vec::new();
    for listener in ["main", "stop"] {
        for (phase, way) in PAUSABLE.iter().copied() {
            for (kind, exchange) in exchanges(listener) {
                let ops = vec![resume(phase, way).once(), Op::answer(phase, 1).once()];
                let name = format!("resume_first/{listener}_{}_{kind}", phase.name());
                let case = Case::new(name, ops, Exchange { patience: HANG, ..exchange });
                out.push(case);
            }
        }
    }
    out
}

/// Other answers than Continue and Pause.
fn answers() -> Vec<Case> {
    let mut out = Vec::new();
    for (phase, _) in PAUSABLE {
        for answer in [2, 3, u32::MAX] {
            let ops = vec![Op::answer(*phase, answer)];
            let name = format!("answer/{}_{}", phase.name(), answer.cast_signed());
            let exchange = Exchange { patience: HANG, ..Exchange::whole("main") };
            let case = Case::new(name, ops, exchange);
            out.push(case);
        }
    }
    out
}

/// Closing the stream.
fn closes() -> Vec<Case> {
    let mut out = Vec::new();
    for (phase, _) in PAUSABLE {
        for stream in 0..=3 {
            // Envoy uses the stream after it has freed it, and may or may not survive.
            if *phase == Phase::ResponseTrailers && stream < 2 {
                continue;
            }
            let ops = vec![close(*phase, stream), header(*phase, 0, ":path")];
            let name = format!("close/{}_{stream}", phase.name());
            let exchange = Exchange { patience: HANG, ..Exchange::whole("main") };
            let case = Case::new(name, ops, exchange);
            out.push(case);
        }
    }
    out
}

/// What a plugin sees when the upstream fails.
fn upstreams() -> Vec<Case> {
    let details = |phase| {
        [
            property(phase, &["response", "code"]),
            property(phase, &["response", "code_details"]),
            property(phase, &["response", "flags"]),
            property(phase, &["upstream", "address"]),
            property(phase, &["upstream", "transport_failure_reason"]),
            property(phase, &["upstream", "request_attempt_count"]),
            property(phase, &["xds", "cluster_name"]),
            header(phase, 2, ":status"),
            map_pairs(phase, 2),
        ]
    };
    let clusters =
        ["silent", "reset", "closed", "partial", "garbage", "refused", "nobody", "no-such"];
    let cases = clusters.into_iter().map(|cluster| {
        let phases = [Phase::ResponseHeaders, Phase::ResponseBody, Phase::Log];
        let ops = phases.into_iter().flat_map(details).collect();
        let exchange = Exchange::get("main").path(&format!("/{cluster}"));
        Case::new(format!("upstream/{cluster}"), ops, exchange)
    });
    cases.collect()
}
