//! `envoy.extensions.wasm.v3`: plugins, their VMs, and the bootstrap's `WasmService`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::DataSource;
use crate::reader::{Message, Reader};
use crate::tls::DATA_SOURCE;
use crate::well_known::{Configuration, WELL_KNOWN};

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

/// `envoy.extensions.wasm.v3.WasmService`.
#[derive(Debug, Clone, PartialEq)]
pub struct WasmService {
    /// The plugin it runs.
    pub plugin: PluginConfig,
    /// One VM on the main thread, instead of one a worker. Default false.
    pub singleton: bool,
}

pub(crate) const PLUGIN_CONFIG: Message<PluginConfig> =
    Message { name: "envoy.extensions.wasm.v3.PluginConfig", read: plugin_config };

pub(crate) const WASM_SERVICE: Message<WasmService> =
    Message { name: "envoy.extensions.wasm.v3.WasmService", read: wasm_service };

const VM_CONFIG: Message<(VmConfig, Option<BTreeSet<String>>)> =
    Message { name: "envoy.extensions.wasm.v3.VmConfig", read: vm_config };

const CODE: Message<DataSource> = Message {
    name: "envoy.config.core.v3.AsyncDataSource",
    read: |message| {
        message.one_of(&["local", "remote"], true);
        message.message("local", DATA_SOURCE)
    },
};

const ENVIRONMENT: Message<Environment> =
    Message { name: "envoy.extensions.wasm.v3.EnvironmentVariables", read: environment };

const RELOAD: Message<Duration> = Message {
    name: "envoy.extensions.wasm.v3.ReloadConfig",
    read: |message| message.message("backoff", BACK_OFF).or(Some(RELOAD_INTERVAL)),
};

const BACK_OFF: Message<Duration> = Message {
    name: "envoy.config.core.v3.BackoffStrategy",
    read: |message| {
        message.accept(&["max_interval"]);
        message.positive_duration("base_interval").or(Some(RELOAD_INTERVAL))
    },
};

const CAPABILITIES: Message<BTreeSet<String>> = Message {
    name: "envoy.extensions.wasm.v3.CapabilityRestrictionConfig",
    read: |message| {
        let allowed = message.map("allowed_capabilities", SANITIZATION);
        Some(allowed.into_iter().map(|(name, ())| name).collect())
    },
};

const SANITIZATION: Message<()> =
    Message { name: "envoy.extensions.wasm.v3.SanitizationConfig", read: |_| Some(()) };

/// Envoy's default for [`FailurePolicy::FailReload`].
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

fn plugin_config(message: &mut Reader<'_>) -> Option<PluginConfig> {
    let policies = [
        ("UNSPECIFIED", 0, Some(FailurePolicy::FailClosed)),
        ("FAIL_RELOAD", 1, Some(FailurePolicy::FailReload)),
        ("FAIL_CLOSED", 2, Some(FailurePolicy::FailClosed)),
        ("FAIL_OPEN", 3, Some(FailurePolicy::FailOpen)),
    ];
    let fail_open = message.flag("fail_open", false);
    if fail_open && message.has("failure_policy") {
        message.problem("only one of 'fail_open', 'failure_policy' may be set");
    }
    let failure_policy = message.choice("failure_policy", &policies);
    let vm = message.required("vm_config", VM_CONFIG);
    let capabilities = message.message("capability_restriction_config", CAPABILITIES);
    let reload = message.message("reload_config", RELOAD);
    let name = message.text("name");
    let root_id = message.text("root_id");
    let configuration = message.any("configuration", WELL_KNOWN).unwrap_or_default();
    let stop_iteration = message.flag("allow_on_headers_stop_iteration", false);
    let (vm, of_vm) = vm?;
    Some(PluginConfig {
        name,
        root_id,
        vm,
        configuration,
        fail_open,
        failure_policy: failure_policy?,
        reload_base_interval: reload.unwrap_or(RELOAD_INTERVAL),
        // An empty set restricts nothing, as in Envoy.
        allowed_capabilities: capabilities.or(of_vm).filter(|allowed| !allowed.is_empty()),
        allow_on_headers_stop_iteration: stop_iteration,
    })
}

fn vm_config(message: &mut Reader<'_>) -> Option<(VmConfig, Option<BTreeSet<String>>)> {
    // Of effect on remote code only, which is not simulated.
    message.accept(&["nack_on_code_cache_miss"]);
    let code = message.required("code", CODE);
    let runtime = message.text("runtime");
    if runtime == "envoy.wasm.runtime.null" {
        message.problem_at("runtime", "plugins compiled into Envoy are not simulated by host-sim");
    }
    let environment = message.message("environment_variables", ENVIRONMENT).unwrap_or_default();
    let capabilities = message.message("capability_restriction_config", CAPABILITIES);
    let vm = VmConfig {
        vm_id: message.text("vm_id"),
        runtime,
        configuration: message.any("configuration", WELL_KNOWN).unwrap_or_default(),
        environment,
        allow_precompiled: message.flag("allow_precompiled", false),
        code: code?,
    };
    Some((vm, capabilities))
}

fn environment(message: &mut Reader<'_>) -> Option<Environment> {
    let host_env_keys = message.texts("host_env_keys");
    let key_values: BTreeMap<String, String> = message.text_map("key_values").into_iter().collect();
    let mut seen = BTreeSet::new();
    for key in &host_env_keys {
        if key_values.contains_key(key) || !seen.insert(key) {
            message.problem_at("host_env_keys", format!("variable '{key}' is given twice"));
        }
    }
    Some(Environment { host_env_keys, key_values })
}

fn wasm_service(message: &mut Reader<'_>) -> Option<WasmService> {
    let singleton = message.flag("singleton", false);
    let plugin = message.required("config", PLUGIN_CONFIG)?;
    Some(WasmService { plugin, singleton })
}
