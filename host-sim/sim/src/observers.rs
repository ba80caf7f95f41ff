//! Several observers of one engine.
//!
//! The engine knows one [`Observer`]; a run may want a fault injector, a trace and lints at once.
//! Every one of them sees everything, in order. Where they can interfere, the first that does wins:
//! put the injector first, so that the others see what it did.

use host_sim_abi::Status;
use host_sim_engine::{CallbackEnd, Frame, HostcallView, Observer, Origin, Trap, Verdict};
use std::sync::Arc;

/// Observers, asked in order.
#[derive(Clone, Default)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// The same, with one more behind the others.
    #[must_use]
    pub fn and(mut self, observer: Arc<dyn Observer>) -> Self {
        self.0.push(observer);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the engine wants it: nothing if there are none, so that nothing is built for them.
    #[must_use]
    pub fn into_one(mut self) -> Option<Arc<dyn Observer>> {
        if self.0.len() > 1 { Some(Arc::new(self)) } else { self.0.pop() }
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observers").field(&self.0.len()).finish()
    }
}

impl Observer for Observers {
    fn enter(&self, origin: Origin<'_>, name: &'static str) {
        self.0.iter().for_each(|observer| observer.enter(origin, name));
    }

    fn interrupt(&self, origin: Origin<'_>, name: &'static str) -> Option<String> {
        let all: Vec<_> = self.0.iter().map(|observer| observer.interrupt(origin, name)).collect();
        all.into_iter().flatten().next()
    }

    fn before(&self, origin: Origin<'_>, call: &HostcallView<'_>) -> Verdict {
        let mut verdict = Verdict::Proceed;
        for observer in &self.0 {
            let own = observer.before(origin, call);
            if verdict == Verdict::Proceed {
                verdict = own;
            }
        }
        verdict
    }

    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, status: Option<Status>) {
        self.0.iter().for_each(|observer| observer.hostcall(origin, call, status));
    }

    fn answered(
        &self,
        origin: Origin<'_>,
        call: &HostcallView<'_>,
        status: Option<Status>,
        stack: &dyn Fn() -> Vec<Frame>,
    ) {
        self.0.iter().for_each(|observer| observer.answered(origin, call, status, stack));
    }

    fn trapped(&self, origin: Origin<'_>, name: &'static str, trap: &Trap) {
        self.0.iter().for_each(|observer| observer.trapped(origin, name, trap));
    }

    fn given(&self, origin: Origin<'_>, bytes: usize) {
        self.0.iter().for_each(|observer| observer.given(origin, bytes));
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        self.0.iter().for_each(|observer| observer.callback(origin, name, end));
    }

    fn draw(&self, worker: Option<u32>, value: u64) {
        self.0.iter().for_each(|observer| observer.draw(worker, value));
    }
}
