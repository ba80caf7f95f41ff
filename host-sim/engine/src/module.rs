//! Compiled modules, one compilation per code: in this process, and on disk for the next.
//!
//! Compiling takes most of a second; a test binary starts dozens of engines over the same four
//! modules. So modules are kept in memory, keyed by the SHA-256 of the code, and on disk in a
//! [`ModuleCache`].

use crate::stack::DebugInfo;
use crate::{Limits, ModuleCache};
use host_sim_abi::AbiVersion;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use wasmtime::{Config, ExternType, Module};

/// SHA-256 of a module's bytes.
pub(crate) type CodeHash = [u8; 32];

/// A module that Envoy would load.
#[derive(Clone)]
pub(crate) struct Compiled {
    pub(crate) module: Module,
    pub(crate) abi: AbiVersion,
    pub(crate) hash: CodeHash,
    pub(crate) source: Source,
    pub(crate) debug: Arc<DebugInfo>,
}

/// Where a compiled module came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Compiler,
    Disk,
    Memory,
}

/// What the code does besides what its author wrote. Code of two kinds does not mix: one wasmtime
/// engine each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Instrumentation {
    /// Counts instructions.
    pub(crate) fuel: bool,
    /// Looks at the clock: at wasmtime's epoch, which a thread moves on.
    pub(crate) deadline: bool,
}

impl Instrumentation {
    pub(crate) fn of(fuel: bool, limits: &Limits) -> Self {
        Self { fuel: fuel || limits.fuel.is_some(), deadline: limits.deadline.is_some() }
    }
}

struct Compiler {
    engine: wasmtime::Engine,
    /// Of wasmtime, its configuration, the machine.
    fingerprint: u64,
    modules: Mutex<HashMap<CodeHash, Module>>,
}

static COMPILERS: LazyLock<Mutex<HashMap<Instrumentation, Arc<Compiler>>>> =
    LazyLock::new(Mutex::default);

impl Compiler {
    fn shared(instrumentation: Instrumentation) -> Result<Arc<Self>, String> {
        let mut compilers = lock(&COMPILERS);
        if let Some(compiler) = compilers.get(&instrumentation) {
            return Ok(compiler.clone());
        }
        let compiler = Arc::new(Self::new(instrumentation)?);
        compilers.insert(instrumentation, compiler.clone());
        Ok(compiler)
    }

    fn new(instrumentation: Instrumentation) -> Result<Self, String> {
        let mut config = Config::new();
        config.consume_fuel(instrumentation.fuel);
        config.epoch_interruption(instrumentation.deadline);
        // As deep as V8's default stack, so that recursion fails where it fails in Envoy.
        config.max_wasm_stack(984 * 1024);
        config.relaxed_simd_deterministic(true);
        let engine = wasmtime::Engine::new(&config).map_err(|e| format!("{e:#}"))?;
        // Fixed keys: the same number in the next process.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let fingerprint = hasher.finish();
        Ok(Self { engine, fingerprint, modules: Mutex::default() })
    }

    /// The lock is held while a module compiles: who wants the same one would compile it, too.
    fn module(
        &self,
        code: &[u8],
        hash: &CodeHash,
        cache: &ModuleCache,
    ) -> Result<(Module, Source), String> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(hash) {
            return Ok((module.clone(), Source::Memory));
        }
        let found = cache.load(&self.engine, hash, self.fingerprint);
        let (module, source) = match found {
            Some(module) => (module, Source::Disk),
            None => {
                let module = Module::new(&self.engine, code)
                    .map_err(|e| format!("Failed to load Wasm code: {e:#}"))?;
                // Without it the next process compiles again, no more.
                let _ = cache.store(&module, hash, self.fingerprint);
                (module, Source::Compiler)
            }
        };
        modules.insert(*hash, module.clone());
        Ok((module, source))
    }
}

/// Nothing that can panic leaves what is behind these locks half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compiles, or finds what was compiled before, and checks what Envoy checks at load.
pub(crate) fn compile(
    code: &[u8],
    instrumentation: Instrumentation,
    cache: &ModuleCache,
) -> Result<Compiled, String> {
    let hash: CodeHash = Sha256::digest(code).into();
    let (module, source) = Compiler::shared(instrumentation)?.module(code, &hash, cache)?;
    let functions = module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
    let abi = AbiVersion::detect(functions.map(|export| export.name()))
        .ok_or("Missing or unknown Proxy-Wasm ABI version")?;
    if !module.exports().any(|e| matches!(e.ty(), ExternType::Memory(_))) {
        return Err("the module exports no memory; Envoy aborts on such a module".to_owned());
    }
    let debug = Arc::new(DebugInfo::of(code));
    Ok(Compiled { module, abi, hash, source, debug })
}

#[cfg(test)]
mod tests {
    use super::{Compiled, Compiler, Instrumentation, ModuleCache, Source};

    const MINIMAL: &str = r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1")))"#;

    fn compile(code: &[u8]) -> Result<Compiled, String> {
        super::compile(code, Instrumentation::default(), &ModuleCache::off())
    }

    #[test]
    fn the_second_process_compiles_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ModuleCache::at(directory.path());
        let code = wat::parse_str(MINIMAL).unwrap();
        // A compiler of one's own stands for a process.
        let start = |fuel| {
            let instrumentation = Instrumentation { fuel, deadline: false };
            let compiler = Compiler::new(instrumentation).unwrap();
            compiler.module(&code, &[1; 32], &cache).unwrap().1
        };
        assert_eq!([start(false), start(false)], [Source::Compiler, Source::Disk]);
        // Code that counts is other code.
        assert_eq!([start(true), start(true)], [Source::Compiler, Source::Disk]);
    }

    #[test]
    fn equal_code_is_compiled_once() {
        let code = wat::parse_str(MINIMAL).unwrap();
        let (a, b) = (compile(&code).unwrap(), compile(&code).unwrap());
        assert_eq!(a.hash, b.hash);
        assert_eq!(a.module.image_range(), b.module.image_range());
    }

    #[test]
    fn a_module_without_a_known_marker_is_refused_in_envoys_words() {
        let code = wat::parse_str(MINIMAL.replace("0_2_1", "0_2_100")).unwrap();
        let error = compile(&code).err().unwrap();
        assert_eq!(error, "Missing or unknown Proxy-Wasm ABI version");
    }

    #[test]
    fn a_module_that_hides_its_memory_is_refused() {
        let code = wat::parse_str(MINIMAL.replace("(export \"memory\")", "")).unwrap();
        assert!(compile(&code).err().unwrap().contains("exports no memory"));
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert!(compile(b"nonsense").err().unwrap().starts_with("Failed to load"));
    }
}
