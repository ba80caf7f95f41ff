//! How a hostcall ends early.

use host_sim_abi::Status;

/// What a hostcall's body returns.
pub(crate) type Reply = Result<(), Fault>;

/// The hostcall did not return `Ok`.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The guest gets this status and runs on.
    Status(Status),
    /// The VM is done for: the guest's allocator trapped, or Envoy itself would have died.
    Trap(wasmtime::Error),
}

impl Fault {
    /// The VM fails with a sentence of ours instead of the crash Envoy has in store.
    pub(crate) fn trap(message: impl Into<String>) -> Self {
        Self::Trap(wasmtime::Error::msg(message.into()))
    }

    /// The number for the guest, or the trap.
    pub(crate) fn answer(reply: Reply) -> wasmtime::Result<i32> {
        match reply {
            Ok(()) => Ok(Status::Ok.raw()),
            Err(Self::Status(status)) => Ok(status.raw()),
            Err(Self::Trap(error)) => Err(error),
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}
