//! gRPC calls and streams of plugins.
//!
//! A call that cannot begin answers `InternalFailure` and, against the specification, closes an id
//! that the guest never got. For a stream whose cluster has no endpoint Envoy even calls the guest
//! back from within the hostcall; so do we.

use super::reenter;
use crate::Headers;
use crate::fault::{Fault, Reply};
use crate::grpc::{GrpcId, GrpcRequest, GrpcView, Kind, Parsed, Refused, Service, begin, parse};
use crate::guest_memory::{Guest, put_u32, slice, split};
use crate::reentry::{Entering, endless, entering, impossible, take_turn};
use crate::thread_state::Deferred;
use crate::vm::VmState;
use bytes::Bytes;
use host_sim_abi::{Status, pairs};
use std::time::Duration;

/// The low bits of an id say what it names.
const CALL: u32 = 1;
const STREAM: u32 = 2;

/// A pointer and a length.
type Span = (u32, u32);

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
    timeout_ms: u32,
    out: u32,
) -> Reply {
    let asked = Asked {
        service: (service, service_len),
        name: (name, name_len),
        method: (method, method_len),
        metadata: (metadata, metadata_len),
        message: Some((message, message_len)),
        timeout: Some(Duration::from_millis(timeout_ms.into())),
        out,
    };
    open(guest, &asked)
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
    out: u32,
) -> Reply {
    let asked = Asked {
        service: (service, service_len),
        name: (name, name_len),
        method: (method, method_len),
        metadata: (metadata, metadata_len),
        message: None,
        timeout: None,
        out,
    };
    open(guest, &asked)
}

/// `proxy_grpc_send`: of streams only; what comes after the end goes nowhere.
pub(super) fn send(guest: &mut Guest<'_>, id: u32, ptr: u32, len: u32, end: u32) -> Reply {
    let (memory, state) = split(guest)?;
    let message = slice(memory, ptr, len)?;
    if id & 3 != STREAM {
        return Err(Status::BadArgument.into());
    }
    let root = state.root_id().ok_or(Status::NotFound)?;
    let call = named(state, id);
    if !state.shared.borrow_mut().grpc_say(call, root, message, end != 0) {
        return Err(Status::NotFound.into());
    }
    flush(guest, call).map(|_| ())
}

/// `proxy_grpc_cancel`: resets, and nothing more is heard of it.
pub(super) fn cancel(guest: &mut Guest<'_>, id: u32) -> Reply {
    if !matches!(id & 3, CALL | STREAM) {
        return Err(Status::BadArgument.into());
    }
    let state = guest.data();
    let root = state.root_id().ok_or(Status::NotFound)?;
    let mut shared = state.shared.borrow_mut();
    let attempt = shared.grpc_forget(named(state, id), root).ok_or(Status::NotFound)?;
    shared.defer(state.index, Deferred::CancelAttempt { attempt });
    Ok(())
}

/// `proxy_grpc_close`: cancels a call, ends the guest's side of a stream.
pub(super) fn close(guest: &mut Guest<'_>, id: u32) -> Reply {
    if id & 3 != STREAM {
        return cancel(guest, id);
    }
    let state = guest.data();
    let root = state.root_id().ok_or(Status::NotFound)?;
    let call = named(state, id);
    if !state.shared.borrow_mut().grpc_half_close(call, root) {
        return Err(Status::NotFound.into());
    }
    flush(guest, call).map(|_| ())
}

/// What the guest has said leaves: now if upstream filters see it, else when it has returned. True
/// if the call is over by then; the guest hears of that when it has returned.
fn flush(guest: &mut Guest<'_>, call: GrpcId) -> Result<bool, Fault> {
    let state = guest.data();
    let cluster = state.shared.borrow().grpc_cluster(call);
    let Some(cluster) = cluster else { return Ok(false) };
    match entering(state, cluster.index()) {
        Entering::Impossible => return Err(impossible(cluster.name())),
        Entering::Nobody => state.defer(Deferred::FlushGrpc { call }),
        Entering::Now => {
            let left = take_turn(guest, &cluster, |turn| turn.flush_grpc(call));
            let state = guest.data();
            let over = left.late.iter().any(|(vm, _)| *vm == state.index);
            if over && left.reentered {
                return Err(endless(cluster.name()));
            }
            left.late.into_iter().for_each(|(vm, told)| state.shared.borrow_mut().defer(vm, told));
            return Ok(over);
        }
    }
    Ok(false)
}

/// Arguments of both ways to open a call.
struct Asked {
    service: Span,
    name: Span,
    method: Span,
    metadata: Span,
    /// A call's.
    message: Option<Span>,
    timeout: Option<Duration>,
    out: u32,
}

fn open(guest: &mut Guest<'_>, asked: &Asked) -> Reply {
    let (memory, state) = split(guest)?;
    let bytes = |(ptr, len): Span| slice(memory, ptr, len);
    let text = |span| bytes(span).map(String::from_utf8_lossy);
    let path = format!("/{}/{}", text(asked.name)?, text(asked.method)?);
    let metadata = Headers::from_pairs(pairs::decode(bytes(asked.metadata)?).unwrap_or_default());
    let message = asked.message.map(bytes).transpose()?.map(Bytes::copy_from_slice);
    let service = bytes(asked.service)?.to_vec();
    let root = state.root_id().ok_or(Status::BadArgument)?;
    let service = service_of(state, &service)?;
    put_u32(memory, asked.out, 0)?;
    let (kind, token) = match message {
        Some(_) => (Kind::Call, &mut state.last_grpc_call),
        None => (Kind::Stream, &mut state.last_grpc_stream),
    };
    *token = token.wrapping_add(4);
    let token = *token;
    let call = named(state, token);
    let engine = state.shared.borrow().engine.clone();
    let Some(cluster) = engine.cluster(&service.cluster) else {
        close_later(state, call, root, 14, "Cluster not available".to_owned());
        return Err(Status::InternalFailure.into());
    };
    if let Entering::Impossible = entering(state, cluster.index()) {
        return Err(impossible(cluster.name()));
    }
    let timeout = asked.timeout;
    let request = GrpcRequest { id: call, root, kind, service, path, metadata, message, timeout };
    let begun = begin(&mut state.shared.borrow_mut(), cluster, request);
    match begun {
        Ok(()) => {
            if flush(guest, call)? {
                return Err(Status::InternalFailure.into());
            }
            let (memory, _) = split(guest)?;
            Ok(put_u32(memory, asked.out, token)?)
        }
        Err(refused) => refuse(guest, call, root, kind, refused),
    }
}

/// The service that the bytes mean.
fn service_of(state: &VmState, bytes: &[u8]) -> Result<Service, Fault> {
    match parse(bytes) {
        Parsed::Service(service) => Ok(service),
        Parsed::NoTarget => Err(Fault::trap(
            "the gRPC service is a protobuf message without a target (a cluster's name can be one \
             by accident): Envoy aborts here. Pass a GrpcService with envoy_grpc.cluster_name",
        )),
        Parsed::Google => Err(Fault::trap(
            "GrpcService.google_grpc is not simulated: pass envoy_grpc.cluster_name",
        )),
        Parsed::Name => {
            let name = std::str::from_utf8(bytes).map_err(|_| Status::ParseFailure)?;
            let known = state.shared.borrow().engine.cluster(name).is_some();
            let service = Service { cluster: name.to_owned(), ..Service::default() };
            if known { Ok(service) } else { Err(Status::ParseFailure.into()) }
        }
    }
}

/// A call whose response is made before it has begun.
fn refuse(guest: &mut Guest<'_>, call: GrpcId, root: u32, kind: Kind, refused: Refused) -> Reply {
    if kind == Kind::Stream {
        let view = GrpcView { root, initial: Some(Headers::new()), ..GrpcView::default() };
        let name = "proxy_on_grpc_receive_initial_metadata";
        reenter(guest, root, view, name, |guest, exports| {
            exports.grpc_initial_metadata.as_ref().map(|f| f.call(guest, (root, call.token, 0)))
        })?;
        let count = refused.trailers.len() as u32;
        let view = GrpcView { root, trailing: Some(refused.trailers), ..GrpcView::default() };
        let name = "proxy_on_grpc_receive_trailing_metadata";
        reenter(guest, root, view, name, |guest, exports| {
            exports
                .grpc_trailing_metadata
                .as_ref()
                .map(|f| f.call(guest, (root, call.token, count)))
        })?;
    }
    close_later(guest.data(), call, root, refused.code, refused.message);
    Err(Status::InternalFailure.into())
}

fn close_later(state: &VmState, call: GrpcId, root: u32, code: u32, message: String) {
    state.defer(Deferred::GrpcClosed { call, root, code, message });
}

fn named(state: &VmState, token: u32) -> GrpcId {
    GrpcId { vm: state.index, generation: state.generation, token }
}
