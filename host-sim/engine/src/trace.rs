//! An observer of every hostcall, for simulators, benchmarks and lints.

use crate::ExchangeId;
use host_sim_abi::Status;

/// Who made a hostcall.
#[derive(Clone, Copy, Debug)]
pub struct TraceOrigin<'a> {
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

/// Receives hostcalls as they return. Must not call back into the engine's workers.
pub trait Trace: Send + Sync {
    /// `status` is `None` when the call trapped.
    fn hostcall(&self, origin: TraceOrigin<'_>, name: &'static str, status: Option<Status>);

    /// Bytes handed to the guest in memory of its own, by the hostcall that returns next.
    fn given(&self, origin: TraceOrigin<'_>, bytes: usize) {
        let _ = (origin, bytes);
    }

    /// A callback has returned: how many instructions it took (0 without `EngineOptions::fuel`).
    fn callback(&self, origin: TraceOrigin<'_>, name: &'static str, fuel: u64) {
        let _ = (origin, name, fuel);
    }
}
