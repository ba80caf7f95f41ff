//! An observer that notes hostcalls and traps.

use super::Harm;
use host_sim_abi::Status;
use host_sim_engine::{CallbackEnd, HostcallView, Observer, Origin, Verdict};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A hostcall that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) plugin: String,
    /// `None` while the module initialises.
    pub(super) callback: Option<&'static str>,
}

/// Notes what it sees.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    calls: Vec<Call>,
    /// Of the one thread that a simulation has: a callback within another ends first.
    callbacks: Vec<&'static str>,
    trap: Option<Harm>,
}

impl Watch {
    /// Hostcalls in order.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    /// The first trap.
    pub(super) fn trap(&self) -> Option<Harm> {
        self.seen().trap.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watch {
    fn enter(&self, _: Origin<'_>, name: &'static str) {
        self.seen().callbacks.push(name);
    }

    /// As they begin, which is how faults count them: a hostcall that enters another VM is answered
    /// after those made there.
    fn before(&self, origin: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        let mut seen = self.seen();
        let callback = seen.callbacks.last().copied();
        seen.calls.push(Call { name: call.name, plugin: origin.plugin.to_owned(), callback });
        Verdict::Proceed
    }

    fn hostcall(&self, _: Origin<'_>, _: &HostcallView<'_>, _: Option<Status>) {}

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        let mut seen = self.seen();
        if let Some(at) = seen.callbacks.iter().rposition(|own| *own == name) {
            seen.callbacks.truncate(at);
        }
        if end.trapped && seen.trap.is_none() {
            seen.trap = Some(Harm::Trap { plugin: origin.plugin.to_owned(), callback: name });
        }
    }
}
