//! Contexts: which one is effective, and the end of roots.

use crate::fault::Reply;
use crate::guest_memory::{Guest, give, put_u32, split};
use crate::thread_state::Deferred;
use crate::vm::{Context, RootState};
use host_sim_abi::Status;

/// `proxy_set_effective_context`: 0 goes back to the context that the callback is for.
pub(super) fn set_effective(guest: &mut Guest<'_>, context: u32) -> Reply {
    let state = guest.data_mut();
    if context != 0 && !state.contexts.contains_key(&context) {
        return Err(Status::BadArgument.into());
    }
    state.current = if context == 0 { state.entered } else { context };
    Ok(())
}

/// `proxy_done`: only for a root whose `on_done` said "not yet".
pub(super) fn done(guest: &mut Guest<'_>) -> Reply {
    let vm = guest.data().index;
    let state = guest.data_mut();
    let current = state.current;
    match state.contexts.get_mut(&current) {
        Some(Context::Root { state: root, .. }) if *root == RootState::PendingDone => {
            *root = RootState::Done;
            state.defer(Deferred::DeleteRoot { vm, root: current });
            Ok(())
        }
        _ => Err(Status::NotFound.into()),
    }
}

/// `proxy_get_status`: the code sticks to the VM, the text to the callback.
pub(super) fn status(guest: &mut Guest<'_>, code_out: u32, ptr: u32, len: u32) -> Reply {
    let (code, message) = guest.data().status.clone();
    let (memory, _) = split(guest)?;
    put_u32(memory, code_out, code)?;
    give(guest, message.as_bytes(), ptr, len)
}
