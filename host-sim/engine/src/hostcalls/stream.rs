//! Resuming and closing streams. Both wait until the guest has returned.

use crate::fault::{Fault, Reply};
use crate::guest_memory::Guest;
use crate::stream::{BodyView, Way};
use crate::thread_state::Deferred;
use crate::vm::Callback;
use host_sim_abi::{Status, StreamType};

/// `proxy_continue_stream`: fine from a root too, where it does nothing. The two HTTP types do
/// nothing to a connection, nor does `Downstream` to an HTTP stream.
pub(super) fn resume(guest: &mut Guest<'_>, stream_type: u32) -> Reply {
    let stream_type = StreamType::from_raw(stream_type).ok_or(Status::BadArgument)?;
    let (way, downstream) = match stream_type {
        StreamType::HttpRequest => (Way::Request, false),
        StreamType::HttpResponse => (Way::Response, false),
        StreamType::Downstream => (Way::Request, true),
        StreamType::Upstream => return Err(Status::Unimplemented.into()),
    };
    let state = guest.data();
    let Some((stream, filter)) = state.current_stream() else { return Ok(()) };
    let shared = &mut *state.shared.borrow_mut();
    let Some(found) = shared.streams.get_mut(&stream) else { return Ok(()) };
    if found.connection().is_some() != downstream {
        return Ok(());
    }
    if way == Way::Response && found.response.headers.is_none() {
        return Err(Fault::trap(
            "proxy_continue_stream(response) before there is a response: Envoy aborts here",
        ));
    }
    // Envoy hides the request from the rest of the callback, whichever way was resumed.
    if !downstream && let Some(side) = found.side(filter, Way::Request) {
        side.headers_visible = false;
        side.trailers_visible = false;
        side.body = BodyView::None;
    }
    shared.defer(state.index, Deferred::Continue { stream, filter, way });
    Ok(())
}

/// `proxy_continue_request` of 0.1.0.
pub(super) fn resume_request(guest: &mut Guest<'_>) -> Reply {
    resume(guest, StreamType::HttpRequest.raw())
}

/// `proxy_continue_response` of 0.1.0.
pub(super) fn resume_response(guest: &mut Guest<'_>) -> Reply {
    resume(guest, StreamType::HttpResponse.raw())
}

/// `proxy_close_stream`: a reset, no reply; of a connection, a close behind what was written.
pub(super) fn close(guest: &mut Guest<'_>, stream_type: u32) -> Reply {
    let stream_type = StreamType::from_raw(stream_type).ok_or(Status::BadArgument)?;
    let of_connection = matches!(stream_type, StreamType::Downstream | StreamType::Upstream);
    let state = guest.data();
    let connection = state.is_connection();
    if state.callback == Callback::Log && !connection {
        return Err(Fault::trap("proxy_close_stream in on_log: Envoy aborts here"));
    }
    if connection == of_connection
        && let Some((stream, _)) = state.current_stream()
    {
        state.defer(Deferred::Reset { stream });
    }
    Ok(())
}
