//! HTTP calls of plugins.
//!
//! Envoy starts a call within the hostcall: the upstream filters of the called cluster run at once.
//! If one of them lives in the VM that makes the call, Envoy enters that VM a second time, context
//! creation and request headers, while the first callback still runs. A guest that keeps its state
//! in a `RefCell`, as every plugin on the Rust SDK does, panics there ("already borrowed"); one
//! written against the bare ABI survives.
//!
//! Here calls start when their guest has returned, and a call that would enter its own VM is a trap
//! that says so. wasmtime would allow the entry, a hostcall may call exports; but while a guest
//! runs, the worker has lent its VM out, and filters, timers and deferred actions are the worker's:
//! to enter from below, all of it would have to be reachable from inside of every hostcall. That is
//! not worth being exact for the guests that survive, when what it is for is to find the ones that
//! do not. The trap is also the better report: it names the cluster and the mend.

use crate::Headers;
use crate::fault::{Fault, Reply};
use crate::guest_memory::{Guest, put_u32, slice, split};
use crate::http_call::{CallRequest, begin};
use crate::inline_headers::request_headers;
use crate::thread_state::Deferred;
use bytes::Bytes;
use host_sim_abi::{Status, pairs};
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
    state.last_http_call = state.last_http_call.wrapping_add(4);
    let mut shared = state.shared.borrow_mut();
    if shared.upstream_vms.get(cluster.index()).is_some_and(|vms| vms.contains(&state.index)) {
        return Err(reentry(cluster.name()));
    }
    let request = CallRequest {
        vm: state.index,
        generation: state.generation,
        root,
        token: state.last_http_call,
        headers,
        body,
        timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
    };
    let Some(call) = begin(&mut shared, cluster, request) else {
        return Err(Status::InternalFailure.into());
    };
    shared.deferred.push(Deferred::StartCall { call });
    Ok(put_u32(memory, out, state.last_http_call)?)
}

/// Envoy would enter the VM a second time from within the call, and the guest would break.
pub(super) fn reentry(cluster: &str) -> Fault {
    Fault::trap(format!(
        "proxy_http_call to cluster {cluster}, whose upstream filters run in this very VM: the \
         call would enter a VM that is already running. Give the upstream plugin another \
         vm_config.configuration"
    ))
}

fn header_map(bytes: &[u8]) -> Headers {
    request_headers(pairs::decode(bytes).unwrap_or_default())
}
