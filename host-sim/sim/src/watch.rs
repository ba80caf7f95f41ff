//! What plugins did, kept for expectations: calls, callbacks, hostcalls, instructions.
//!
//! An expectation is about one step: a [`Mark`] set when the step began forgets what came before it.
//! A watch is only made for scenarios that ask for one of these things: the engine builds nothing
//! for observers that are not there.

use crate::scenario::expect::CallKind;
use host_sim_abi::{Status, pairs};
use host_sim_engine::{CallbackEnd, HostcallView, Observer, Origin};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Callbacks of a step that are kept. What is not kept is told, see [`Watch::overflow`].
const MAX_CALLBACKS: usize = 500_000;

/// Calls of a step that are kept.
const MAX_CALLS: usize = 50_000;

/// A call as the plugin asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: CallKind,
    pub(crate) plugin: String,
    pub(crate) cluster: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) service: Vec<u8>,
    pub(crate) method: Vec<u8>,
    pub(crate) answered: Option<Status>,
}

/// A callback that ran.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) plugin: String,
    pub(crate) name: &'static str,
    pub(crate) fuel: u64,
    pub(crate) trapped: bool,
}

/// Watches.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    calls: Vec<Call>,
    callbacks: Vec<Ran>,
    hostcalls: BTreeMap<&'static str, u64>,
    /// More came than is kept.
    overflow: bool,
}

/// How much had been seen at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    hostcalls: BTreeMap<&'static str, u64>,
}

impl Watch {
    /// A step begins.
    pub(crate) fn mark(&self) -> Mark {
        let mut seen = self.lock();
        seen.calls.clear();
        seen.callbacks.clear();
        seen.overflow = false;
        Mark { hostcalls: seen.hostcalls.clone() }
    }

    /// Calls since the last mark.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Callbacks since the last mark.
    pub(crate) fn callbacks(&self) -> Vec<Ran> {
        self.lock().callbacks.clone()
    }

    /// Whether more calls or callbacks came since the last mark than are kept, so that nothing
    /// certain can be said of them.
    pub(crate) fn overflow(&self) -> bool {
        self.lock().overflow
    }

    /// Hostcalls since a mark, of a name or all.
    pub(crate) fn hostcalls(&self, since: &Mark, name: Option<&str>) -> u64 {
        let seen = self.lock();
        let own = seen.hostcalls.iter().filter(|(own, _)| name.is_none_or(|name| **own == name));
        own.map(|(own, count)| count - since.hostcalls.get(own).copied().unwrap_or(0)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watch {
    fn hostcall(&self, origin: Origin<'_>, call: &HostcallView<'_>, status: Option<Status>) {
        let made = made(origin, call, status);
        let mut seen = self.lock();
        *seen.hostcalls.entry(call.name).or_default() += 1;
        match made {
            Some(made) if seen.calls.len() < MAX_CALLS => seen.calls.push(made),
            Some(_) => seen.overflow = true,
            None => {}
        }
    }

    fn callback(&self, origin: Origin<'_>, name: &'static str, end: CallbackEnd) {
        let mut seen = self.lock();
        if seen.callbacks.len() < MAX_CALLBACKS {
            seen.callbacks.push(Ran {
                plugin: origin.plugin.to_owned(),
                name,
                fuel: end.fuel,
                trapped: end.trapped,
            });
        } else {
            seen.overflow = true;
        }
    }
}

/// The call that a hostcall makes, if it makes one.
fn made(origin: Origin<'_>, call: &HostcallView<'_>, answered: Option<Status>) -> Option<Call> {
    // Positions of headers, body, service and method among the arguments.
    let (kind, headers, body, names) = match call.name {
        "proxy_http_call" => (CallKind::Http, 2, Some(4), None),
        "proxy_grpc_call" => (CallKind::Grpc, 6, Some(8), Some((2, 4))),
        "proxy_grpc_stream" => (CallKind::GrpcStream, 6, None, Some((2, 4))),
        _ => return None,
    };
    let bytes = |at: Option<usize>| at.and_then(|at| call.bytes(at)).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let decoded = pairs::decode(bytes(Some(headers))).unwrap_or_default();
    Some(Call {
        kind,
        plugin: origin.plugin.to_owned(),
        cluster: bytes(Some(0)).to_vec(),
        headers: decoded.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
        body: bytes(body).to_vec(),
        service: bytes(names.map(|names| names.0)).to_vec(),
        method: bytes(names.map(|names| names.1)).to_vec(),
        answered,
    })
}
