//! Filters whose configuration comes from a file and may change: `config_discovery` with a
//! `path_config_source`, and the discovery responses in such a file.

use std::fmt;
use std::path::PathBuf;

use crate::reader::{Message, Reader, read_document};
use crate::wasm::PLUGIN_CONFIG;
use crate::{PluginConfig, Problems, document};

/// `envoy.config.core.v3.ExtensionConfigSource` of an HTTP filter. The filter's name is the name of
/// the resource.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigDiscovery {
    /// `config_source.path_config_source.path`: the file with the discovery response.
    pub path: PathBuf,
    /// What runs until the first response is accepted. Without it, requests get 500 until then.
    pub default: Option<Box<PluginConfig>>,
}

/// An `ExtensionConfigDS` response with the configuration of one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// `version_info`.
    pub version: String,
    /// The plugin.
    pub plugin: PluginConfig,
}

/// Why a response is of no use. Envoy counts the two apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryError {
    /// It cannot be read: `update_failure`.
    Failed(String),
    /// It can be read, and not accepted: `update_rejected`.
    Rejected(String),
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) | Self::Rejected(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for DiscoveryError {}

/// Reads a discovery response in YAML or JSON, for the filter of that name.
pub fn read_discovered(text: &str, name: &str) -> Result<Discovered, DiscoveryError> {
    let document = document::parse(text)
        .map_err(|problems| DiscoveryError::Failed(Problems(problems).to_string()))?;
    let rejected = DiscoveryError::Rejected;
    let resources = document.get("resources").and_then(|resources| resources.as_array());
    let count = resources.map_or(0, Vec::len);
    let read = read_document(&document, RESPONSE);
    if count != 1 {
        let text = "Unexpected number of resources in ExtensionConfigDS response";
        return Err(rejected(format!("{text}: {count}")));
    }
    let (version, mut resources) =
        read.map_err(|problems| rejected(Problems(problems).to_string()))?;
    match resources.pop() {
        Some((found, plugin)) if found == name => Ok(Discovered { version, plugin }),
        found => {
            let found = found.map(|(found, _)| found).unwrap_or_default();
            let text = "Unexpected resource name in ExtensionConfigDS response";
            Err(rejected(format!("{text}: {found}; the filter is named '{name}'")))
        }
    }
}

pub(crate) const CONFIG_DISCOVERY: Message<ConfigDiscovery> = Message {
    name: "envoy.config.core.v3.ExtensionConfigSource",
    read: |message| {
        message.accept(&["apply_default_config_without_warming"]);
        for (index, url) in message.texts("type_urls").iter().enumerate() {
            if url.rsplit('/').next() != Some(WASM.name) {
                let text = format!("'{url}' is not simulated by host-sim; only '{}' is", WASM.name);
                message.problem_at(&format!("type_urls[{index}]"), text);
            }
        }
        if message.count("type_urls") == 0 {
            message.problem(format!("'type_urls' must name '{}'", WASM.name));
        }
        let default = message.any("default_config", &[WASM]).map(Box::new);
        let path = message.required("config_source", CONFIG_SOURCE)?;
        Some(ConfigDiscovery { path, default })
    },
};

const CONFIG_SOURCE: Message<PathBuf> = Message {
    name: "envoy.config.core.v3.ConfigSource",
    read: |message| {
        message.accept(&["initial_fetch_timeout", "resource_api_version"]);
        message.required("path_config_source", PATH)
    },
};

/// The file is looked at through symbolic links, so that a directory to watch says nothing new.
const PATH: Message<PathBuf> = Message {
    name: "envoy.config.core.v3.PathConfigSource",
    read: |message| {
        message.accept(&["watched_directory"]);
        message.required_text("path").map(PathBuf::from)
    },
};

const WASM: Message<PluginConfig> = Message {
    name: "envoy.extensions.filters.http.wasm.v3.Wasm",
    read: |message| message.required("config", PLUGIN_CONFIG),
};

const RESPONSE: Message<(String, Vec<(String, PluginConfig)>)> = Message {
    name: "envoy.service.discovery.v3.DiscoveryResponse",
    read: |message| {
        message.accept(&["canary", "type_url", "nonce", "control_plane"]);
        Some((message.text("version_info"), message.list("resources", RESOURCE)))
    },
};

const RESOURCE: Message<(String, PluginConfig)> =
    Message { name: "envoy.config.core.v3.TypedExtensionConfig", read: resource };

fn resource(message: &mut Reader<'_>) -> Option<(String, PluginConfig)> {
    let name = message.required_text("name");
    let plugin = message.extension("typed_config", &[WASM]);
    Some((name?, plugin?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str = r#"
version_info: "7"
resources:
- "@type": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig
  name: limits
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config: {name: p, vm_config: {code: {local: {filename: p.wasm}}}}
"#;

    #[test]
    fn a_response_for_the_filter_is_read() {
        let found = read_discovered(RESPONSE, "limits").unwrap();
        assert_eq!((found.version.as_str(), found.plugin.name.as_str()), ("7", "p"));
    }

    #[test]
    fn what_is_no_yaml_has_failed_and_what_does_not_fit_is_rejected() {
        let rejected = |text: &str| match read_discovered(text, "limits") {
            Err(DiscoveryError::Rejected(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(matches!(read_discovered("x: [", "limits"), Err(DiscoveryError::Failed(_))));
        assert!(rejected("resources: []").ends_with("response: 0"));
        assert!(rejected("{}").ends_with("response: 0"));
        let other = RESPONSE.replace("name: limits", "name: other");
        assert!(rejected(&other).contains("response: other; the filter is named 'limits'"));
        let misspelt = RESPONSE.replace("vm_config", "vm_confi");
        assert!(rejected(&misspelt).contains("did you mean 'vm_config'?"));
    }
}
