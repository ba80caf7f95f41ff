//! Byte buffers: bodies and configurations.

use crate::buffer::Buffer;
use crate::fault::{Fault, Reply};
use crate::guest_memory::{Guest, give, put_u32, slice, split};
use crate::stream::{BodyView, Way};
use crate::vm::VmState;
use bytes::Bytes;
use host_sim_abi::{BufferType, Status};

/// `proxy_get_buffer_bytes`: out of range is no bytes, not an error.
pub(super) fn bytes(
    guest: &mut Guest<'_>,
    buffer: u32,
    start: u32,
    max: u32,
    ptr: u32,
    len: u32,
) -> Reply {
    let buffer = BufferType::from_raw(buffer).ok_or(Status::BadArgument)?;
    let bytes = read(guest.data_mut(), buffer, start as usize, max as usize)?;
    give(guest, &bytes, ptr, len)
}

/// `proxy_get_buffer_status`: the flags are always 0.
pub(super) fn status(guest: &mut Guest<'_>, buffer: u32, len: u32, flags: u32) -> Reply {
    let buffer = BufferType::from_raw(buffer).ok_or(Status::BadArgument)?;
    let length = match body_way(buffer) {
        Some(_) => with_body(guest.data_mut(), buffer, |body| body.len()).unwrap_or(0),
        None => read(guest.data_mut(), buffer, 0, usize::MAX)?.len(),
    };
    let (memory, _) = split(guest)?;
    put_u32(memory, len, u32::try_from(length).unwrap_or(u32::MAX))?;
    Ok(put_u32(memory, flags, 0)?)
}

/// `proxy_set_buffer_bytes`: replaces a prefix, or appends; nothing else.
pub(super) fn set(
    guest: &mut Guest<'_>,
    buffer: u32,
    start: u32,
    size: u32,
    ptr: u32,
    len: u32,
) -> Reply {
    let buffer = BufferType::from_raw(buffer).ok_or(Status::BadArgument)?;
    if buffer == BufferType::CallData {
        return Err(Fault::trap("proxy_set_buffer_bytes on buffer 8: Envoy aborts here"));
    }
    let (memory, state) = split(guest)?;
    let value = Bytes::copy_from_slice(slice(memory, ptr, len)?);
    let write = |body: &mut Buffer| {
        if start == 0 {
            body.drain(size as usize);
            body.prepend(value.clone());
        } else if start as usize >= body.len() {
            body.push(value.clone());
        } else {
            return false;
        }
        true
    };
    let done = match body_way(buffer) {
        Some(_) => with_body(state, buffer, write),
        // Nobody reads it after the guest, but the guest.
        None if buffer == BufferType::GrpcCallMessage => {
            let message = state.shown_grpc_mut().and_then(|grpc| grpc.message.as_mut());
            message.map(|message| {
                let mut body = Buffer::from(message.clone());
                let written = write(&mut body);
                *message = body.read(0, usize::MAX);
                written
            })
        }
        None => {
            // What is not there is not found; what is there cannot be written.
            read(state, buffer, 0, 0)?;
            None
        }
    };
    if done == Some(true) { Ok(()) } else { Err(Status::BadArgument.into()) }
}

/// `proxy_get_configuration` of 0.1.0: the plugin's where that can be read, else the VM's.
pub(super) fn configuration(guest: &mut Guest<'_>, ptr: u32, len: u32) -> Reply {
    let buffer = if guest.data().shows_configuration() {
        BufferType::PluginConfiguration
    } else {
        BufferType::VmConfiguration
    };
    let bytes = read(guest.data_mut(), buffer, 0, usize::MAX)?;
    give(guest, &bytes, ptr, len)
}

fn read(
    state: &mut VmState,
    buffer: BufferType,
    start: usize,
    max: usize,
) -> Result<Bytes, Status> {
    let whole = match buffer {
        BufferType::HttpRequestBody
        | BufferType::HttpResponseBody
        | BufferType::DownstreamData
        | BufferType::UpstreamData => {
            let read = with_body(state, buffer, |body| body.read(start, max));
            return Ok(read.unwrap_or_default());
        }
        BufferType::GrpcCallMessage => {
            let message = state.shown_grpc().and_then(|grpc| grpc.message.clone());
            return Ok(Buffer::from(message.unwrap_or_default()).read(start, max));
        }
        BufferType::HttpCallResponseBody => {
            let response = state.call_response.as_ref().ok_or(Status::NotFound)?;
            if response.headers.is_none() {
                return Err(Status::NotFound);
            }
            return Ok(response.body.read(start, max));
        }
        BufferType::VmConfiguration => {
            Bytes::copy_from_slice(&state.plugin.config.vm.configuration.bytes)
        }
        BufferType::PluginConfiguration if state.shows_configuration() => {
            let plugin = state.current_plugin().ok_or(Status::NotFound)?;
            Bytes::copy_from_slice(&plugin.config.configuration.bytes)
        }
        BufferType::PluginConfiguration => return Err(Status::NotFound),
        BufferType::CallData => state.last_buffer.clone(),
    };
    state.last_buffer = whole.clone();
    Ok(Buffer::from(whole).read(start, max))
}

/// The way a body goes, and whether it is a connection's.
fn body_way(buffer: BufferType) -> Option<(Way, bool)> {
    match buffer {
        BufferType::HttpRequestBody => Some((Way::Request, false)),
        BufferType::HttpResponseBody => Some((Way::Response, false)),
        BufferType::DownstreamData => Some((Way::Request, true)),
        BufferType::UpstreamData => Some((Way::Response, true)),
        _ => None,
    }
}

/// The body the effective context may touch now.
fn with_body<R>(
    state: &mut VmState,
    buffer: BufferType,
    run: impl FnOnce(&mut Buffer) -> R,
) -> Option<R> {
    let (way, of_connection) = body_way(buffer)?;
    let (stream, filter) = state.current_stream()?;
    let mut shared = state.shared.borrow_mut();
    let stream = shared.streams.get_mut(&stream)?;
    if stream.connection().is_some() != of_connection {
        return None;
    }
    match stream.side(filter, way)?.body {
        BodyView::None => None,
        BodyView::InFlight => Some(run(&mut stream.half(way).in_flight)),
        BodyView::Buffered => Some(run(stream.half(way).buffered.get_or_insert_default())),
    }
}
