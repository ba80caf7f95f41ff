//! What checks remember, and what they look at.

use super::facts::{Facts, PluginFacts};
use host_sim_abi::Status;
use host_sim_engine::{HostcallView, Origin};
use std::collections::{BTreeMap, BTreeSet};

/// A hostcall that has been answered.
pub(super) struct Seen<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) call: &'a HostcallView<'a>,
    pub(super) status: Option<Status>,
    /// The callback that runs, or nothing while the module starts.
    pub(super) callback: &'static str,
    pub(super) facts: &'a Facts,
    pub(super) plugin: &'a PluginFacts,
}

impl<'a> Seen<'a> {
    /// The call's name without `proxy_`.
    pub(super) fn name(&self) -> &'static str {
        self.call.name.strip_prefix("proxy_").unwrap_or(self.call.name)
    }

    pub(super) fn is_ok(&self) -> bool {
        self.status == Some(Status::Ok)
    }

    pub(super) fn is(&self, status: Status) -> bool {
        self.status == Some(status)
    }

    /// An argument that is a number; 0 if there is none.
    pub(super) fn number(&self, at: usize) -> u32 {
        self.call.args.get(at).and_then(|word| u32::try_from(*word).ok()).unwrap_or(0)
    }

    /// The bytes of pointer and length at `at`; none if they point outside.
    pub(super) fn bytes(&self, at: usize) -> &'a [u8] {
        let start = self.number(at) as usize;
        let end = start.saturating_add(self.number(at + 1) as usize);
        self.call.memory.get(start..end).unwrap_or_default()
    }

    /// The word that the host has put where the argument at `at` points to.
    pub(super) fn out(&self, at: usize) -> Option<u32> {
        let start = self.number(at) as usize;
        let bytes = self.call.memory.get(start..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// What the host has handed out by the pointer and length at `at` and `at + 1`.
    pub(super) fn given(&self, at: usize) -> &'a [u8] {
        let given = || {
            let start = self.out(at)? as usize;
            let end = start.checked_add(self.out(at + 1)? as usize)?;
            self.call.memory.get(start..end)
        };
        given().unwrap_or_default()
    }

    /// Whether a callback of a stream runs, rather than one of the root.
    pub(super) fn in_stream_callback(&self) -> bool {
        is_stream(self.callback)
    }

    /// Whether the plugin starts.
    pub(super) fn in_start(&self) -> bool {
        is_start(self.callback)
            || (self.callback == "proxy_on_context_create" && self.origin.exchange.is_none())
    }

    /// The half of the stream that the callback belongs to.
    pub(super) fn half(&self) -> Option<Half> {
        half(self.callback)
    }
}

/// Half of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Request,
    Response,
}

pub(super) fn half(callback: &str) -> Option<Half> {
    if callback.starts_with("proxy_on_request_") {
        Some(Half::Request)
    } else if callback.starts_with("proxy_on_response_") {
        Some(Half::Response)
    } else {
        None
    }
}

/// Callbacks that run once a stream, or oftener.
pub(super) fn is_stream(callback: &str) -> bool {
    half(callback).is_some()
        || matches!(
            callback,
            "proxy_on_log"
                | "proxy_on_done"
                | "proxy_on_delete"
                | "proxy_on_new_connection"
                | "proxy_on_downstream_data"
                | "proxy_on_upstream_data"
        )
}

fn is_start(callback: &str) -> bool {
    matches!(callback, "proxy_on_vm_start" | "proxy_on_configure" | "proxy_validate_configuration")
}

/// A mistake.
pub(super) struct Hit {
    pub(super) lint: &'static str,
    /// What tells it from the same mistake elsewhere in the callback.
    pub(super) key: String,
    pub(super) message: String,
    /// Instead of the lint's own.
    pub(super) mend: Option<String>,
}

impl Hit {
    pub(super) fn new(lint: &'static str, key: impl Into<String>, message: String) -> Self {
        Self { lint, key: key.into(), message, mend: None }
    }

    pub(super) fn mend(mut self, mend: String) -> Self {
        self.mend = Some(mend);
        self
    }
}

/// What a hostcall is part of.
pub(super) struct Scene<'a> {
    pub(super) running: &'a mut Running,
    pub(super) stream: &'a mut Stream,
    pub(super) vm: &'a mut Vm,
    pub(super) plugin: &'a mut Plugin,
}

/// A callback under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) callback: &'static str,
    pub(super) context: u32,
    /// Something was logged at warning level or above.
    pub(super) complained: bool,
    /// `continue_stream` for the callback's own stream: request, response.
    pub(super) resumed: [bool; 2],
    pub(super) replied: bool,
    /// A call was sent.
    pub(super) called: bool,
    /// A call was refused.
    pub(super) refused: Option<String>,
    /// The last status that was not Ok, as text, with the rule and the mend for it.
    pub(super) surprise: Option<Surprise>,
    /// What the plugin said at critical level: a Rust panic.
    pub(super) panic: Option<String>,
    /// Keys of shared data that were read.
    pub(super) got: BTreeSet<Vec<u8>>,
    /// Keys that another worker had written.
    pub(super) mismatched: BTreeSet<Vec<u8>>,
    /// Bytes of request and response body that were read.
    pub(super) body: [Option<u32>; 2],
}

/// A status that an SDK does not expect.
#[derive(Clone, Debug)]
pub(super) struct Surprise {
    pub(super) call: String,
    pub(super) rule: String,
    pub(super) mend: String,
}

/// A stream context.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The callback that returned Pause, until something else is known.
    pub(super) paused: Option<&'static str>,
    /// A call was sent for it.
    pub(super) called: bool,
    pub(super) replies: u32,
    /// `content-length` was taken away: request, response.
    pub(super) length_removed: [bool; 2],
    /// Values that the client has chosen, and the plugin has read.
    pub(super) client: Vec<Vec<u8>>,
    /// Those of them that are credentials.
    pub(super) secrets: Vec<Vec<u8>>,
}

/// A VM.
#[derive(Debug, Default)]
pub(super) struct Vm {
    /// Ids by kind and name.
    pub(super) metrics: BTreeMap<(u32, Vec<u8>), u32>,
    /// Streams that have begun.
    pub(super) streams: u64,
    pub(super) memory: usize,
    /// How often, and by how many bytes, memory has grown since streams are many.
    pub(super) growths: (u64, usize),
}

/// A plugin, on all threads.
#[derive(Debug, Default)]
pub(super) struct Plugin {
    /// It resumes or answers streams from other callbacks than the pausing ones.
    pub(super) resumes: bool,
    /// Body callbacks that let a stream go on: they pause until the body is whole.
    pub(super) passes: BTreeSet<&'static str>,
    pub(super) configuration_read: bool,
    /// Keys made of what clients sent, and all that streams have made.
    pub(super) client_keys: BTreeSet<Vec<u8>>,
    pub(super) stream_keys: BTreeSet<Vec<u8>>,
    /// The same of names of metrics.
    pub(super) client_metrics: BTreeSet<Vec<u8>>,
    pub(super) stream_metrics: BTreeSet<Vec<u8>>,
    pub(super) gauges: BTreeMap<Vec<u8>, Gauge>,
    pub(super) verbose_lines: u64,
}

/// A gauge, and who records it.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// By worker: its last value.
    pub(super) values: BTreeMap<u32, u64>,
    /// The last value, and whose it is.
    pub(super) last: Option<(u32, u64)>,
    /// Times that another worker recorded than before.
    pub(super) switches: u64,
    /// Of those, how often the value was nearer to the worker's own last one.
    pub(super) own: u64,
}

impl Stream {
    /// What the client has sent and these bytes contain.
    pub(super) fn client_value_in(&self, bytes: &[u8]) -> Option<&[u8]> {
        find(&self.client, bytes)
    }

    /// A credential that these bytes contain.
    pub(super) fn secret_in(&self, bytes: &[u8]) -> bool {
        find(&self.secrets, bytes).is_some()
    }
}

fn find<'a>(values: &'a [Vec<u8>], bytes: &[u8]) -> Option<&'a [u8]> {
    let inside = |value: &&Vec<u8>| bytes.windows(value.len()).any(|window| window == **value);
    values.iter().find(inside).map(Vec::as_slice)
}
