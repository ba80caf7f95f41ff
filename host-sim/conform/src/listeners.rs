//! The listeners that cases name, and the plugins on each.
//!
//! A file has those that its cases name and no others. Where a module traps, a listener and its VM
//! serve one case: `trap_<policy>_<callback>`. A name that begins with `tcp` has a network filter
//! before the TCP proxy; `<name>_control` is an HTTP listener with the same VM, whose request tells
//! the VM which program the next connection runs.

use host_sim_abi::AbiVersion;
use serde_json::{Value, json};

/// A plugin of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// Names it in requests (`x-cell-<letter>`).
    pub(crate) letter: char,
    /// Plugins of one `vm_id` and version share a VM.
    pub(crate) vm_id: String,
    /// Which probe.
    pub(crate) version: AbiVersion,
    /// More fields of `PluginConfig`.
    pub(crate) more: Value,
}

/// A listener.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    /// The cluster behind the TCP proxy; HTTP if none.
    pub(crate) tcp: Option<&'static str>,
    pub(crate) plugins: Vec<Plugin>,
}

/// A plugin that differs from the others in nothing.
pub(crate) fn plugin(letter: char, vm_id: &str) -> Plugin {
    Plugin { letter, vm_id: vm_id.to_owned(), version: AbiVersion::V0_2_1, more: json!({}) }
}

/// The listener of that name.
pub(crate) fn listener(name: &str) -> Listener {
    let vm = name.strip_suffix("_control").unwrap_or(name);
    let a = || plugin('a', vm);
    let with = |more| Plugin { more, ..a() };
    let plugins = match name {
        "plain" => vec![],
        "main" => vec![with(json!({"root_id": "main_root"}))],
        "stop" => vec![with(json!({"allow_on_headers_stop_iteration": true}))],
        "chain" => vec![a(), plugin('b', "other"), plugin('c', "chain")],
        // Two roots in one VM.
        "pending" => vec![a(), plugin('b', "pending")],
        "old" => vec![Plugin { version: AbiVersion::V0_1_0, ..a() }],
        "middle" => vec![Plugin { version: AbiVersion::V0_2_0, ..a() }],
        "restricted" => vec![with(restriction())],
        _ => vec![with(policy(vm))],
    };
    let tcp = match vm {
        _ if !name.starts_with("tcp") || name != vm => None,
        "tcp_refused" => Some("refused"),
        "tcp_reset" => Some("reset"),
        "tcp_closed" => Some("closed"),
        "tcp_nobody" => Some("nobody"),
        _ => Some("tcp"),
    };
    Listener { name: name.to_owned(), tcp, plugins }
}

/// What is done when a plugin of that listener fails.
fn policy(name: &str) -> Value {
    let words = name.split_once("trap_").map_or(name, |(_, rest)| rest);
    match words.split('_').next() {
        Some("closed") => json!({"failure_policy": "FAIL_CLOSED"}),
        Some("open") => json!({"failure_policy": "FAIL_OPEN"}),
        Some("legacy") => json!({"fail_open": true}),
        Some("reload") => json!({"failure_policy": "FAIL_RELOAD"}),
        _ => json!({}),
    }
}

/// A few callbacks, and the hostcalls without which a probe can tell nothing.
fn restriction() -> Value {
    let allowed = [
        "proxy_on_context_create",
        "proxy_on_vm_start",
        "proxy_on_configure",
        "proxy_on_request_headers",
        "proxy_on_response_headers",
        "proxy_on_log",
        "proxy_on_delete",
        "proxy_log",
        "proxy_get_header_map_value",
        "proxy_get_buffer_bytes",
        "fd_write",
    ];
    let allowed: serde_json::Map<_, _> =
        allowed.into_iter().map(|name| (name.to_owned(), json!({}))).collect();
    json!({"capability_restriction_config": {"allowed_capabilities": allowed}})
}
