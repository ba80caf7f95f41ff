//! Ticks.

use crate::fault::Reply;
use crate::guest_memory::Guest;
use host_sim_abi::Status;

/// `proxy_set_tick_period_milliseconds`: for the root of the effective context; 0 stops.
pub(super) fn set_period(guest: &mut Guest<'_>, period_ms: u32) -> Reply {
    let state = guest.data();
    let root = state.root_id().ok_or(Status::BadArgument)?;
    state.shared.borrow_mut().set_tick(state.index, root, state.generation, period_ms);
    Ok(())
}
