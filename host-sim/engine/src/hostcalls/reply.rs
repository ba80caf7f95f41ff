//! Local replies.

use crate::fault::{Fault, Reply};
use crate::guest_memory::{Guest, slice, split};
use crate::stream::LocalReply;
use crate::thread_state::Deferred;
use crate::vm::Callback;
use bytes::Bytes;
use host_sim_abi::pairs;

/// `proxy_send_local_response`: always `Ok`; the first reply wins, a root context has no effect.
#[expect(clippy::too_many_arguments, reason = "the ABI's own signature")]
pub(super) fn send(
    guest: &mut Guest<'_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc_status: i32,
) -> Reply {
    if guest.data().is_connection() {
        return Ok(());
    }
    if guest.data().callback == Callback::Log {
        return Err(Fault::trap(
            "proxy_send_local_response in on_log, on_done or on_delete: Envoy aborts here",
        ));
    }
    let (memory, state) = split(guest)?;
    let details = String::from_utf8_lossy(slice(memory, details, details_len)?);
    let body = Bytes::copy_from_slice(slice(memory, body, body_len)?);
    let added = pairs::decode(slice(memory, headers, headers_len)?).unwrap_or_default();
    let Some((stream, _)) = state.current_stream() else { return Ok(()) };
    let added = added.into_iter().map(|(name, value)| {
        (Bytes::from(name.to_ascii_lowercase()), Bytes::copy_from_slice(value))
    });
    let reply = LocalReply {
        status: u16::try_from(status).unwrap_or(u16::MAX),
        body,
        headers: added.collect(),
        grpc_status: u32::try_from(grpc_status).ok().filter(|code| *code <= 16),
        details: details.replace(|c: char| c.is_ascii_whitespace(), "_"),
    };
    state.stop_iteration = true;
    state.defer(Deferred::Reply { stream, reply });
    Ok(())
}
