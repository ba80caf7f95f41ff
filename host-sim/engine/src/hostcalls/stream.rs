//! Resuming and closing streams. Both wait until the guest has returned.

use crate::fault::{Fault, Reply};
use crate::guest_memory::Guest;
use crate::stream::{BodyView, Way};
use crate::thread_state::Deferred;
use crate::vm::Callback;
use host_sim_abi::{Status, StreamType};

/// `proxy_continue_stream`: fine from a root too, where it does nothing.
pub(super) fn resume(guest: &mut Guest<'_>, stream_type: u32) -> Reply {
    let way = match StreamType::from_raw(stream_type).ok_or(Status::BadArgument)? {
        StreamType::HttpRequest => Way::Request,
        StreamType::HttpResponse => Way::Response,
        StreamType::Downstream => return Ok(()),
        StreamType::Upstream => return Err(Status::Unimplemented.into()),
    };
    let state = guest.data();
    let Some((stream, filter)) = state.current_stream() else { return Ok(()) };
    let shared = &mut *state.shared.borrow_mut();
    let Some(found) = shared.streams.get_mut(&stream) else { return Ok(()) };
    if way == Way::Response && found.response.headers.is_none() {
        return Err(Fault::trap(
            "proxy_continue_stream(response) before there is a response: Envoy aborts here",
        ));
    }
    // Envoy hides the request from the rest of the callback, whichever way was resumed.
    if let Some(side) = found.side(filter, Way::Request) {
        side.headers_visible = false;
        side.trailers_visible = false;
        side.body = BodyView::None;
    }
    shared.deferred.push(Deferred::Continue { stream, filter, way });
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

/// `proxy_close_stream`: a reset, no reply.
pub(super) fn close(guest: &mut Guest<'_>, stream_type: u32) -> Reply {
    StreamType::from_raw(stream_type).ok_or(Status::BadArgument)?;
    let state = guest.data();
    if state.callback == Callback::Log {
        return Err(Fault::trap("proxy_close_stream in on_log: Envoy aborts here"));
    }
    if let Some((stream, _)) = state.current_stream() {
        state.shared.borrow_mut().deferred.push(Deferred::Reset { stream });
    }
    Ok(())
}
