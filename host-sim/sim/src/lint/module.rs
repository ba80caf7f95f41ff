//! What is wrong with a module before it runs: what Envoy would refuse, and what it would never
//! call.

use super::finding::Finding;
use super::rules::rule;
use host_sim_abi::{AbiVersion, HOSTCALLS, Hostcall};
use std::collections::BTreeSet;
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

/// Exports by which a module is called.
const CALLBACK: &str = "proxy_on_";

/// Callbacks of a stream.
const STREAM_CALLBACKS: [&str; 15] = [
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
    "proxy_on_request_metadata",
    "proxy_on_response_metadata",
    "proxy_on_log",
    "proxy_on_done",
];

/// So many of them come from an SDK, which exports all it has.
const SDKS: usize = 20;

/// All of WASI's preview 1.
const WASI: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// What Envoy has in `env` besides the ABI.
const EXTRAS: [&str; 3] = ["pthread_equal", "emscripten_notify_memory_growth", "envoy_resolve_dns"];

/// What a module imports and exports.
#[derive(Clone, Debug, Default)]
pub(super) struct Module {
    imports: Vec<Import>,
    functions: BTreeSet<String>,
    memory: bool,
}

#[derive(Clone, Debug)]
struct Import {
    module: String,
    name: String,
    /// One letter a parameter, as [`Hostcall::params`], then the results; `None` if it is no
    /// function.
    shape: Option<(String, String)>,
}

impl Module {
    /// Reads a binary module.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, String> {
        let mut module = Self::default();
        let mut types: Vec<Option<FuncType>> = Vec::new();
        let text = |error: wasmparser::BinaryReaderError| error.to_string();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(text)? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group.map_err(text)?.into_types() {
                            types.push(match ty.composite_type.inner {
                                wasmparser::CompositeInnerType::Func(function) => Some(function),
                                _ => None,
                            });
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(text)?;
                        let shape = match import.ty {
                            TypeRef::Func(at) | TypeRef::FuncExact(at) => {
                                types.get(at as usize).and_then(Option::as_ref).map(|function| {
                                    (letters(function.params()), letters(function.results()))
                                })
                            }
                            _ => None,
                        };
                        module.imports.push(Import {
                            module: import.module.to_owned(),
                            name: import.name.to_owned(),
                            shape,
                        });
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(text)?;
                        match export.kind {
                            ExternalKind::Memory => module.memory = true,
                            ExternalKind::Func | ExternalKind::FuncExact => {
                                module.functions.insert(export.name.to_owned());
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// Whether it exports a function.
    pub(super) fn exports(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    fn imports(&self, name: &str) -> bool {
        self.imports.iter().any(|import| import.name == name)
    }

    fn callbacks(&self) -> impl Iterator<Item = &String> {
        self.functions.iter().filter(|name| name.starts_with(CALLBACK))
    }

    /// What is wrong with it, whatever it is used for.
    pub(super) fn findings(&self, plugin: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut find = |lint: &str, message: String| {
            found.extend(rule(lint).map(|rule| Finding::fixed(rule, plugin, message)));
        };
        let abi = AbiVersion::detect(self.functions.iter().map(String::as_str));
        if abi.is_none() {
            find("abi-marker", self.marker());
        }
        if !self.memory {
            find("no-memory", "the module exports no memory".to_owned());
        }
        if !self.exports("malloc") && !self.exports("proxy_on_memory_allocate") {
            let message = "the module exports neither malloc nor proxy_on_memory_allocate";
            find("no-allocator", message.to_owned());
        }
        let abi = abi.unwrap_or(AbiVersion::V0_2_1);
        for import in &self.imports {
            match import.fault(abi) {
                Some(Fault::Unknown(message)) => find("unknown-import", message),
                Some(Fault::Signature(message)) => find("import-signature", message),
                None => {}
            }
        }
        let count = self.callbacks().count();
        if count == 0 {
            find("no-callbacks", "the module exports no callback".to_owned());
        }
        // An SDK exports every callback it has.
        if count < SDKS {
            for (callback, hostcalls) in LED_TO {
                if self.exports(callback) && !hostcalls.iter().any(|name| self.imports(name)) {
                    let names = hostcalls.join(" and ");
                    find("unused-callback", format!("{callback} is exported, {names} not used"));
                }
            }
        }
        found
    }

    /// What is wrong with it as a filter of streams.
    pub(super) fn as_filter(&self, plugin: &str) -> Option<Finding> {
        let has_any = STREAM_CALLBACKS.iter().any(|name| self.exports(name));
        let rule = rule("no-stream-callbacks").filter(|_| !has_any)?;
        let has: Vec<_> = self.callbacks().map(String::as_str).collect();
        if has.is_empty() {
            return None;
        }
        Some(Finding::fixed(rule, plugin, format!("it exports {} only", has.join(", "))))
    }

    fn marker(&self) -> String {
        let prefix = "proxy_abi_version_";
        match self.functions.iter().find(|name| name.starts_with(prefix)) {
            Some(name) if name.ends_with("_0_2_100") => {
                format!("the module's marker is {name}: that is Higress's dialect")
            }
            Some(name) => format!("the module's marker is {name}, which Envoy does not know"),
            None => format!("the module exports no {prefix}*: Envoy takes it for no plugin"),
        }
    }
}

/// Callbacks, and the hostcalls without which they never run.
const LED_TO: [(&str, &[&str]); 6] = [
    ("proxy_on_tick", &["proxy_set_tick_period_milliseconds"]),
    ("proxy_on_queue_ready", &["proxy_register_shared_queue"]),
    ("proxy_on_http_call_response", &["proxy_http_call"]),
    ("proxy_on_grpc_receive", &["proxy_grpc_call", "proxy_grpc_stream"]),
    ("proxy_on_grpc_close", &["proxy_grpc_call", "proxy_grpc_stream"]),
    ("proxy_on_grpc_receive_initial_metadata", &["proxy_grpc_stream"]),
];

enum Fault {
    Unknown(String),
    Signature(String),
}

impl Import {
    fn fault(&self, abi: AbiVersion) -> Option<Fault> {
        let full = format!("{}.{}", self.module, self.name);
        let Some((params, results)) = &self.shape else {
            return Some(Fault::Unknown(format!("{full} is imported, and no function")));
        };
        match self.module.as_str() {
            "env" => match Hostcall::named(&self.name) {
                Some(call) if !call.is_in(abi) => Some(Fault::Unknown(format!(
                    "{full} is not in the ABI of the module's marker, {}",
                    abi.marker()
                ))),
                Some(call) => {
                    let wanted = "i";
                    let fits = params == call.params && results == wanted;
                    (!fits).then(|| {
                        let own = signature(params, results);
                        let right = signature(call.params, wanted);
                        Fault::Signature(format!("{full} is {own} in the ABI's {right}"))
                    })
                }
                None if EXTRAS.contains(&self.name.as_str()) => None,
                None => {
                    let names = HOSTCALLS.iter().map(|call| call.name).chain(EXTRAS);
                    Some(Fault::Unknown(unknown(&full, &self.name, names)))
                }
            },
            "wasi_snapshot_preview1" | "wasi_unstable" => {
                let known = WASI.contains(&self.name.as_str());
                (!known).then(|| Fault::Unknown(unknown(&full, &self.name, WASI)))
            }
            other => Some(Fault::Unknown(format!(
                "{full}: nothing is imported from {other:?}, but from env and wasi_snapshot_preview1"
            ))),
        }
    }
}

fn unknown(full: &str, name: &str, known: impl IntoIterator<Item = &'static str>) -> String {
    let near = known.into_iter().map(|own| (distance(name, own), own)).min();
    match near {
        Some((far, own)) if far <= 1 + name.len() / 4 => {
            format!("{full} is unknown; did you mean {own}?")
        }
        _ => format!("{full} is unknown"),
    }
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.chars().enumerate() {
        let mut above_left = at;
        row[0] = at + 1;
        for (column, right) in b.iter().enumerate() {
            let above = row[column + 1];
            let changed = above_left + usize::from(left != *right);
            row[column + 1] = changed.min(above + 1).min(row[column] + 1);
            above_left = above;
        }
    }
    row[b.len()]
}

fn letters(types: &[ValType]) -> String {
    let letter = |ty: &ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        ValType::F32 => 'f',
        ValType::F64 => 'F',
        _ => '?',
    };
    types.iter().map(letter).collect()
}

fn signature(params: &str, results: &str) -> String {
    let words = |letters: &str| {
        let word = |letter| match letter {
            'i' => "i32",
            'I' => "i64",
            'f' => "f32",
            'F' => "f64",
            _ => "ref",
        };
        letters.chars().map(word).collect::<Vec<_>>().join(" ")
    };
    format!("({}) -> ({})", words(params), words(results))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lints(text: &str) -> Vec<(&'static str, String)> {
        let module = Module::of(&wat::parse_str(text).unwrap()).unwrap();
        module.findings("p").into_iter().map(|found| (found.lint, found.message)).collect()
    }

    const GOOD: &str = r#"(func (export "proxy_abi_version_0_2_1"))
        (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_log") (param i32))"#;

    #[test]
    fn a_good_module_has_no_findings() {
        assert_eq!(lints(&format!("(module {GOOD})")), []);
    }

    #[test]
    fn an_unknown_import_is_named_with_the_one_that_was_meant() {
        let text = format!(
            r#"(module (import "env" "proxy_get_header_value" (func (param i32) (result i32))) {GOOD})"#
        );
        let found = lints(&text);
        assert_eq!(found[0].0, "unknown-import");
        assert!(found[0].1.ends_with("did you mean proxy_get_header_map_value?"), "{found:?}");
    }

    #[test]
    fn what_came_later_is_unknown_to_an_older_module() {
        let old = GOOD.replace("0_2_1", "0_2_0");
        let text = format!(
            r#"(module (import "env" "proxy_get_log_level" (func (param i32) (result i32))) {old})"#
        );
        assert!(lints(&text)[0].1.contains("proxy_abi_version_0_2_0"));
    }

    #[test]
    fn a_wrong_signature_is_shown_beside_the_right_one() {
        let text = format!(
            r#"(module (import "env" "proxy_log" (func (param i32 i32) (result i32))) {GOOD})"#
        );
        let found = lints(&text);
        assert_eq!(found[0].0, "import-signature");
        assert!(found[0].1.contains("(i32 i32) -> (i32)"), "{found:?}");
    }

    #[test]
    fn an_empty_module_lacks_everything() {
        let names: Vec<_> = lints("(module)").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["abi-marker", "no-memory", "no-allocator", "no-callbacks"]);
    }
}
