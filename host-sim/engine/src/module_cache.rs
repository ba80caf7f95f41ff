//! Compiled modules on disk, so that a second start compiles nothing.
//!
//! Compiling the four modules takes seconds in a debug build, loading what was compiled before
//! takes a few milliseconds. An entry's name is the SHA-256 of the module and a fingerprint of
//! wasmtime's version, its configuration and the machine's instruction set: another wasmtime, or
//! code with instruction counting, is another entry. An entry begins with the SHA-256 of the rest;
//! one that does not fit (a torn write, a bad disk) is compiled and written again, and entries
//! appear by renaming, so that two processes never see half of one.
//!
//! wasmtime has a cache of its own, but in debug builds its entries belong to one executable and
//! die with the next build, which is where a test suite needs them. Hence this file, and the one
//! `unsafe` block of the project: compiled code is trusted as code. Whoever can write to the
//! directory could make this process run anything, so a directory that is somebody else's, or
//! that others may write to, is not used. The bytes are read, checked and copied before they become
//! code: changing the file later changes nothing. That they are code of this wasmtime, for this
//! configuration and machine, wasmtime checks itself.

use crate::module::CodeHash;
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;
use wasmtime::{Engine, Module};

/// Names the directory, instead of the user's own; empty or `off` is no cache.
const VARIABLE: &str = "HOST_SIM_CACHE";

/// Entries are removed, those used least recently first, when all together are larger.
const MAX_BYTES: u64 = 512 << 20;

const EXTENSION: &str = "cwasm";

/// Where compiled modules are kept between processes.
///
/// Nothing fails for want of it: a directory that cannot be made, read or written is as good as
/// none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleCache {
    directory: Option<PathBuf>,
}

impl Default for ModuleCache {
    /// [`ModuleCache::user`].
    fn default() -> Self {
        Self::user()
    }
}

impl ModuleCache {
    /// The directory in `HOST_SIM_CACHE` (`off` is none), else `host-sim` in `XDG_CACHE_HOME`,
    /// else in `~/.cache`.
    #[must_use]
    pub fn user() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::choose(
            std::env::var_os(VARIABLE).map(PathBuf::from),
            variable("XDG_CACHE_HOME").map(PathBuf::from),
            variable("HOME").map(PathBuf::from),
        )
    }

    fn choose(own: Option<PathBuf>, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Self {
        let directory = match own {
            Some(own) if own.as_os_str().is_empty() || own.as_os_str() == "off" => None,
            Some(own) => Some(own),
            // The XDG specification: a relative path is as good as none.
            None => xdg
                .filter(|path| path.is_absolute())
                .or_else(|| home.map(|home| home.join(".cache")))
                .map(|cache| cache.join("host-sim")),
        };
        Self { directory }
    }

    /// A directory of one's own; made, for this user only, when something is stored.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()) }
    }

    /// Every process compiles for itself.
    #[must_use]
    pub const fn off() -> Self {
        Self { directory: None }
    }

    /// The directory, if there is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    fn entry(&self, code: &CodeHash, fingerprint: u64) -> Option<PathBuf> {
        let hash: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.directory()?.join(format!("{hash}-{fingerprint:016x}.{EXTENSION}")))
    }

    /// What was compiled before, if it is there and whole.
    pub(crate) fn load(
        &self,
        engine: &Engine,
        code: &CodeHash,
        fingerprint: u64,
    ) -> Option<Module> {
        let path = self.entry(code, fingerprint)?;
        if !is_private(self.directory()?) {
            return None;
        }
        let mut file = File::open(path).ok()?;
        let mut digest = [0; 32];
        file.read_exact(&mut digest).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        if Sha256::digest(&bytes)[..] != digest {
            return None;
        }
        // When entries must go, those go first that nobody has used for long.
        let _ = file.set_modified(SystemTime::now());
        #[expect(unsafe_code, reason = "the bytes are what `store` wrote: see the module's text")]
        let module = unsafe { Module::deserialize(engine, &bytes) };
        module.ok()
    }

    /// Keeps a module for the next process.
    pub(crate) fn store(&self, module: &Module, code: &CodeHash, fingerprint: u64) -> Option<()> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = self.entry(code, fingerprint)?;
        let directory = self.directory()?;
        make_private(directory)?;
        if !is_private(directory) {
            return None;
        }
        let artifact = module.serialize().ok()?;
        let mut bytes = Sha256::digest(&artifact).to_vec();
        bytes.extend_from_slice(&artifact);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let draft = directory.join(format!("{}-{number}.draft", std::process::id()));
        let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            let _ = fs::remove_file(draft);
        }
        prune(directory, MAX_BYTES);
        written.ok()
    }
}

/// Removes entries until the others together are not larger than that.
fn prune(directory: &Path, most: u64) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| {
        let path = entry.path();
        if path.extension()? != EXTENSION {
            return None;
        }
        let meta = entry.metadata().ok()?;
        Some((meta.modified().ok()?, path, meta.len()))
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    let mut total: u64 = entries.iter().map(|(.., size)| size).sum();
    for (_, path, size) in entries {
        if total <= most {
            break;
        }
        if fs::remove_file(path).is_ok() {
            total -= size;
        }
    }
}

#[cfg(unix)]
fn make_private(directory: &Path) -> Option<()> {
    use std::os::unix::fs::DirBuilderExt;
    DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> Option<()> {
    DirBuilder::new().recursive(true).create(directory).ok()
}

/// Nobody else may put code there: it is this user's, and no other's to write to.
#[cfg(unix)]
fn is_private(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    fs::metadata(directory).is_ok_and(|meta| meta.uid() == own && meta.mode() & 0o022 == 0)
}

#[cfg(not(unix))]
fn is_private(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(engine: &Engine) -> Module {
        Module::new(engine, wat::parse_str("(module (func (export \"f\")))").unwrap()).unwrap()
    }

    fn exports(module: &Module) -> Vec<String> {
        module.exports().map(|export| export.name().to_owned()).collect()
    }

    #[test]
    fn what_one_process_stores_the_next_one_loads() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ModuleCache::at(directory.path().join("made/on/demand"));
        let engine = Engine::default();
        assert!(cache.load(&engine, &[7; 32], 1).is_none());
        cache.store(&module(&engine), &[7; 32], 1).unwrap();
        assert_eq!(exports(&cache.load(&engine, &[7; 32], 1).unwrap()), ["f"]);
        assert!(cache.load(&engine, &[8; 32], 1).is_none());
        assert!(cache.load(&engine, &[7; 32], 2).is_none());
    }

    #[test]
    fn a_torn_or_changed_entry_is_no_entry_and_can_be_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ModuleCache::at(directory.path());
        let engine = Engine::default();
        cache.store(&module(&engine), &[7; 32], 1).unwrap();
        let path = cache.entry(&[7; 32], 1).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for broken in [&[][..], &whole[..31], &whole[..whole.len() - 1], &changed] {
            fs::write(&path, broken).unwrap();
            assert!(cache.load(&engine, &[7; 32], 1).is_none());
        }
        cache.store(&module(&engine), &[7; 32], 1).unwrap();
        assert!(cache.load(&engine, &[7; 32], 1).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let cache = ModuleCache::at(directory.path());
        let engine = Engine::default();
        cache.store(&module(&engine), &[7; 32], 1).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(cache.load(&engine, &[7; 32], 1).is_none());
        assert!(cache.store(&module(&engine), &[7; 32], 1).is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_of_somebody_elses_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_private(directory.path()));
        // Only root can give one away, and whoever is not root does not own this one.
        let theirs = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(12_345), None).unwrap();
            directory.path()
        } else {
            Path::new("/")
        };
        assert!(!is_private(theirs));
    }

    #[test]
    fn the_entries_used_least_recently_go_first() {
        let directory = tempfile::tempdir().unwrap();
        for (name, age) in [("old.cwasm", 30), ("new.cwasm", 10), ("mid.cwasm", 20)] {
            let path = directory.path().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        }
        fs::write(directory.path().join("not-ours"), [0; 100]).unwrap();
        prune(directory.path(), 150);
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new.cwasm", "not-ours"]);
    }

    #[test]
    fn the_variable_comes_before_xdg_and_xdg_before_home() {
        let choose = |own: Option<&str>, xdg: Option<&str>, home: Option<&str>| {
            let path = |text: Option<&str>| text.map(PathBuf::from);
            ModuleCache::choose(path(own), path(xdg), path(home)).directory
        };
        let is = |path: &str| Some(PathBuf::from(path));
        assert_eq!(choose(Some("/own"), Some("/xdg"), Some("/home")), is("/own"));
        assert_eq!(choose(None, Some("/xdg"), Some("/home")), is("/xdg/host-sim"));
        assert_eq!(choose(None, Some("relative"), Some("/home")), is("/home/.cache/host-sim"));
        assert_eq!(choose(None, None, None), None);
        for off in ["off", ""] {
            assert_eq!(choose(Some(off), Some("/xdg"), Some("/home")), None);
        }
    }
}
