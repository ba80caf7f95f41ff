//! Faults in the host's place: the n-th hostcall answered with another status, or a trap.
//!
//! What Envoy answers when it is well, scenarios show by themselves. What a plugin does when a
//! write loses its race, when memory is short or when the VM dies is seen only if somebody makes it
//! happen at the right moment. An [`Injector`] is that somebody: it counts the calls that a
//! [`Fault`] describes, and interferes with one of them.
//!
//! A fault that answers a hostcall keeps the host from acting: nothing is written to shared data,
//! no request is sent, and the guest's out-pointers stay as they were.

use host_sim_abi::{Hostcall, Status};
use host_sim_engine::{HostcallView, Observer, Origin, Verdict};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where to interfere, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Only calls of this plugin.
    pub plugin: Option<String>,
    /// Only calls on this thread.
    pub thread: Option<Thread>,
    /// Which calls.
    pub point: Point,
    /// The how-manieth of them, from 1.
    pub nth: u64,
    /// How many from there on. Default 1; `u64::MAX` is all.
    pub times: u64,
    /// What happens instead.
    pub effect: Effect,
}

/// A thread of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The main thread, the canary included.
    Main,
    /// A worker, from 0.
    Worker(u32),
}

/// What a fault counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// Hostcalls: of that name, or all.
    Hostcall {
        /// Such as `proxy_set_shared_data`.
        name: Option<String>,
        /// Only within this callback, such as `proxy_on_tick`.
        within: Option<String>,
    },
    /// Callbacks of that name that the module exports; only [`Effect::Trap`] fits.
    Callback(String),
}

/// What happens at a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The hostcall answers this, and does nothing.
    Answer(Status),
    /// The VM traps.
    Trap,
}

impl Fault {
    /// The first hostcall of that name, by anybody.
    #[must_use]
    pub fn at(hostcall: &str, effect: Effect) -> Self {
        let point = Point::Hostcall { name: Some(hostcall.to_owned()), within: None };
        Self { plugin: None, thread: None, point, nth: 1, times: 1, effect }
    }

    /// The n-th hostcall of any name, by anybody.
    #[must_use]
    pub fn nth(nth: u64, effect: Effect) -> Self {
        let point = Point::Hostcall { name: None, within: None };
        Self { plugin: None, thread: None, point, nth, times: 1, effect }
    }

    fn is_for(&self, origin: Origin<'_>) -> bool {
        let thread = origin.worker.map_or(Thread::Main, Thread::Worker);
        self.plugin.as_deref().is_none_or(|plugin| plugin == origin.plugin)
            && self.thread.is_none_or(|wanted| wanted == thread)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            Point::Hostcall { name, within } => {
                write!(f, "hostcall {}", name.as_deref().unwrap_or("of any name"))?;
                if let Some(within) = within {
                    write!(f, " in {within}")?;
                }
            }
            Point::Callback(name) => write!(f, "callback {name}")?,
        }
        write!(f, ", number {}", self.nth)?;
        if let Some(plugin) = &self.plugin {
            write!(f, ", of {plugin}")?;
        }
        match self.thread {
            Some(Thread::Main) => f.write_str(", on the main thread"),
            Some(Thread::Worker(worker)) => write!(f, ", on worker {worker}"),
            None => Ok(()),
        }
    }
}

/// Carries faults out.
#[derive(Debug, Default)]
pub struct Injector {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    armed: Vec<Armed>,
    /// Callbacks under way, innermost last, with the thread they run on.
    callbacks: Vec<(Option<u32>, &'static str)>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u64,
    hits: u64,
}

impl Armed {
    /// Counts one call; true if the fault is due at it.
    fn count(&mut self) -> bool {
        self.seen += 1;
        let due = self.seen >= self.fault.nth && self.hits < self.fault.times;
        self.hits += u64::from(due);
        due
    }
}

impl Injector {
    /// An injector with these faults.
    #[must_use]
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let injector = Self::default();
        faults.into_iter().for_each(|fault| injector.arm(fault));
        injector
    }

    /// Adds a fault; it counts from now.
    pub fn arm(&self, fault: Fault) {
        self.lock().armed.push(Armed { fault, seen: 0, hits: 0 });
    }

    /// Forgets all faults.
    pub fn disarm(&self) {
        self.lock().armed.clear();
    }

    /// How often any fault has struck.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.lock().armed.iter().map(|armed| armed.hits).sum()
    }

    /// Faults that have not struck yet, to be told from a run that was clean in spite of them.
    #[must_use]
    pub fn waiting(&self) -> Vec<Fault> {
        let state = self.lock();
        let waiting = state.armed.iter().filter(|armed| armed.hits == 0);
        waiting.map(|armed| armed.fault.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Injector {
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        self.lock().callbacks.push((origin.worker, name));
    }

    fn interrupt(&self, origin: Origin<'_>, name: &'static str) -> Option<String> {
        let mut due = None;
        for armed in &mut self.lock().armed {
            let counts = matches!(&armed.fault.point, Point::Callback(own) if own == name);
            if counts && armed.fault.is_for(origin) && armed.count() && due.is_none() {
                due = Some(injected(&armed.fault));
            }
        }
        due
    }

    fn before(&self, origin: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        let state = &mut *self.lock();
        let current = state.callbacks.iter().rev().find(|(worker, _)| *worker == origin.worker);
        let current = current.map(|(_, name)| *name);
        let mut verdict = Verdict::Proceed;
        for armed in &mut state.armed {
            let Point::Hostcall { name, within } = &armed.fault.point else { continue };
            let counts = name.as_deref().is_none_or(|name| name == call.name)
                && within.as_deref().is_none_or(|within| Some(within) == current);
            if counts && armed.fault.is_for(origin) && armed.count() && verdict == Verdict::Proceed
            {
                verdict = match armed.fault.effect {
                    Effect::Answer(status) => Verdict::Answer(status),
                    Effect::Trap => Verdict::Trap(injected(&armed.fault)),
                };
            }
        }
        verdict
    }

    fn hostcall(&self, _: Origin<'_>, _: &HostcallView<'_>, _: Option<Status>) {}

    fn callback(&self, origin: Origin<'_>, name: &'static str, _: host_sim_engine::CallbackEnd) {
        let callbacks = &mut self.lock().callbacks;
        let at = callbacks.iter().rposition(|own| *own == (origin.worker, name));
        if let Some(at) = at {
            callbacks.remove(at);
        }
    }
}

fn injected(fault: &Fault) -> String {
    format!("injected fault: {fault}")
}

/// The statuses a hostcall can be made to answer, by the names the SDKs use in snake case:
/// `not_found`, `bad_argument`, `cas_mismatch`, `internal_failure` and so on.
#[must_use]
pub fn status_named(name: &str) -> Option<Status> {
    STATUSES.iter().find(|(own, _)| *own == name).map(|(_, status)| *status)
}

/// Every status by name.
pub const STATUSES: [(&str, Status); 13] = [
    ("ok", Status::Ok),
    ("not_found", Status::NotFound),
    ("bad_argument", Status::BadArgument),
    ("serialization_failure", Status::SerializationFailure),
    ("parse_failure", Status::ParseFailure),
    ("bad_expression", Status::BadExpression),
    ("invalid_memory_access", Status::InvalidMemoryAccess),
    ("empty", Status::Empty),
    ("cas_mismatch", Status::CasMismatch),
    ("result_mismatch", Status::ResultMismatch),
    ("internal_failure", Status::InternalFailure),
    ("broken_connection", Status::BrokenConnection),
    ("unimplemented", Status::Unimplemented),
];

/// Whether a module can import a hostcall of that name from `env`.
#[must_use]
pub fn is_hostcall(name: &str) -> bool {
    Hostcall::named(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(worker: u32, plugin: &str) -> Origin<'_> {
        Origin { worker: Some(worker), plugin, context: 2, exchange: None }
    }

    fn call(name: &'static str) -> HostcallView<'static> {
        HostcallView { name, args: &[], memory: &[] }
    }

    fn answers(injector: &Injector, from: Origin<'_>, name: &'static str, n: usize) -> Vec<bool> {
        (0..n).map(|_| injector.before(from, &call(name)) != Verdict::Proceed).collect()
    }

    #[test]
    fn only_the_nth_call_of_the_name_is_answered() {
        let effect = Effect::Answer(Status::CasMismatch);
        let fault = Fault { nth: 2, ..Fault::at("proxy_set_shared_data", effect) };
        let injector = Injector::new([fault]);
        assert_eq!(answers(&injector, origin(0, "a"), "proxy_log", 3), [false; 3]);
        let set = answers(&injector, origin(0, "a"), "proxy_set_shared_data", 4);
        assert_eq!(set, [false, true, false, false]);
        assert_eq!(injector.hits(), 1);
    }

    #[test]
    fn a_fault_of_one_plugin_on_one_worker_counts_only_there() {
        let fault = Fault {
            plugin: Some("a".to_owned()),
            thread: Some(Thread::Worker(1)),
            times: 2,
            ..Fault::nth(1, Effect::Trap)
        };
        let injector = Injector::new([fault]);
        assert_eq!(answers(&injector, origin(0, "a"), "proxy_log", 1), [false]);
        assert_eq!(answers(&injector, origin(1, "b"), "proxy_log", 1), [false]);
        assert_eq!(injector.waiting().len(), 1);
        assert_eq!(answers(&injector, origin(1, "a"), "proxy_log", 3), [true, true, false]);
        assert_eq!(injector.waiting().len(), 0);
    }

    #[test]
    fn a_hostcall_can_be_chosen_by_the_callback_that_makes_it() {
        let within = Some("proxy_on_tick".to_owned());
        let fault =
            Fault { point: Point::Hostcall { name: None, within }, ..Fault::nth(1, Effect::Trap) };
        let injector = Injector::new([fault]);
        assert_eq!(answers(&injector, origin(0, "a"), "proxy_log", 1), [false]);
        injector.enter(origin(0, "a"), "proxy_on_tick");
        assert_eq!(answers(&injector, origin(1, "a"), "proxy_log", 1), [false]);
        assert_eq!(answers(&injector, origin(0, "a"), "proxy_log", 1), [true]);
    }

    #[test]
    fn a_callback_traps_with_a_reason_that_names_the_fault() {
        let point = Point::Callback("proxy_on_log".to_owned());
        let injector = Injector::new([Fault { point, nth: 2, ..Fault::nth(1, Effect::Trap) }]);
        let interrupt = || injector.interrupt(origin(0, "a"), "proxy_on_log");
        assert_eq!(interrupt(), None);
        let reason = interrupt().unwrap();
        assert!(reason.contains("callback proxy_on_log, number 2"), "{reason}");
    }
}
