//! Turns that are taken from within a hostcall: what a call does before it returns to its guest.
//!
//! Envoy starts a plugin's HTTP call inside of `proxy_http_call`: the upstream filters of the called
//! cluster see the request's headers before the caller goes on. If one of them lives in the VM that
//! makes the call, that VM is entered a second time. A guest that keeps its state in a `RefCell`, as
//! every plugin on the Rust SDK does, panics there ("already borrowed"), and the VM has failed; the
//! first callback still runs to its end. A guest written against the bare ABI survives.
//!
//! While a guest runs, its VM is out of its slot, and the rest of the worker is *lent* to the
//! thread's state, where a hostcall finds it. With it and the store, which the hostcall has, it
//! makes a [`Turn`]: the same worker, but for one VM that is entered through the hostcall's store.
//! What comes of the call before the hostcall has returned is not told to the guest; the hostcall
//! answers `InternalFailure` instead.
//!
//! A call that is over before it returns, after a callback in its own VM, is one of the things of
//! which Envoy's worker dies: the guest is to be told when it has returned, which is looked at
//! behind each callback of its VM, the inner one too, and put off again there, for ever. Here it is
//! a trap.
//!
//! Two more things are traps, with a report that names the cluster: a call that would enter
//! a VM further down the stack, and one made while a plugin starts.

use crate::CallbackEnd;
use crate::cluster::Cluster;
use crate::exports::Exports;
use crate::fault::Fault;
use crate::guest_memory::Guest;
use crate::thread_state::Deferred;
use crate::vm::{Answer, Callback, Entry, Outcome, VmState};
use crate::vm_slot::{Place, PluginHandle, VmSlot};
use crate::worker::{Turn, Usage};
use std::mem::take;
use std::sync::Arc;
use wasmtime::AsContextMut;

/// All that a worker has, but for the VM that runs.
pub(crate) struct Lent {
    vms: Vec<VmSlot>,
    handles: Vec<Option<PluginHandle>>,
    places: Vec<Place>,
    retiring: Vec<usize>,
    gone: Usage,
}

/// Who is entered by a call to a cluster.
pub(crate) enum Entering {
    /// Nobody: there is no upstream filter that is a plugin.
    Nobody,
    /// Upstream filters, now.
    Now,
    /// Somebody who cannot be.
    Impossible,
}

/// What a call to a cluster would do if it began now, in a hostcall of `state`.
pub(crate) fn entering(state: &VmState, cluster: usize) -> Entering {
    let shared = state.shared.borrow();
    let vms = shared.upstream_vms.get(cluster).map(Vec::as_slice).unwrap_or_default();
    let runs = |vm: &usize| match &shared.lent {
        Some(lent) => *vm != state.index && lent.vms.get(*vm).is_some_and(|slot| slot.runs),
        None => *vm == state.index,
    };
    if vms.iter().any(runs) {
        Entering::Impossible
    } else if vms.is_empty() || shared.lent.is_none() {
        Entering::Nobody
    } else {
        Entering::Now
    }
}

/// A call that cannot enter a VM as it would in Envoy.
pub(crate) fn impossible(cluster: &str) -> Fault {
    Fault::trap(format!(
        "a call of cluster {cluster}, whose upstream filters run in a VM that is already running: \
         Envoy would enter it a second time. {MEND}"
    ))
}

/// A call that Envoy would never come back from.
pub(crate) fn endless(cluster: &str) -> Fault {
    Fault::trap(format!(
        "a call of cluster {cluster} was answered by upstream filters in the very VM that makes it: \
         Envoy's worker never gets out of it. {MEND}"
    ))
}

/// What a turn from within a hostcall has left.
#[derive(Default)]
pub(crate) struct Left {
    /// For the guests that were told nothing because one of them runs, with their VMs.
    pub(crate) late: Vec<(usize, Deferred)>,
    /// The guest was called again, for more than the creation of a context.
    pub(crate) reentered: bool,
}

/// Takes a turn from within a hostcall, to call a cluster.
pub(crate) fn take_turn(
    guest: &mut Guest<'_>,
    cluster: &Arc<Cluster>,
    run: impl FnOnce(&mut Turn<'_>),
) -> Left {
    let state = guest.data_mut();
    let shared = state.shared.clone();
    let Some(lent) = shared.borrow_mut().lent.take() else { return Left::default() };
    let outer = (state.calling.replace(cluster.clone()), take(&mut state.reentered));
    let engine = shared.borrow().engine.clone();
    let Lent { vms, handles, places, retiring, gone } = lent;
    let mut turn = Turn {
        engine,
        shared: shared.clone(),
        vms,
        handles,
        places,
        retiring,
        gone,
        enters: true,
        called: None,
        late: Vec::new(),
        guest: Some(guest.as_context_mut()),
    };
    run(&mut turn);
    let (lent, late) = (turn.lend(), take(&mut turn.late));
    shared.borrow_mut().lent = Some(lent);
    let state = guest.data_mut();
    let reentered = state.reentered;
    (state.calling, state.reentered) = outer;
    Left { late, reentered }
}

impl Turn<'_> {
    /// Runs a callback of a VM. A trap fails the VM for good.
    pub(crate) fn invoke<R: Answer>(
        &mut self,
        index: usize,
        context: u32,
        callback: Callback,
        name: &'static str,
        run: impl FnOnce(&mut Entry<'_>, &Exports) -> Option<wasmtime::Result<R>>,
    ) -> Outcome<R> {
        let outcome = if self.inside(index).is_some() {
            let Some(mut guest) = self.guest.take() else { return Outcome::Failed };
            let outcome = self.lending(|| again(&mut guest, context, callback, name, run));
            self.guest = Some(guest);
            outcome
        } else if self.enters {
            let Some(slot) = self.vms.get_mut(index) else { return Outcome::Failed };
            let Some(mut vm) = slot.vm.take() else { return Outcome::Failed };
            slot.runs = true;
            let outcome = self.lending(|| vm.invoke(context, callback, name, run));
            if let Some(slot) = self.vms.get_mut(index) {
                slot.vm = Some(vm);
                slot.runs = false;
            }
            outcome
        } else {
            let Some(vm) = self.vm(index) else { return Outcome::Failed };
            vm.invoke(context, callback, name, run)
        };
        self.called = Some(index);
        outcome
    }

    /// The state of a VM that nobody runs, or whose hostcall this turn is taken from.
    pub(crate) fn state(&mut self, index: usize) -> Option<&mut VmState> {
        if self.inside(index).is_some() {
            return self.guest.as_mut().map(|guest| guest.data_mut());
        }
        self.vm(index).map(|vm| vm.store.data_mut())
    }

    /// The state of a VM if this turn is taken from its hostcall.
    pub(crate) fn inside(&self, index: usize) -> Option<&VmState> {
        self.guest.as_ref().map(|guest| guest.data()).filter(|state| state.index == index)
    }

    /// Runs a guest while its hostcalls find the worker.
    fn lending<R>(&mut self, run: impl FnOnce() -> R) -> R {
        let lent = self.lend();
        self.shared.borrow_mut().lent = Some(lent);
        let result = run();
        let lent = self.shared.borrow_mut().lent.take();
        if let Some(Lent { vms, handles, places, retiring, gone }) = lent {
            (self.vms, self.handles, self.places) = (vms, handles, places);
            (self.retiring, self.gone) = (retiring, gone);
        }
        result
    }

    fn lend(&mut self) -> Lent {
        Lent {
            vms: take(&mut self.vms),
            handles: take(&mut self.handles),
            places: take(&mut self.places),
            retiring: take(&mut self.retiring),
            gone: take(&mut self.gone),
        }
    }
}

/// Runs a callback inside of a hostcall. It uses up what the callback around it may.
fn again<R: Answer>(
    guest: &mut Entry<'_>,
    context: u32,
    callback: Callback,
    name: &'static str,
    run: impl FnOnce(&mut Entry<'_>, &Exports) -> Option<wasmtime::Result<R>>,
) -> Outcome<R> {
    let state = guest.data_mut();
    state.reentered |= name != "proxy_on_context_create";
    let Some(exports) = state.exports.clone().filter(|_| state.failed.is_none()) else {
        return Outcome::Failed;
    };
    let outer = (state.current, state.entered, state.callback);
    (state.current, state.entered, state.callback) = (context, context, callback);
    let observer = state.observer.clone().filter(|_| exports.has(name));
    let interruption = observer.as_ref().and_then(|observer| {
        observer.enter(state.origin(), name);
        observer.interrupt(state.origin(), name)
    });
    let before = guest.get_fuel().unwrap_or(0);
    let result = match interruption {
        Some(reason) => Some(Err(wasmtime::Error::msg(reason))),
        None => run(guest, &exports),
    };
    let fuel = before.saturating_sub(guest.get_fuel().unwrap_or(before));
    let state = guest.data_mut();
    state.current = context;
    let hint = state.calling.as_ref().map_or_else(String::new, |cluster| {
        format!("\n  in a call of cluster {:?}, which entered its own VM: {MEND}", cluster.name())
    });
    if let (Some(observer), Some(result)) = (&observer, &result) {
        if let Err(error) = result {
            observer.trapped(state.origin(), name, &state.trap(error, &hint));
        }
        let returned = result.as_ref().ok().and_then(Answer::raw);
        let end = CallbackEnd { fuel, returned, trapped: result.is_err() };
        observer.callback(state.origin(), name, end);
    }
    (state.current, state.entered, state.callback) = outer;
    match result {
        None => Outcome::Absent,
        Some(Ok(_)) if state.failed.is_some() => Outcome::Failed,
        Some(Ok(value)) => Outcome::Returned(value),
        Some(Err(error)) => {
            state.fail(name, &error, &hint);
            Outcome::Failed
        }
    }
}

const MEND: &str = "Give the upstream plugin another vm_config.configuration";
