//! An observer of every callback and hostcall, for simulators, benchmarks, lints, fault injection.
//!
//! One seam serves all of them: what a guest does is seen before it happens and after, and what a
//! hostcall answers can be replaced before the host has done anything. A driver that wants to
//! interleave workers lets [`Observer::before`] wait.

use crate::{ExchangeId, Frame, Trap};
use host_sim_abi::Status;

/// Who called, or is called.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// `None` on the main thread.
    pub worker: Option<u32>,
    /// Name of the plugin.
    pub plugin: &'a str,
    /// Effective context; 0 is none.
    pub context: u32,
    /// The downstream exchange it was for, attempts included; `None` for ticks and for what a
    /// plugin's own calls cause.
    pub exchange: Option<ExchangeId>,
}

/// A hostcall, as the guest makes it.
#[derive(Clone, Copy, Debug)]
pub struct HostcallView<'a> {
    /// Name of the import, such as `proxy_log`.
    pub name: &'static str,
    /// Arguments in order, `i32`s zero-extended.
    pub args: &'a [u64],
    /// The guest's memory, into which arguments point.
    pub memory: &'a [u8],
}

impl HostcallView<'_> {
    /// The bytes that the arguments `at` (pointer) and `at + 1` (length) stand for; `None` if they
    /// point outside of the memory, or there are no such arguments.
    #[must_use]
    pub fn bytes(&self, at: usize) -> Option<&[u8]> {
        let start = usize::try_from(*self.args.get(at)?).ok()?;
        let len = usize::try_from(*self.args.get(at + 1)?).ok()?;
        self.memory.get(start..start.checked_add(len)?)
    }
}

/// What happens instead of a hostcall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the hostcall takes its course.
    #[default]
    Proceed,
    /// The guest gets this status; the host does nothing, and writes nothing to the guest.
    Answer(Status),
    /// The VM traps, with this reason.
    Trap(String),
}

/// How a callback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackEnd {
    /// Instructions it took; 0 without `EngineOptions::fuel`.
    pub fuel: u64,
    /// What it returned, if it returns something: an action, or a boolean.
    pub returned: Option<u32>,
    /// The VM has failed.
    pub trapped: bool,
}

/// Sees callbacks and hostcalls. Must not call back into the engine's workers. Every method but
/// [`Observer::hostcall`] has a body that does nothing.
pub trait Observer: Send + Sync {
    /// A callback that the module exports begins.
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        let _ = (origin, name);
    }

    /// The same callback: a reason makes the VM trap instead of running it.
    fn interrupt(&self, origin: Origin<'_>, name: &'static str) -> Option<String> {
        let _ = (origin, name);
        None
    }

    /// A hostcall begins.
    fn before(&self, origin: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        let _ = (origin, call);
        Verdict::Proceed
    }

    /// A hostcall has been answered, perhaps by [`Observer::before`]; `status` is `None` when it
    /// trapped.
    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, status: Option<Status>);

    /// The same, right after [`Observer::hostcall`], for who wants to know where in the plugin it
    /// was made: `stack` gives the guest's stack, innermost first, and takes its time.
    fn answered(
        &self,
        origin: Origin<'_>,
        call: &HostcallView<'_>,
        status: Option<Status>,
        stack: &dyn Fn() -> Vec<Frame>,
    ) {
        let _ = (origin, call, status, stack);
    }

    /// Bytes handed to the guest in memory of its own, by the hostcall that returns next.
    fn given(&self, origin: Origin<'_>, bytes: usize) {
        let _ = (origin, bytes);
    }

    /// A callback has trapped; [`Observer::callback`] follows.
    fn trapped(&self, origin: Origin<'_>, name: &'static str, trap: &Trap) {
        let _ = (origin, name, trap);
    }

    /// A callback has returned.
    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        let _ = (origin, name, end);
    }

    /// A worker, or the main thread, made a random choice from the seeded stream.
    fn draw(&self, worker: Option<u32>, value: u64) {
        let _ = (worker, value);
    }
}
