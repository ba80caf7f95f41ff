//! An observer of every hostcall, for simulators, benchmarks and lints.

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
}

/// Receives hostcalls as they return. Must not call back into the engine's workers.
pub trait Trace: Send + Sync {
    /// `status` is `None` when the call trapped.
    fn hostcall(&self, origin: TraceOrigin<'_>, name: &'static str, status: Option<Status>);

    /// A callback has returned: how many instructions it took (0 without `EngineOptions::fuel`).
    fn callback(&self, origin: TraceOrigin<'_>, name: &'static str, fuel: u64) {
        let _ = (origin, name, fuel);
    }
}
