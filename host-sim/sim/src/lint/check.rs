//! The checks, one family of hostcalls a file.

mod body;
mod calls;
mod end;
mod headers;
mod metrics;
mod property;
mod shared;
mod stream;

pub(super) use end::{ended, leftover, trapped};

use super::scene::{Hit, Scene, Seen};
use host_sim_abi::Status;

/// Whatever is wrong with one hostcall.
pub(super) fn hostcall(seen: &Seen<'_>, scene: &mut Scene<'_>) -> Vec<Hit> {
    if seen.is(Status::InvalidMemoryAccess) {
        let message = format!("{} was given a pointer that points outside", seen.call.name);
        return vec![Hit::new("bad-pointer", seen.call.name, message)];
    }
    if let Some(hit) = stream::abort(seen) {
        return vec![hit];
    }
    let name = seen.name();
    let mut hits = Vec::new();
    match name {
        "get_header_map_value"
        | "get_header_map_pairs"
        | "get_header_map_size"
        | "add_header_map_value"
        | "replace_header_map_value"
        | "remove_header_map_value"
        | "set_header_map_pairs" => headers::check(seen, scene, &mut hits),
        "get_buffer_bytes" | "get_buffer_status" | "set_buffer_bytes" => {
            body::check(seen, scene, &mut hits);
        }
        "get_property" | "set_property" => property::check(seen, scene, &mut hits),
        "continue_stream" | "close_stream" | "send_local_response" | "set_effective_context" => {
            stream::check(seen, scene, &mut hits);
        }
        "http_call" | "grpc_call" | "grpc_stream" => calls::check(seen, scene, &mut hits),
        "set_tick_period_milliseconds" => calls::tick(seen, &mut hits),
        "register_shared_queue"
        | "resolve_shared_queue"
        | "enqueue_shared_queue"
        | "dequeue_shared_queue" => calls::queue(seen, &mut hits),
        "call_foreign_function" => calls::foreign(seen, &mut hits),
        "get_shared_data" | "set_shared_data" => shared::check(seen, scene, &mut hits),
        "define_metric" | "increment_metric" | "record_metric" | "get_metric" => {
            metrics::check(seen, scene, &mut hits);
        }
        "log" => calls::log(seen, scene, &mut hits),
        _ => {}
    }
    stream::memory(seen, scene, &mut hits);
    hits
}
