//! gRPC calls and streams: not simulated, so every service is one that Envoy cannot reach.
//!
//! What a plugin sees is what Envoy shows for a cluster without endpoints: `InternalFailure` and,
//! later, a close with code 14 for an id it never got.

use crate::fault::Reply;
use crate::guest_memory::{Guest, slice, split};
use crate::protobuf::field;
use crate::thread_state::Deferred;
use host_sim_abi::Status;

/// The low bits of an id say what it names.
const CALL: u32 = 1;
const STREAM: u32 = 2;

/// `proxy_grpc_call`.
#[expect(clippy::too_many_arguments, reason = "the ABI's own signature")]
pub(super) fn call(
    guest: &mut Guest<'_>,
    service: u32,
    service_len: u32,
    name: u32,
    name_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    message: u32,
    message_len: u32,
    _timeout_ms: u32,
    _out: u32,
) -> Reply {
    let (memory, _) = split(guest)?;
    for (ptr, len) in
        [(name, name_len), (method, method_len), (metadata, metadata_len), (message, message_len)]
    {
        slice(memory, ptr, len)?;
    }
    unreachable_service(guest, service, service_len, false)
}

/// `proxy_grpc_stream`.
#[expect(clippy::too_many_arguments, reason = "the ABI's own signature")]
pub(super) fn stream(
    guest: &mut Guest<'_>,
    service: u32,
    service_len: u32,
    name: u32,
    name_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    _out: u32,
) -> Reply {
    let (memory, _) = split(guest)?;
    for (ptr, len) in [(name, name_len), (method, method_len), (metadata, metadata_len)] {
        slice(memory, ptr, len)?;
    }
    unreachable_service(guest, service, service_len, true)
}

/// `proxy_grpc_send`.
pub(super) fn send(guest: &mut Guest<'_>, id: u32, ptr: u32, len: u32, _end: u32) -> Reply {
    let (memory, _) = split(guest)?;
    slice(memory, ptr, len)?;
    Err(if id & 3 == STREAM { Status::NotFound } else { Status::BadArgument }.into())
}

/// `proxy_grpc_cancel`.
pub(super) fn cancel(_guest: &mut Guest<'_>, id: u32) -> Reply {
    Err(if matches!(id & 3, CALL | STREAM) { Status::NotFound } else { Status::BadArgument }.into())
}

/// `proxy_grpc_close`.
pub(super) fn close(guest: &mut Guest<'_>, id: u32) -> Reply {
    cancel(guest, id)
}

fn unreachable_service(guest: &mut Guest<'_>, ptr: u32, len: u32, stream: bool) -> Reply {
    let root = guest.data().root_id().ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let service = slice(memory, ptr, len)?;
    // GrpcService.envoy_grpc = 1, EnvoyGrpc.cluster_name = 1.
    let named = field(service, 1).and_then(|envoy_grpc| field(envoy_grpc, 1));
    let known = std::str::from_utf8(service)
        .is_ok_and(|name| state.shared.borrow().engine.cluster(name).is_some());
    if named.is_none() && !known {
        return Err(Status::ParseFailure.into());
    }
    let last = if stream { &mut state.last_grpc_stream } else { &mut state.last_grpc_call };
    *last = last.wrapping_add(4);
    let closed = Deferred::GrpcClosed { vm: state.index, root, id: *last, stream };
    state.shared.borrow_mut().deferred.push(closed);
    Err(Status::InternalFailure.into())
}
