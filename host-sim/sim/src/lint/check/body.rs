//! Buffers: out of phase, in the middle, and under a content-length that no longer fits.

use super::headers::{phase, rust};
use crate::lint::call::buffer_name;
use crate::lint::scene::{Half, Hit, Scene, Seen};
use host_sim_abi::{BufferType, Status};

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let Some(buffer) = BufferType::from_raw(seen.number(0)) else {
        let message = format!("there is no buffer {}", seen.number(0));
        return hits.push(Hit::new("unknown-enum-value", seen.call.name, message));
    };
    if seen.name() == "set_buffer_bytes" {
        return set(seen, scene, buffer, hits);
    }
    if buffer == BufferType::PluginConfiguration {
        scene.plugin.configuration_read |= seen.in_start();
    }
    let len = (seen.name() == "get_buffer_bytes" && seen.is_ok()).then(|| seen.out(4)).flatten();
    if let (Some(half), Some(len)) = (half_of(buffer), len) {
        scene.running.body[half as usize] = Some(len);
    }
    let missing = match half_of(buffer) {
        // An empty body is not told from none; in its own callback it is empty.
        Some(_) => len == Some(0) && !is_own(seen, buffer) && seen.in_stream_callback(),
        // In its own callback there is none: an answer without a body, or one that was cut off.
        None => seen.is(Status::NotFound) && own_callback(buffer) != Some(seen.callback),
    };
    if missing {
        let what = buffer_name(buffer);
        let message = format!("the {what} cannot be read in {}", phase(seen));
        let hit = Hit::new("phase-invalid-read", what, message);
        hits.push(match own_callback(buffer) {
            Some(own) => hit.mend(format!(
                "read it in {own} (Rust: {}) and keep what you need in the context",
                rust(own)
            )),
            None => hit,
        });
    }
}

fn set(seen: &Seen<'_>, scene: &mut Scene<'_>, buffer: BufferType, hits: &mut Vec<Hit>) {
    let what = buffer_name(buffer);
    let (start, size, value) = (seen.number(1), seen.number(2), seen.number(4));
    if seen.is(Status::BadArgument) {
        hits.push(if is_own(seen, buffer) && start > 0 {
            let message = format!("{size} bytes at {start} of the {what} cannot be replaced");
            Hit::new("buffer-middle", what, message)
        } else {
            let message = format!("the {what} cannot be changed in {}", phase(seen));
            Hit::new("phase-invalid-write", what, message)
        });
        return;
    }
    let Some(half) = half_of(buffer).filter(|_| seen.is_ok()) else { return };
    let known = scene.running.body[half as usize];
    let same = start == 0 && known.is_some_and(|len| len == value && size >= len);
    let nothing = value == 0 && size == 0;
    if !same && !nothing && !scene.stream.length_removed[half as usize] {
        let message = format!("the {what} has another length now, its content-length was kept");
        let callback = match half {
            Half::Request => "proxy_on_request_headers",
            Half::Response => "proxy_on_response_headers",
        };
        let mend = format!("remove content-length in {callback} (Rust: {})", rust(callback));
        hits.push(Hit::new("content-length-kept", what, message).mend(mend));
    }
}

fn half_of(buffer: BufferType) -> Option<Half> {
    match buffer {
        BufferType::HttpRequestBody => Some(Half::Request),
        BufferType::HttpResponseBody => Some(Half::Response),
        _ => None,
    }
}

fn own_callback(buffer: BufferType) -> Option<&'static str> {
    match buffer {
        BufferType::HttpRequestBody => Some("proxy_on_request_body"),
        BufferType::HttpResponseBody => Some("proxy_on_response_body"),
        BufferType::HttpCallResponseBody => Some("proxy_on_http_call_response"),
        BufferType::PluginConfiguration => Some("proxy_on_configure"),
        _ => None,
    }
}

/// Trailers come while the body may still be held.
fn is_own(seen: &Seen<'_>, buffer: BufferType) -> bool {
    let trailers = match buffer {
        BufferType::HttpRequestBody => "proxy_on_request_trailers",
        _ => "proxy_on_response_trailers",
    };
    own_callback(buffer) == Some(seen.callback) || seen.callback == trailers
}
