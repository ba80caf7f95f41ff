//! What can be read from a module without running it.

use host_sim_abi::{AbiVersion, Hostcall};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use wasmparser::{KnownCustom, Parser, Payload, ProducersSectionReader, TypeRef};

/// A module.
#[derive(Debug, Default, Serialize)]
pub(super) struct Facts {
    /// Bytes.
    pub(super) size: usize,
    /// Hash of the file, as `WasmPlugin.sha256` and remote code sources want it.
    pub(super) sha256: String,
    /// The newest `proxy_abi_version_*` export, without the prefix; absent: no proxy-wasm module.
    pub(super) abi: Option<String>,
    /// Text of the custom section `version`, if the module has one.
    pub(super) version: Option<String>,
    /// What made it, by field of the `producers` section.
    pub(super) producers: BTreeMap<String, Vec<String>>,
    /// What it wants from its host.
    pub(super) imports: Vec<Import>,
    /// What it offers its host: names of functions, memories, tables and globals.
    pub(super) exports: Vec<String>,
    /// Its sections in file order.
    pub(super) sections: Vec<Section>,
    /// What Envoy would refuse, or never call.
    pub(super) findings: Vec<host_sim::lint::Finding>,
}

/// One import.
#[derive(Debug, Serialize)]
pub(super) struct Import {
    /// `env`, `wasi_snapshot_preview1`.
    pub(super) module: String,
    /// Its name.
    pub(super) name: String,
    /// Whether a proxy-wasm host with the module's ABI has it.
    pub(super) known: bool,
}

/// One section.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    /// `code`, `data`, or the name of a custom section.
    pub(super) name: String,
    /// Bytes of its content.
    pub(super) size: usize,
}

impl Facts {
    /// Reads a binary module.
    pub(super) fn of(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut facts = Self {
            size: bytes.len(),
            sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            ..Self::default()
        };
        for payload in Parser::new(0).parse_all(bytes) {
            facts.take(&payload?)?;
        }
        let abi = AbiVersion::detect(facts.exports.iter().map(String::as_str));
        facts.abi =
            abi.map(|abi| abi.marker().trim_start_matches("proxy_abi_version_").replace('_', "."));
        for import in &mut facts.imports {
            import.known = is_known(import, abi.unwrap_or(AbiVersion::V0_2_1));
        }
        Ok(facts)
    }

    fn take(&mut self, payload: &Payload<'_>) -> anyhow::Result<()> {
        if let Some((id, range)) = payload.as_section() {
            let name = match payload {
                Payload::CustomSection(section) => section.name().to_owned(),
                _ => SECTIONS.get(usize::from(id)).copied().unwrap_or("unknown").to_owned(),
            };
            self.sections.push(Section { name, size: range.end - range.start });
        }
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    let is_function = matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
                    self.imports.push(Import {
                        module: import.module.to_owned(),
                        name: import.name.to_owned(),
                        known: is_function,
                    });
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(export?.name.to_owned());
                }
            }
            Payload::CustomSection(section) => match section.as_known() {
                KnownCustom::Producers(producers) => self.take_producers(producers)?,
                _ if section.name() == "version" => {
                    self.version = Some(String::from_utf8_lossy(section.data()).into_owned());
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn take_producers(&mut self, producers: ProducersSectionReader<'_>) -> anyhow::Result<()> {
        for field in producers {
            let field = field?;
            let values = self.producers.entry(field.name.to_owned()).or_default();
            for value in field.values {
                let value = value?;
                values.push(format!("{} {}", value.name, value.version).trim().to_owned());
            }
        }
        Ok(())
    }
}

fn is_known(import: &Import, abi: AbiVersion) -> bool {
    import.known
        && match import.module.as_str() {
            "env" => Hostcall::named(&import.name).is_some_and(|hostcall| hostcall.is_in(abi)),
            // All of preview 1 is linked, under both names.
            "wasi_snapshot_preview1" | "wasi_unstable" => true,
            _ => false,
        }
}

/// Names of sections by their number.
const SECTIONS: [&str; 14] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data_count",
    "tag",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> Facts {
        Facts::of(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn the_abi_is_the_first_marker_as_in_envoy() {
        let text = r#"(module (func (export "proxy_abi_version_0_2_0"))
            (func (export "proxy_abi_version_0_2_1")))"#;
        assert_eq!(facts(text).abi.as_deref(), Some("0.2.0"));
        assert_eq!(facts("(module)").abi, None);
    }

    #[test]
    fn an_import_that_no_host_has_is_marked() {
        let text = r#"(module (func (export "proxy_abi_version_0_2_1"))
            (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
            (import "env" "proxy_fly" (func))
            (import "wasi_snapshot_preview1" "fd_write" (func)))"#;
        let text = text.replacen("(func (export \"proxy_abi_version_0_2_1\"))", "", 1);
        let known: Vec<_> = facts(&text).imports.iter().map(|import| import.known).collect();
        assert_eq!(known, [true, false, true]);
    }

    #[test]
    fn sections_and_hash_describe_the_file() {
        let found = facts("(module (memory (export \"memory\") 1) (@custom \"version\" \"1.2\"))");
        assert_eq!(found.version.as_deref(), Some("1.2"));
        let names: Vec<_> = found.sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, ["memory", "export", "version"]);
        assert_eq!((found.sha256.len(), found.exports), (64, vec!["memory".to_owned()]));
    }

    #[test]
    fn text_is_no_module() {
        assert!(Facts::of(b"static_resources:").is_err());
    }
}
