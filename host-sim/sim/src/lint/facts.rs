//! What a bootstrap says about its plugins, as far as lints care.

use super::finding::Finding;
use super::module::Module;
use super::rules::rule;
use host_sim_bootstrap::{
    Bootstrap, ConfigurationKind, DataSource, HttpFilter, HttpFilterConfig, PluginConfig,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Plugins by name, and what they can reach.
#[derive(Debug, Default)]
pub(super) struct Facts {
    plugins: BTreeMap<String, PluginFacts>,
    clusters: Vec<String>,
    /// Addresses of their endpoints.
    endpoints: Vec<String>,
    /// What is wrong before anything runs.
    pub(super) findings: Vec<Finding>,
}

/// One plugin.
#[derive(Debug, Default)]
pub(super) struct PluginFacts {
    /// Plugins of one VM have one number.
    pub(super) vm: usize,
    pub(super) vm_id: String,
    /// `allow_on_headers_stop_iteration`.
    pub(super) stops_iteration: bool,
    /// It has a configuration that is not empty.
    pub(super) configured: bool,
    module: Option<Module>,
}

impl PluginFacts {
    /// Whether its module has a callback; true if the module is not known.
    pub(super) fn has(&self, callback: &str) -> bool {
        self.module.as_ref().is_none_or(|module| module.exports(callback))
    }
}

impl Facts {
    /// Reads the modules, too; one that cannot be read is the engine's to refuse.
    pub(super) fn of(bootstrap: &Bootstrap, base_dir: Option<&Path>) -> Self {
        let clusters = bootstrap.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        let endpoints = bootstrap.clusters.iter().flat_map(|cluster| &cluster.endpoints);
        let endpoints = endpoints.map(|endpoint| endpoint.address.to_string()).collect();
        let mut facts = Self { clusters, endpoints, ..Self::default() };
        let mut vms = Vec::new();
        let listeners = bootstrap.listeners.iter();
        for listener in listeners {
            let http = listener.http().map(|manager| manager.http_filters.as_slice());
            for config in wasm(http.unwrap_or_default()).chain(&listener.network_filters) {
                facts.add(config, base_dir, true, &mut vms);
            }
        }
        for cluster in &bootstrap.clusters {
            for config in wasm(&cluster.http.http_filters) {
                facts.add(config, base_dir, true, &mut vms);
            }
        }
        for service in &bootstrap.wasm_services {
            facts.add(&service.plugin, base_dir, false, &mut vms);
        }
        facts
    }

    fn add(
        &mut self,
        config: &PluginConfig,
        base_dir: Option<&Path>,
        filter: bool,
        vms: &mut Vec<(String, Vec<u8>, DataSource)>,
    ) {
        let key = (
            config.vm.vm_id.clone(),
            config.vm.configuration.bytes.clone(),
            config.vm.code.clone(),
        );
        let vm = vms.iter().position(|own| *own == key).unwrap_or_else(|| {
            vms.push(key);
            vms.len() - 1
        });
        let name = config.name.as_str();
        if self.plugins.contains_key(name) {
            return;
        }
        let bytes = read(&config.vm.code, base_dir);
        let module = bytes.and_then(|bytes| Module::of(&bytes).ok());
        if let Some(module) = &module {
            self.findings.extend(module.findings(name));
            self.findings.extend(module.as_filter(name).filter(|_| filter));
        }
        let configurations = [
            ("configuration", &config.configuration),
            ("VM's configuration", &config.vm.configuration),
        ];
        for (which, configuration) in configurations {
            if configuration.kind == ConfigurationKind::Struct {
                let message = format!(
                    "the {which} is a Struct: the module gets {} bytes of protobuf",
                    configuration.bytes.len()
                );
                self.findings.extend(
                    rule("struct-configuration").map(|rule| Finding::fixed(rule, name, message)),
                );
            }
        }
        let plugin = PluginFacts {
            vm,
            vm_id: config.vm.vm_id.clone(),
            stops_iteration: config.allow_on_headers_stop_iteration,
            configured: !config.configuration.bytes.is_empty(),
            module,
        };
        self.plugins.insert(name.to_owned(), plugin);
    }

    /// The plugin of that name.
    pub(super) fn plugin(&self, name: &str) -> Option<&PluginFacts> {
        self.plugins.get(name)
    }

    /// Every plugin.
    pub(super) fn plugins(&self) -> impl Iterator<Item = (&String, &PluginFacts)> {
        self.plugins.iter()
    }

    /// Whether a value is one of the few that the bootstrap names: no client has made it up.
    pub(super) fn names(&self, value: &[u8]) -> bool {
        self.has_cluster(value) || self.endpoints.iter().any(|own| own.as_bytes() == value)
    }

    /// Whether the bootstrap has a cluster of that name.
    pub(super) fn has_cluster(&self, name: &[u8]) -> bool {
        self.clusters.iter().any(|own| own.as_bytes() == name)
    }
}

fn wasm(filters: &[HttpFilter]) -> impl Iterator<Item = &PluginConfig> {
    filters.iter().filter_map(|filter| match &filter.config {
        HttpFilterConfig::Wasm(config) => Some(&**config),
        _ => None,
    })
}

fn read(source: &DataSource, base_dir: Option<&Path>) -> Option<Vec<u8>> {
    match source {
        DataSource::Inline(bytes) => Some(bytes.clone()),
        DataSource::File(path) => {
            std::fs::read(base_dir.map_or_else(|| path.clone(), |base| base.join(path))).ok()
        }
        DataSource::Environment(name) => std::env::var(name).ok().map(String::into_bytes),
    }
}
