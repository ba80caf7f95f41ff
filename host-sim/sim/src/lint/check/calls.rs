//! Calls out, ticks, queues, foreign functions, and the log.

use super::headers::malformed;
use crate::lint::call::{quoted, render};
use crate::lint::scene::{Hit, Scene, Seen};
use host_sim_abi::{LogLevel, Status, pairs};

/// Shortest reasonable period of ticks, in milliseconds.
const SHORTEST_TICK: u32 = 10;

/// So many lines below info level by stream callbacks are no accident.
const VERBOSE: u64 = 8;

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    if seen.is_ok() {
        scene.running.called = true;
        scene.stream.called = true;
    } else {
        scene.running.refused = Some(render(seen.call, seen.status));
    }
    if seen.name() == "http_call" { http(seen, hits) } else { grpc(seen, hits) }
}

fn http(seen: &Seen<'_>, hits: &mut Vec<Hit>) {
    let cluster = seen.bytes(0);
    let shown = quoted(cluster);
    malformed(seen.bytes(2), "the call's headers", hits);
    if seen.is(Status::BadArgument) {
        let headers = pairs::decode(seen.bytes(2)).unwrap_or_default();
        let missing: Vec<_> = [":method", ":path", ":authority"]
            .into_iter()
            .filter(|name| !headers.iter().any(|(own, _)| *own == name.as_bytes()))
            .collect();
        if !seen.facts.has_cluster(cluster) {
            let message = format!("the bootstrap has no cluster {shown}");
            hits.push(Hit::new("unknown-cluster", shown, message));
        } else if !missing.is_empty() {
            let message = format!("the call lacks {}", missing.join(", "));
            hits.push(Hit::new("call-headers", shown, message));
        }
        return;
    }
    if seen.is_ok() {
        if seen.number(8) == 0 {
            let message = format!("the call to {shown} has no timeout");
            hits.push(Hit::new("call-without-timeout", shown, message));
        }
        answered_by(seen, &["proxy_on_http_call_response"], hits);
    }
}

fn grpc(seen: &Seen<'_>, hits: &mut Vec<Hit>) {
    if seen.is(Status::ParseFailure) {
        let shown = quoted(seen.bytes(0));
        let message = format!("{shown} is neither a cluster nor a serialized GrpcService");
        hits.push(Hit::new("unknown-cluster", shown, message));
    } else if seen.is_ok() {
        answered_by(seen, &["proxy_on_grpc_receive", "proxy_on_grpc_close"], hits);
    }
}

fn answered_by(seen: &Seen<'_>, callbacks: &[&str], hits: &mut Vec<Hit>) {
    if let Some(missing) = callbacks.iter().find(|callback| !seen.plugin.has(callback)) {
        let message = format!("a call is sent, and {missing} is not exported");
        hits.push(Hit::new("call-without-callback", *missing, message));
    }
}

pub(super) fn tick(seen: &Seen<'_>, hits: &mut Vec<Hit>) {
    match seen.number(0) {
        0 if seen.in_start() => {
            let message = "a period of 0 is set at the start: there will be no ticks".to_owned();
            hits.push(Hit::new("tick-zero", "", message));
        }
        0 => {}
        period if !seen.plugin.has("proxy_on_tick") => {
            let message = format!("a period of {period} ms is set, proxy_on_tick is not exported");
            hits.push(Hit::new("tick-without-callback", "", message));
        }
        period if period < SHORTEST_TICK => {
            hits.push(Hit::new("tick-too-short", "", format!("the period is {period} ms")));
        }
        _ => {}
    }
}

pub(super) fn queue(seen: &Seen<'_>, hits: &mut Vec<Hit>) {
    match seen.name() {
        "register_shared_queue" if !seen.plugin.has("proxy_on_queue_ready") => {
            let shown = quoted(seen.bytes(0));
            let message = format!("queue {shown} is registered, nobody is told of its items");
            hits.push(Hit::new("queue-without-callback", shown, message));
        }
        "resolve_shared_queue" if seen.is(Status::NotFound) => {
            let shown = quoted(seen.bytes(2));
            let message = format!("no queue {shown} under the vm_id {}", quoted(seen.bytes(0)));
            hits.push(Hit::new("queue-unknown", shown, message));
        }
        "enqueue_shared_queue" | "dequeue_shared_queue" if seen.is(Status::NotFound) => {
            let message = format!("no queue has the token {}", seen.number(0));
            hits.push(Hit::new("queue-unknown", seen.call.name, message));
        }
        _ => {}
    }
}

pub(super) fn foreign(seen: &Seen<'_>, hits: &mut Vec<Hit>) {
    if seen.is(Status::NotFound) {
        let shown = quoted(seen.bytes(0));
        let message = format!("the host has no foreign function {shown}");
        hits.push(Hit::new("unknown-foreign-function", shown, message));
    }
}

pub(super) fn log(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let Some(level) = LogLevel::from_raw(seen.number(0)) else {
        let message = format!("there is no log level {}", seen.number(0));
        return hits.push(Hit::new("unknown-enum-value", seen.call.name, message));
    };
    let line = seen.bytes(1);
    scene.running.complained |= level >= LogLevel::Warn;
    if level == LogLevel::Critical {
        scene.running.panic = Some(String::from_utf8_lossy(line).into_owned());
    }
    if level < LogLevel::Info && seen.in_stream_callback() {
        scene.plugin.verbose_lines += 1;
        if scene.plugin.verbose_lines == VERBOSE {
            let message = format!("streams log at {} level, {}", level.as_str(), quoted(line));
            hits.push(Hit::new("trace-per-request", "", message));
        }
    }
    if scene.stream.secret_in(line) {
        let message = "a credential that the client has sent is logged".to_owned();
        hits.push(Hit::new("secret-logged", "", message));
    }
}
