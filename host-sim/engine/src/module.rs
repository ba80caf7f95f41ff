//! Compiled modules, one compilation per process and code.
//!
//! Compiling takes most of a second; a test binary starts dozens of engines over the same four
//! modules. wasmtime can keep compiled code on disk, but loading it is `unsafe` (the file is
//! trusted as code), and this crate has no unsafe code: so the cache lives in memory, keyed by the
//! SHA-256 of the code.

use host_sim_abi::AbiVersion;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use wasmtime::{Config, ExternType, Module};

/// SHA-256 of a module's bytes.
pub(crate) type CodeHash = [u8; 32];

/// A module that Envoy would load.
#[derive(Clone)]
pub(crate) struct Compiled {
    pub(crate) module: Module,
    pub(crate) abi: AbiVersion,
    pub(crate) hash: CodeHash,
}

/// Instrumented and plain code do not mix: one wasmtime engine each.
struct Compiler {
    engine: wasmtime::Engine,
    modules: HashMap<CodeHash, Module>,
}

static PLAIN: LazyLock<Result<Mutex<Compiler>, String>> = LazyLock::new(|| Compiler::new(false));
static METERED: LazyLock<Result<Mutex<Compiler>, String>> = LazyLock::new(|| Compiler::new(true));

impl Compiler {
    fn new(fuel: bool) -> Result<Mutex<Self>, String> {
        let mut config = Config::new();
        config.consume_fuel(fuel);
        // As deep as V8's default stack, so that recursion fails where it fails in Envoy.
        config.max_wasm_stack(984 * 1024);
        config.relaxed_simd_deterministic(true);
        let engine = wasmtime::Engine::new(&config).map_err(|e| format!("{e:#}"))?;
        Ok(Mutex::new(Self { engine, modules: HashMap::new() }))
    }
}

/// Compiles, or finds what was compiled before, and checks what Envoy checks at load.
pub(crate) fn compile(code: &[u8], fuel: bool) -> Result<Compiled, String> {
    let hash: CodeHash = Sha256::digest(code).into();
    let compiler = if fuel { &*METERED } else { &*PLAIN };
    let compiler = compiler.as_ref().map_err(Clone::clone)?;
    let mut compiler = compiler.lock().unwrap_or_else(PoisonError::into_inner);
    let module = if let Some(module) = compiler.modules.get(&hash) {
        module.clone()
    } else {
        let module = Module::new(&compiler.engine, code)
            .map_err(|e| format!("Failed to load Wasm code: {e:#}"))?;
        compiler.modules.insert(hash, module.clone());
        module
    };
    let abi = AbiVersion::detect(module.exports().map(|export| export.name()))
        .ok_or("Missing or unknown Proxy-Wasm ABI version")?;
    if !module.exports().any(|e| matches!(e.ty(), ExternType::Memory(_))) {
        return Err("the module exports no memory; Envoy aborts on such a module".to_owned());
    }
    Ok(Compiled { module, abi, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1")))"#;

    #[test]
    fn equal_code_is_compiled_once() {
        let code = wat::parse_str(MINIMAL).unwrap();
        let (a, b) = (compile(&code, false).unwrap(), compile(&code, false).unwrap());
        assert_eq!(a.hash, b.hash);
        assert_eq!(a.module.image_range(), b.module.image_range());
    }

    #[test]
    fn a_module_without_a_known_marker_is_refused_in_envoys_words() {
        let code = wat::parse_str(MINIMAL.replace("0_2_1", "0_2_100")).unwrap();
        let error = compile(&code, false).err().unwrap();
        assert_eq!(error, "Missing or unknown Proxy-Wasm ABI version");
    }

    #[test]
    fn a_module_that_hides_its_memory_is_refused() {
        let code = wat::parse_str(MINIMAL.replace("(export \"memory\")", "")).unwrap();
        assert!(compile(&code, false).err().unwrap().contains("exports no memory"));
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert!(compile(b"nonsense", false).err().unwrap().starts_with("Failed to load"));
    }
}
