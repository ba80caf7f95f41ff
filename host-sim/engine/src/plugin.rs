//! A plugin as the file configures it: code, VM key, root.

use crate::base::{Base, Bases, PluginKey};
use crate::module::{self, CodeHash, Compiled, Instrumentation};
use crate::vm::VmState;
use crate::{EngineOptions, hostcalls};
use host_sim_bootstrap::{DataSource, FailurePolicy, PluginConfig};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use wasmtime::{InstancePre, Linker};

/// Identity of a VM: plugins with equal keys share one VM a thread.
pub(crate) type VmKey = [u8; 32];

/// A plugin of the bootstrap; equal configurations are one plugin.
pub(crate) struct Plugin {
    pub(crate) config: PluginConfig,
    pub(crate) code: Compiled,
    pub(crate) vm_key: VmKey,
    /// The whole configuration's identity.
    pub(crate) key: PluginKey,
    /// Kept alive for as long as the plugin is in use anywhere.
    pub(crate) base: Arc<Base>,
    /// WASI environment, host variables resolved.
    pub(crate) environment: Vec<(String, String)>,
    /// `wasm log <name> <root_id> <vm_id>: `, without the name for root contexts, as Envoy has it.
    pub(crate) stream_prefix: String,
    pub(crate) root_prefix: String,
    /// A `WasmService` of the main thread only.
    pub(crate) singleton: bool,
    /// The module with its imports resolved: the same for every VM, and a good part of the cost of
    /// starting one.
    linked: OnceLock<Result<InstancePre<VmState>, String>>,
}

impl Plugin {
    /// Reads and compiles the plugin's module.
    pub(crate) fn load(
        config: &PluginConfig,
        options: &EngineOptions,
        singleton: bool,
        bases: &Bases,
    ) -> Result<Self, String> {
        let code = read(&config.vm.code, options.base_dir.as_deref())?;
        let instrumentation = Instrumentation::of(options.fuel, &options.limits);
        let code = module::compile(&code, instrumentation, &options.module_cache)?;
        let vm_key = vm_key(config, &code.hash);
        let (name, root_id, vm_id) = (&config.name, &config.root_id, &config.vm.vm_id);
        let join = |parts: &[&String]| {
            let mut prefix = "wasm log".to_owned();
            for part in parts.iter().filter(|part| !part.is_empty()) {
                prefix.push(' ');
                prefix.push_str(part);
            }
            prefix.push_str(": ");
            prefix
        };
        Ok(Self {
            stream_prefix: join(&[name, root_id, vm_id]),
            root_prefix: join(&[root_id, vm_id]),
            environment: environment(config),
            key: plugin_key(config, &code.hash),
            base: bases.of(vm_key, &config.vm.vm_id),
            vm_key,
            code,
            config: config.clone(),
            singleton,
            linked: OnceLock::new(),
        })
    }

    /// The same plugin in another engine: nothing is shared but code.
    pub(crate) fn again(&self, bases: &Bases) -> Self {
        Self {
            config: self.config.clone(),
            code: self.code.clone(),
            vm_key: self.vm_key,
            key: self.key,
            base: bases.of(self.vm_key, &self.config.vm.vm_id),
            environment: self.environment.clone(),
            stream_prefix: self.stream_prefix.clone(),
            root_prefix: self.root_prefix.clone(),
            singleton: self.singleton,
            linked: self.linked.clone(),
        }
    }

    /// The module with its imports resolved.
    pub(crate) fn linked(&self) -> Result<&InstancePre<VmState>, String> {
        let link = || {
            let mut linker = Linker::new(self.code.module.engine());
            hostcalls::link(&mut linker, self).map_err(|e| format!("{e:#}"))?;
            let linked = linker.instantiate_pre(&self.code.module);
            linked.map_err(|e| format!("Failed to load Wasm module: {e:#}"))
        };
        self.linked.get_or_init(link).as_ref().map_err(Clone::clone)
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn vm_id(&self) -> &str {
        &self.config.vm.vm_id
    }

    /// Whether requests pass by the plugin once its VM has failed.
    pub(crate) fn is_open(&self) -> bool {
        self.config.fail_open || self.config.failure_policy == FailurePolicy::FailOpen
    }

    /// Whether a hostcall or callback may be used.
    pub(crate) fn allows(&self, capability: &str) -> bool {
        self.config.allowed_capabilities.as_ref().is_none_or(|set| set.contains(capability))
    }
}

/// Envoy's `makeVmKey`: `vm_id`, VM configuration and code. Variables and capabilities, too, part
/// VMs that are alike otherwise: as they are written, so that a variable taken over from the host
/// and the same one spelled out make two VMs.
fn vm_key(config: &PluginConfig, code: &CodeHash) -> VmKey {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(config.vm.vm_id.as_bytes());
    part(&config.vm.configuration.bytes);
    part(code);
    part(format!("{:?}", config.vm.environment).as_bytes());
    part(format!("{:?}", config.allowed_capabilities).as_bytes());
    hash.finalize().into()
}

/// Everything a configuration says, its code by its hash.
fn plugin_key(config: &PluginConfig, code: &CodeHash) -> PluginKey {
    let mut lean = config.clone();
    lean.vm.code = DataSource::Inline(Vec::new());
    let mut hash = Sha256::new();
    hash.update(format!("{lean:?}"));
    hash.update(code);
    hash.finalize().into()
}

fn environment(config: &PluginConfig) -> Vec<(String, String)> {
    let host = config.vm.environment.host_env_keys.iter();
    let host = host.filter_map(|key| Some((key.clone(), std::env::var(key).ok()?)));
    let literal = config.vm.environment.key_values.iter();
    host.chain(literal.map(|(key, value)| (key.clone(), value.clone()))).collect()
}

fn read(source: &DataSource, base_dir: Option<&Path>) -> Result<Arc<[u8]>, String> {
    match source {
        DataSource::Inline(bytes) => Ok(bytes.as_slice().into()),
        DataSource::File(path) => {
            let path = base_dir.map_or_else(|| path.clone(), |base| base.join(path));
            std::fs::read(&path)
                .map(Into::into)
                .map_err(|e| format!("cannot read module {}: {e}", path.display()))
        }
        DataSource::Environment(name) => {
            let value = std::env::var(name);
            let value = value.map_err(|_| format!("environment variable {name} is not set"))?;
            Ok(value.into_bytes().into())
        }
    }
}
