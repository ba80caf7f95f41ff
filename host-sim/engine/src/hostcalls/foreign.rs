//! Foreign functions: those that steer routing and filter state.

use crate::fault::Reply;
use crate::guest_memory::{Guest, give, slice, split};
use crate::protobuf::Message;
use crate::vm::VmState;
use bytes::Bytes;
use host_sim_abi::Status;

/// `proxy_call_foreign_function`.
pub(super) fn call(
    guest: &mut Guest<'_>,
    name: u32,
    name_len: u32,
    args: u32,
    args_len: u32,
    ptr: u32,
    len: u32,
) -> Reply {
    let (memory, state) = split(guest)?;
    let name = slice(memory, name, name_len)?;
    let args = slice(memory, args, args_len)?;
    match name {
        b"clear_route_cache" => clear_route(state),
        b"set_envoy_filter_state" => set_filter_state(state, args)?,
        // Every property is a string here, so there is nothing to declare.
        b"declare_property" => {}
        _ => return Err(Status::NotFound.into()),
    }
    give(guest, b"", ptr, len)
}

/// `proxy_clear_route_cache` of 0.1.0.
pub(super) fn clear_route_cache(guest: &mut Guest<'_>) {
    clear_route(guest.data_mut());
}

fn clear_route(state: &mut VmState) {
    if let Some((stream, _)) = state.current_stream()
        && let Some(stream) = state.shared.borrow_mut().streams.get_mut(&stream)
    {
        stream.clear_route_cache();
    }
}

/// `SetEnvoyFilterStateArguments { string path = 1; string value = 2; LifeSpan span = 3; }`.
fn set_filter_state(state: &mut VmState, args: &[u8]) -> Result<(), Status> {
    let args = Message::parse(args).ok_or(Status::BadArgument)?;
    let path = args.bytes(1).ok_or(Status::BadArgument)?;
    let value = args.bytes(2).unwrap_or_default();
    let (stream, _) = state.current_stream().ok_or(Status::BadArgument)?;
    let mut shared = state.shared.borrow_mut();
    let stream = shared.streams.get_mut(&stream).ok_or(Status::BadArgument)?;
    stream.set_filter_state(path, Bytes::copy_from_slice(value));
    Ok(())
}
