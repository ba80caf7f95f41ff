//! Streams: resumed, answered, closed, left behind.

use super::headers::malformed;
use crate::lint::scene::{Half, Hit, Scene, Seen};
use host_sim_abi::{Status, StreamType};

/// Streams that a VM may warm up for.
const WARM: u64 = 32;

/// Growths, and bytes a stream, from which it is a leak.
const GROWTHS: u64 = 8;
const BYTES_PER_STREAM: usize = 256;

/// What ends Envoy itself.
pub(super) fn abort(seen: &Seen<'_>) -> Option<Hit> {
    let callback = seen.callback;
    let over = matches!(callback, "proxy_on_log" | "proxy_on_done" | "proxy_on_delete");
    let what = match (seen.name(), seen.number(0)) {
        ("send_local_response", _) if over && seen.origin.exchange.is_some() => {
            format!("a local reply in {callback}")
        }
        ("close_stream", 0 | 1) if callback == "proxy_on_log" => {
            format!("close_stream in {callback}")
        }
        ("continue_stream", 1) if callback == "proxy_on_request_headers" => {
            "continue_stream for the response in proxy_on_request_headers".to_owned()
        }
        ("set_buffer_bytes", 8) => "set_buffer_bytes of a foreign function's arguments".to_owned(),
        // The host has said so itself.
        (name, _) if seen.status.is_none() => format!("{name} with these arguments"),
        _ => return None,
    };
    Some(Hit::new("envoy-aborts", seen.call.name, format!("{what} makes Envoy abort")))
}

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    match seen.name() {
        "continue_stream" => resume(seen, scene, hits),
        "close_stream" => {
            scene.stream.paused = None;
            scene.running.replied = true;
            scene.plugin.resumes = true;
        }
        "send_local_response" => reply(seen, scene, hits),
        _ => {
            if seen.is(Status::BadArgument) {
                let message = format!("context {} is over", seen.number(0));
                hits.push(Hit::new("dead-context", "", message));
            }
        }
    }
}

fn resume(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let Some(stream) = StreamType::from_raw(seen.number(0)) else {
        let message = format!("there is no stream {}", seen.number(0));
        return hits.push(Hit::new("unknown-enum-value", seen.call.name, message));
    };
    scene.stream.paused = None;
    let own = scene.running.context == seen.origin.context;
    match stream {
        StreamType::HttpRequest if own && seen.half() == Some(Half::Request) => {
            scene.running.resumed[0] = true;
        }
        StreamType::HttpResponse if own && seen.half() == Some(Half::Response) => {
            scene.running.resumed[1] = true;
        }
        _ => scene.plugin.resumes = true,
    }
}

fn reply(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    malformed(seen.bytes(5), "the local reply's headers", hits);
    if seen.origin.exchange.is_none() && !seen.in_stream_callback() {
        let message = format!("a local reply in {} is for no stream", seen.callback);
        return hits.push(Hit::new("reply-from-root", "", message));
    }
    if matches!(seen.callback, "proxy_on_response_body" | "proxy_on_response_trailers") {
        let message = format!("a local reply in {} truncates the response", seen.callback);
        hits.push(Hit::new("reply-in-response-body", "", message));
    }
    let stream = &mut *scene.stream;
    stream.paused = None;
    stream.replies += 1;
    scene.running.replied = true;
    scene.plugin.resumes = true;
    if stream.replies == 2 {
        let message = "the stream has been answered by a local reply before".to_owned();
        hits.push(Hit::new("reply-twice", "", message));
    }
}

/// Memory that streams leave behind.
pub(super) fn memory(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let vm = &mut *scene.vm;
    let now = seen.call.memory.len();
    let before = std::mem::replace(&mut vm.memory, now);
    if vm.streams <= WARM || now <= before || !seen.in_stream_callback() {
        return;
    }
    vm.growths = (vm.growths.0 + 1, vm.growths.1 + (now - before));
    let streams = usize::try_from(vm.streams - WARM).unwrap_or(usize::MAX);
    let (growths, bytes) = vm.growths;
    if growths >= GROWTHS && bytes / streams >= BYTES_PER_STREAM {
        let message = format!("memory has grown by {bytes} bytes over {streams} streams");
        hits.push(Hit::new("context-leak", "", message));
    }
}
