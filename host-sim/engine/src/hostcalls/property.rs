//! Attributes and filter state.

use crate::attributes;
use crate::bare;
use crate::fault::Reply;
use crate::guest_memory::{Guest, give, slice, split};
use bytes::Bytes;
use host_sim_abi::Status;

/// `proxy_get_property`.
pub(super) fn get(guest: &mut Guest<'_>, path: u32, path_len: u32, ptr: u32, len: u32) -> Reply {
    let (memory, state) = split(guest)?;
    let path = slice(memory, path, path_len)?;
    if let Some(found) = bare::property(state, path) {
        return give(guest, &found?, ptr, len);
    }
    let mut value = std::mem::take(&mut state.scratch);
    value.clear();
    let reply = attributes::read(state, path, &mut value);
    let reply = reply.map_err(Into::into).and_then(|()| give(guest, &value, ptr, len));
    guest.data_mut().scratch = value;
    reply
}

/// `proxy_set_property`: filter state `wasm.<path>`, on streams only.
pub(super) fn set(guest: &mut Guest<'_>, path: u32, path_len: u32, ptr: u32, len: u32) -> Reply {
    let (memory, state) = split(guest)?;
    let (stream, _) = state.current_stream().ok_or(Status::NotFound)?;
    let path = slice(memory, path, path_len)?;
    let value = Bytes::copy_from_slice(slice(memory, ptr, len)?);
    let prototype = state.declared_property(path);
    let mut shared = state.shared.borrow_mut();
    let written = shared.set_property(stream, &attributes::wasm_key(path), value, &prototype);
    if written { Ok(()) } else { Err(Status::BadArgument.into()) }
}
