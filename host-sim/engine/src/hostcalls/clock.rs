//! Time.

use crate::fault::Reply;
use crate::guest_memory::{Guest, put, split};

/// `proxy_get_current_time_nanoseconds`: the engine's clock.
pub(super) fn now(guest: &mut Guest<'_>, out: u32) -> Reply {
    let now = guest.data().shared.borrow().wall();
    let (memory, _) = split(guest)?;
    Ok(put(memory, out, &now.0.to_le_bytes())?)
}
