//! Shared queues; semantics in `crate::queue`.

use crate::fault::Reply;
use crate::guest_memory::{Guest, give, put_u32, slice, split};
use bytes::Bytes;
use host_sim_abi::Status;

/// `proxy_register_shared_queue`: this root is the one that is woken from now on.
pub(super) fn register(guest: &mut Guest<'_>, name: u32, name_len: u32, out: u32) -> Reply {
    let root = guest.data().root_id().ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let name = slice(memory, name, name_len)?;
    let token = {
        let shared = state.shared.borrow();
        let listener = (state.index, state.generation, root);
        shared.engine.queues().register(state.plugin.vm_id(), name, &shared.inbox, listener)
    };
    Ok(put_u32(memory, out, token)?)
}

/// `proxy_resolve_shared_queue`: an empty `vm_id` is one's own.
pub(super) fn resolve(
    guest: &mut Guest<'_>,
    vm_id: u32,
    vm_id_len: u32,
    name: u32,
    name_len: u32,
    out: u32,
) -> Reply {
    let (memory, state) = split(guest)?;
    let vm_id = String::from_utf8_lossy(slice(memory, vm_id, vm_id_len)?);
    let vm_id = if vm_id.is_empty() { state.plugin.vm_id().into() } else { vm_id };
    let name = slice(memory, name, name_len)?;
    let token = state.shared.borrow().engine.queues().resolve(&vm_id, name);
    let token = token.ok_or(Status::NotFound)?;
    Ok(put_u32(memory, out, token)?)
}

/// `proxy_enqueue_shared_queue`.
pub(super) fn enqueue(guest: &mut Guest<'_>, token: u32, ptr: u32, len: u32) -> Reply {
    let (memory, state) = split(guest)?;
    let item = Bytes::copy_from_slice(slice(memory, ptr, len)?);
    let engine = state.shared.borrow().engine.clone();
    Ok(engine.queues().enqueue(token, item)?)
}

/// `proxy_dequeue_shared_queue`.
pub(super) fn dequeue(guest: &mut Guest<'_>, token: u32, ptr: u32, len: u32) -> Reply {
    let item = guest.data().shared.borrow().engine.queues().dequeue(token)?;
    give(guest, &item, ptr, len)
}
