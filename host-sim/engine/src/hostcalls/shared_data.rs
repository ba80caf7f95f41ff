//! Shared data; semantics in `crate::SharedData`.

use crate::fault::Reply;
use crate::guest_memory::{Guest, give, put_u32, slice, split};
use bytes::Bytes;
use host_sim_abi::Status;

/// `proxy_get_shared_data`. An empty value is a null pointer with a CAS number.
pub(super) fn get(
    guest: &mut Guest<'_>,
    key: u32,
    key_len: u32,
    ptr: u32,
    len: u32,
    cas_out: u32,
) -> Reply {
    let (memory, state) = split(guest)?;
    let key = slice(memory, key, key_len)?;
    let found = {
        let shared = state.shared.borrow();
        shared.engine.shared_data().get(state.plugin.vm_id(), key)
    };
    let (value, cas) = found.ok_or(Status::NotFound)?;
    give(guest, &value, ptr, len)?;
    let (memory, _) = split(guest)?;
    Ok(put_u32(memory, cas_out, cas)?)
}

/// `proxy_set_shared_data`.
pub(super) fn set(
    guest: &mut Guest<'_>,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
    cas: u32,
) -> Reply {
    let (memory, state) = split(guest)?;
    let key = slice(memory, key, key_len)?;
    let value = Bytes::copy_from_slice(slice(memory, value, value_len)?);
    let shared = state.shared.borrow();
    Ok(shared.engine.shared_data().set(state.plugin.vm_id(), key, value, cas)?)
}
