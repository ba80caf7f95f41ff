//! What a worker does with what all share, as a person reads it.

use host_sim_abi::{Hostcall, Status};
use host_sim_engine::HostcallView;
use std::fmt;

/// Longest value quoted.
const QUOTED: usize = 32;

/// One hostcall on something that workers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which worker; `None` is the main thread.
    pub worker: Option<u32>,
    /// Name of the plugin.
    pub plugin: String,
    /// The callback it was made in.
    pub callback: &'static str,
    /// Number of callbacks that this worker had begun: tells one from the next.
    pub(super) invocation: u64,
    /// Name of the hostcall, such as `proxy_set_shared_data`.
    pub hostcall: &'static str,
    /// The key, queue or metric.
    pub key: String,
    /// What was written or read, and the CAS number.
    pub detail: String,
    /// What was answered.
    pub status: Option<Status>,
    /// How often in a row.
    pub times: u64,
}

impl Access {
    /// Whether it is the same again, whatever the number of times.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        Self { times: other.times, ..self.clone() } == *other
    }

    /// Whether it changed, or would have changed, what workers share.
    pub(super) fn changes(&self) -> bool {
        !matches!(self.hostcall, "proxy_get_shared_data" | "proxy_get_metric")
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.worker {
            Some(worker) => write!(f, "worker {worker}")?,
            None => write!(f, "main    ")?,
        }
        let short = |name: &'static str| name.strip_prefix("proxy_").unwrap_or(name);
        let (callback, hostcall) = (short(self.callback), short(self.hostcall));
        write!(f, "  {}  {callback}  {hostcall} {}", self.plugin, self.key)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        match self.status {
            Some(status) => write!(f, "  -> {status:?}")?,
            None => write!(f, "  -> trap")?,
        }
        if self.times > 1 { write!(f, "  ({} times)", self.times) } else { Ok(()) }
    }
}

/// Whether the order of this hostcall and others' can matter. Increments of metrics do only where
/// somebody reads metrics.
pub(super) fn is_shared(name: &str) -> bool {
    matches!(
        name,
        "proxy_get_shared_data"
            | "proxy_set_shared_data"
            | "proxy_enqueue_shared_queue"
            | "proxy_dequeue_shared_queue"
            | "proxy_get_metric"
            | "proxy_record_metric"
            | "proxy_increment_metric"
    )
}

/// The key of shared data that a hostcall is about.
pub(super) fn data_key<'a>(call: &HostcallView<'a>) -> Option<&'a [u8]> {
    let about = matches!(call.name, "proxy_get_shared_data" | "proxy_set_shared_data");
    if !about {
        return None;
    }
    let start = usize::try_from(*call.args.first()?).ok()?;
    let len = usize::try_from(*call.args.get(1)?).ok()?;
    call.memory.get(start..start.checked_add(len)?)
}

/// Key and detail of a hostcall that has been answered.
pub(super) fn describe(call: &HostcallView<'_>, status: Option<Status>) -> (String, String) {
    let word = |at: usize| call.args.get(at).copied().unwrap_or(0);
    match call.name {
        "proxy_get_shared_data" => {
            let detail = match status {
                Some(Status::Ok) => {
                    let out = |at| u64::from(read(call.memory, word(at)));
                    let value = slice(call.memory, out(2), out(3));
                    format!("= {} (cas {})", quoted(value), out(4))
                }
                _ => String::new(),
            };
            (quoted(call.bytes(0).unwrap_or_default()), detail)
        }
        "proxy_set_shared_data" => {
            let value = quoted(call.bytes(2).unwrap_or_default());
            let detail = format!(":= {value} (cas {})", word(4));
            (quoted(call.bytes(0).unwrap_or_default()), detail)
        }
        "proxy_enqueue_shared_queue" => {
            (format!("queue {}", word(0)), quoted(call.bytes(1).unwrap_or_default()))
        }
        "proxy_dequeue_shared_queue" => {
            let detail = match status {
                Some(Status::Ok) => {
                    let out = |at| u64::from(read(call.memory, word(at)));
                    format!("= {}", quoted(slice(call.memory, out(1), out(2))))
                }
                _ => String::new(),
            };
            (format!("queue {}", word(0)), detail)
        }
        _ => {
            let named = Hostcall::named(call.name).is_some();
            (format!("metric {}", word(0)), if named { word(1).to_string() } else { String::new() })
        }
    }
}

fn read(memory: &[u8], at: u64) -> u32 {
    let bytes = slice(memory, at, 4);
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn slice(memory: &[u8], at: u64, len: u64) -> &[u8] {
    let range = usize::try_from(at).ok().zip(usize::try_from(len).ok());
    range.and_then(|(at, len)| memory.get(at..at.checked_add(len)?)).unwrap_or_default()
}

/// Text in quotes; a number if it is eight bytes of one; else hexadecimal.
fn quoted(bytes: &[u8]) -> String {
    let short = bytes.get(..QUOTED).unwrap_or(bytes);
    let more = if bytes.len() > QUOTED { "..." } else { "" };
    if short.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return format!("\"{}{more}\"", String::from_utf8_lossy(short));
    }
    if let Ok(eight) = <[u8; 8]>::try_from(bytes) {
        return u64::from_le_bytes(eight).to_string();
    }
    let hex: String = short.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{hex}{more}")
}
