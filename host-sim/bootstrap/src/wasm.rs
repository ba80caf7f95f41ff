//! `envoy.extensions.wasm.v3`: plugins, their VMs, and the bootstrap's `WasmService`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::DataSource;

/// `envoy.extensions.wasm.v3.PluginConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// Log prefix and stats name.
    pub name: String,
    /// Which root context; plugins with one `root_id` in one VM share it.
    pub root_id: String,
    /// Its VM.
    pub vm: VmConfig,
    /// What `proxy_on_configure` reads.
    pub configuration: Configuration,
    /// The deprecated `fail_open: true`. Kept apart from [`FailurePolicy::FailOpen`]: with it, the
    /// very request that trapped passes too.
    pub fail_open: bool,
    /// What happens to requests once the VM has failed. UNSPECIFIED = fail closed.
    pub failure_policy: FailurePolicy,
    /// `reload_config.backoff.base_interval` for [`FailurePolicy::FailReload`]. Default 1 s.
    pub reload_base_interval: Duration,
    /// Hostcalls and callbacks the plugin may use; `None` = all.
    pub allowed_capabilities: Option<BTreeSet<String>>,
    /// Whether Pause from a headers callback stops iteration as ABI 0.3 does. Default false.
    pub allow_on_headers_stop_iteration: bool,
}

/// `failure_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// Requests get 503 (default).
    #[default]
    FailClosed,
    /// Requests pass by the filter.
    FailOpen,
    /// A fresh VM is made, at most once a back-off interval.
    FailReload,
}

/// `envoy.extensions.wasm.v3.VmConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct VmConfig {
    /// Scope of shared data and queues.
    pub vm_id: String,
    /// As written; host-sim runs every module in its own engine.
    pub runtime: String,
    /// The module.
    pub code: DataSource,
    /// What `proxy_on_vm_start` reads; part of the VM's identity.
    pub configuration: Configuration,
    /// WASI environment.
    pub environment: Environment,
    /// Accepted and of no effect: native code in a module is never used.
    pub allow_precompiled: bool,
}

/// `environment_variables`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Taken over from the process, when set there.
    pub host_env_keys: Vec<String>,
    /// Given literally.
    pub key_values: BTreeMap<String, String>,
}

/// An `Any`, reduced to the bytes Envoy hands to the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// What the module reads.
    pub bytes: Vec<u8>,
    /// Where the bytes come from.
    pub kind: ConfigurationKind,
}

/// What a [`Configuration`] was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfigurationKind {
    /// No configuration: no bytes.
    #[default]
    Absent,
    /// `StringValue`: the string.
    String,
    /// `BytesValue`: the bytes.
    Bytes,
    /// `Struct`: the serialized protobuf message, which is *not* JSON.
    Struct,
}

/// `envoy.extensions.wasm.v3.WasmService`.
#[derive(Debug, Clone, PartialEq)]
pub struct WasmService {
    /// The plugin it runs.
    pub plugin: PluginConfig,
    /// One VM on the main thread, instead of one a worker. Default false.
    pub singleton: bool,
}
