//! HTTP calls of plugins.
//!
//! Envoy starts a call within the hostcall: upstream filters of the called cluster see its headers
//! at once. So do they here, see `reentry.rs`. Without such filters nobody can tell, and calls start
//! when their guest has returned.

use crate::Headers;
use crate::cluster::Cluster;
use crate::fault::Reply;
use crate::guest_memory::{Guest, put_u32, slice, split};
use crate::http_call::{CallRequest, begin};
use crate::inline_headers::request_headers;
use crate::reentry::{Entering, endless, entering, impossible, take_turn};
use crate::thread_state::Deferred;
use bytes::Bytes;
use host_sim_abi::{Status, pairs};
use std::sync::Arc;
use std::time::Duration;

/// `proxy_http_call`. The endpoint is chosen here and now, so that a cluster without one answers
/// at once; the request itself starts when the guest has returned.
#[expect(clippy::too_many_arguments, reason = "the ABI's own signature")]
pub(super) fn dispatch(
    guest: &mut Guest<'_>,
    cluster: u32,
    cluster_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout_ms: i32,
    out: u32,
) -> Reply {
    let (memory, state) = split(guest)?;
    let cluster = String::from_utf8(slice(memory, cluster, cluster_len)?.to_vec());
    let headers = header_map(slice(memory, headers, headers_len)?);
    let body = Bytes::copy_from_slice(slice(memory, body, body_len)?);
    // Envoy's client of calls takes trailers, and does not send them.
    slice(memory, trailers, trailers_len)?;
    // Refused or not, the id is written; that of what is refused is 0.
    put_u32(memory, out, 0)?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| Status::BadArgument)?;
    let cluster = cluster.map_err(|_| Status::BadArgument)?;
    let engine = state.shared.borrow().engine.clone();
    let cluster = engine.cluster(&cluster).ok_or(Status::BadArgument)?;
    if [":method", ":path", ":authority"].iter().any(|name| !headers.contains(name)) {
        return Err(Status::BadArgument.into());
    }
    let root = state.root_id().ok_or(Status::BadArgument)?;
    let entering = entering(state, cluster.index());
    if let Entering::Impossible = entering {
        return Err(impossible(cluster.name()));
    }
    state.last_http_call = state.last_http_call.wrapping_add(4);
    let token = state.last_http_call;
    let request = CallRequest {
        vm: state.index,
        generation: state.generation,
        root,
        token,
        headers,
        body,
        timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
    };
    let call = begin(&mut state.shared.borrow_mut(), cluster, request);
    let Some(call) = call else { return Err(Status::InternalFailure.into()) };
    match entering {
        Entering::Now => start_now(guest, cluster, call)?,
        _ => state.defer(Deferred::StartCall { call }),
    }
    let (memory, _) = split(guest)?;
    Ok(put_u32(memory, out, token)?)
}

/// Upstream filters run. A call that is over by then was never made, as far as the guest is told.
fn start_now(guest: &mut Guest<'_>, cluster: &Arc<Cluster>, call: u64) -> Reply {
    let left = take_turn(guest, cluster, |turn| turn.start_call(call));
    let goes_on = guest.data().shared.borrow().calls.contains_key(&call);
    match (goes_on, left.reentered) {
        (true, _) => Ok(()),
        (false, true) => Err(endless(cluster.name())),
        (false, false) => Err(Status::InternalFailure.into()),
    }
}

fn header_map(bytes: &[u8]) -> Headers {
    request_headers(pairs::decode(bytes).unwrap_or_default())
}
