//! Logging.

use crate::LogLevel;
use crate::fault::Reply;
use crate::guest_memory::{Guest, put_u32, slice, split};
use crate::vm::VmState;
use host_sim_abi::Status;

/// `proxy_log`.
pub(super) fn write(guest: &mut Guest<'_>, level: u32, ptr: u32, len: u32) -> Reply {
    let level = LogLevel::from_raw(level).ok_or(Status::BadArgument)?;
    let (memory, state) = split(guest)?;
    let text = slice(memory, ptr, len)?;
    emit(state, level, text);
    Ok(())
}

/// `proxy_get_log_level`.
pub(super) fn level(guest: &mut Guest<'_>, out: u32) -> Reply {
    let level = guest.data().shared.borrow().engine.options().log.level();
    let (memory, _) = split(guest)?;
    Ok(put_u32(memory, out, level.raw())?)
}

/// A line of the guest, from `proxy_log` or `fd_write`.
pub(super) fn emit(state: &mut VmState, level: LogLevel, text: &[u8]) {
    let wanted = state.shared.borrow().logs(level);
    if !wanted && level < LogLevel::Warn {
        return;
    }
    let text = String::from_utf8_lossy(text);
    if level >= LogLevel::Warn {
        state.remember(&text);
    }
    if wanted {
        let plugin = state.current_plugin().unwrap_or(&state.plugin);
        let prefix = match state.current_stream() {
            Some(_) => &plugin.stream_prefix,
            None => &plugin.root_prefix,
        };
        let line = format!("{prefix}{text}");
        state.shared.borrow().log(level, Some(plugin.name()), &line);
    }
}
