//! What a plugin may use up before its VM is stopped.
//!
//! Envoy limits a VM's memory and nothing else: a callback that never returns blocks its worker for
//! good. [`Limits::default`] is that, so that a live proxy does what Envoy does.
//! [`Limits::simulator`] keeps a test from hanging: it is counted, not timed, so that a plugin that
//! is stopped on one machine is stopped at the same instruction on every other.
//!
//! A plugin that passes a limit traps, its VM fails, and its failure policy says what requests get;
//! the log line names plugin, callback and limit. Memory is different: there `memory.grow` answers
//! -1, as in V8, and the plugin may yet cope; if it traps afterwards, the line says so.

use host_sim_abi::Hostcall;
use std::fmt;
use std::time::Duration;
use wasmtime::ResourceLimiter;

/// Limits of each VM, by callback except for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of a VM. Default 1 GiB, as in Envoy.
    pub memory: usize,
    /// Instructions a callback may execute. The code counts then, which costs about a tenth of its
    /// speed.
    pub fuel: Option<u64>,
    /// Time a callback may take, to about 10 ms. Depends on the machine: for live proxies.
    pub deadline: Option<Duration>,
    /// Hostcalls a callback may make.
    pub hostcalls: Option<u64>,
    /// Bytes that a callback may hand to the host: values, bodies, log lines, header maps.
    pub hostcall_bytes: Option<u64>,
}

/// A limit that a callback has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Fuel(u64),
    Deadline(Duration),
    Hostcalls(u64),
    HostcallBytes(u64),
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30, fuel: None, deadline: None, hostcalls: None, hostcall_bytes: None }
    }
}

impl Limits {
    /// A thousand times more than a sound callback needs, and over within seconds.
    #[must_use]
    pub fn simulator() -> Self {
        Self {
            fuel: Some(2_000_000_000),
            hostcalls: Some(1_000_000),
            hostcall_bytes: Some(256 << 20),
            ..Self::default()
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fuel(most) => {
                write!(f, "the limit of {most} instructions a callback (limits.fuel) is used up")
            }
            Self::Deadline(most) => {
                write!(f, "the limit of {most:?} a callback (limits.deadline) has passed")
            }
            Self::Hostcalls(most) => {
                write!(f, "the limit of {most} hostcalls a callback (limits.hostcalls) is used up")
            }
            Self::HostcallBytes(most) => write!(
                f,
                "the limit of {most} bytes that a callback may hand to the host \
                 (limits.hostcall_bytes) is used up"
            ),
        }
    }
}

impl std::error::Error for Passed {}

/// What the running callback has used up of what is counted here and not in the guest's code.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    hostcalls: u64,
    bytes: u64,
}

impl Used {
    /// Counts one hostcall.
    pub(crate) fn hostcall(
        &mut self,
        limits: &Limits,
        name: &str,
        args: &[u64],
        memory: usize,
    ) -> Result<(), Passed> {
        self.hostcalls += 1;
        if let Some(most) = limits.hostcalls
            && self.hostcalls > most
        {
            return Err(Passed::Hostcalls(most));
        }
        match limits.hostcall_bytes {
            Some(_) => self.bytes(limits, handed_over(name, args, memory as u64)),
            None => Ok(()),
        }
    }

    /// Counts bytes that the host keeps.
    pub(crate) fn bytes(&mut self, limits: &Limits, count: u64) -> Result<(), Passed> {
        self.bytes = self.bytes.saturating_add(count);
        match limits.hostcall_bytes {
            Some(most) if self.bytes > most => Err(Passed::HostcallBytes(most)),
            _ => Ok(()),
        }
    }
}

/// Bytes of a hostcall that the host copies and may keep. A length that reaches outside of the
/// memory counts for the memory: nothing will be copied.
fn handed_over(name: &str, args: &[u64], memory: u64) -> u64 {
    // What something is looked up by is forgotten at once.
    if matches!(
        name,
        "proxy_get_property"
            | "proxy_get_shared_data"
            | "proxy_resolve_shared_queue"
            | "proxy_get_header_map_value"
            | "proxy_remove_header_map_value"
    ) {
        return 0;
    }
    let lengths = Hostcall::inputs(name).iter().filter_map(|pointer| args.get(pointer + 1));
    lengths.map(|length| (*length).min(memory)).sum()
}

/// Growth beyond the limit makes `memory.grow` return -1, as in V8.
pub(crate) struct Limiter {
    pub(crate) memory: usize,
    /// What was asked for last and not given.
    pub(crate) refused: Option<usize>,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = desired <= self.memory;
        if !granted {
            self.refused = Some(desired);
        }
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 10_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sim_abi::HOSTCALLS;

    #[test]
    fn only_lengths_of_what_the_host_keeps_are_counted() {
        for hostcall in HOSTCALLS {
            // A length follows a pointer: at least one argument stands before it.
            let args: Vec<u64> = (0..hostcall.params.len()).map(|at| u64::from(at == 0)).collect();
            assert_eq!(handed_over(hostcall.name, &args, u64::MAX), 0, "{}", hostcall.name);
        }
        assert_eq!(handed_over("proxy_set_shared_data", &[0, 3, 0, 5, 0], 100), 8);
        assert_eq!(handed_over("proxy_log", &[0, 0, u64::from(u32::MAX)], 65_536), 65_536);
        assert_eq!(handed_over("proxy_get_shared_data", &[0, 3, 0, 5, 0], 100), 0);
    }

    #[test]
    fn nothing_is_limited_by_default_but_memory() {
        let (limits, mut used) = (Limits::default(), Used::default());
        for _ in 0..1000 {
            used.hostcall(&limits, "proxy_log", &[0, 0, u64::MAX], usize::MAX).unwrap();
        }
        assert_eq!(limits.memory, 1 << 30);
    }

    #[test]
    fn the_last_hostcall_that_fits_is_allowed_and_the_next_is_not() {
        let limits = Limits { hostcalls: Some(2), ..Limits::default() };
        let mut used = Used::default();
        let mut call = || used.hostcall(&limits, "proxy_done", &[], 0);
        assert_eq!([call(), call(), call()], [Ok(()), Ok(()), Err(Passed::Hostcalls(2))]);
    }
}
