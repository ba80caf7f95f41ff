//! WASI preview 1, as little of it as Envoy has: no files, no sockets, one clock.
//!
//! All of preview 1 but `proc_raise` is linked, under both names toolchains use. What Envoy refuses
//! is refused with Envoy's errno; where its signature differs from the standard (`path_symlink`,
//! `path_link`), Envoy's is linked, so that a module that cannot load there does not load here.

use crate::LogLevel;
use crate::fault::Fault;
use crate::guest_memory::{Guest, put, put_u32, slice, slice_mut, split, u32_at};
use crate::plugin::Plugin;
use crate::vm::VmState;
use host_sim_abi::Status;
use wasmtime::{FuncType, Linker, Val, ValType};

const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const NOTSUP: i32 = 58;
const NOTCAPABLE: i32 = 76;

/// Longest `random_get` Envoy serves.
const MAX_RANDOM_BYTES: u32 = 64 * 1024;

/// Longest single `fd_write`; the rest is left to the next call, as POSIX allows. Vectors may overlap,
/// so that without a limit a few words of a guest's memory could ask for terabytes of the host's.
const MAX_WRITE_BYTES: usize = 1024 * 1024;

const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// In [`FIXED`]: the standard output streams are fine, other descriptors are EBADF.
const OUTPUT_ONLY: i32 = -1;

/// Calls that do nothing: name, parameters (`i` = i32, `I` = i64), errno.
const FIXED: &[(&str, &str, i32)] = &[
    ("fd_advise", "iIIi", SUCCESS),
    ("fd_allocate", "iII", OUTPUT_ONLY),
    ("fd_close", "i", SUCCESS),
    ("fd_datasync", "i", OUTPUT_ONLY),
    ("fd_fdstat_set_flags", "ii", 52),
    ("fd_fdstat_set_rights", "iII", OUTPUT_ONLY),
    ("fd_filestat_get", "ii", BADF),
    ("fd_filestat_set_size", "iI", OUTPUT_ONLY),
    ("fd_filestat_set_times", "iIIi", OUTPUT_ONLY),
    ("fd_pread", "iiiIi", 52),
    ("fd_prestat_dir_name", "iii", 52),
    ("fd_prestat_get", "ii", BADF),
    ("fd_read", "iiii", 52),
    ("fd_readdir", "iiiIi", 20),
    ("fd_renumber", "ii", BADF),
    ("fd_seek", "iIii", SUCCESS),
    ("fd_sync", "i", OUTPUT_ONLY),
    ("fd_tell", "ii", OUTPUT_ONLY),
    ("path_create_directory", "iii", NOTSUP),
    ("path_filestat_get", "iiiii", NOTSUP),
    ("path_filestat_set_times", "iiiiIIi", NOTSUP),
    ("path_link", "iiiiii", NOTSUP),
    ("path_open", "iiiiiIIii", 44),
    ("path_readlink", "iiiiii", NOTSUP),
    ("path_remove_directory", "iii", NOTSUP),
    ("path_rename", "iiiiii", NOTSUP),
    ("path_symlink", "iiii", NOTSUP),
    ("path_unlink_file", "iii", NOTSUP),
    ("sched_yield", "", SUCCESS),
    ("sock_accept", "iii", NOTSUP),
    ("sock_recv", "iiiiii", NOTSUP),
    ("sock_send", "iiiii", NOTSUP),
    ("sock_shutdown", "ii", NOTSUP),
];

/// The calls that do something, as [`FIXED`] lists the others; `proc_exit` returns nothing.
const WORKING: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_fdstat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_write", "iiii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("random_get", "ii"),
];

/// Links both module names.
pub(super) fn link(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    for module in MODULES {
        link_working(linker, module)?;
        for (name, params, errno) in FIXED {
            if plugin.allows(name) {
                let ty = signature(linker, params, true);
                linker.func_new(module, name, ty, move |_, args, results| {
                    let output = matches!(args.first(), Some(Val::I32(1 | 2)));
                    let errno = match *errno {
                        OUTPUT_ONLY if output => SUCCESS,
                        OUTPUT_ONLY => BADF,
                        errno => errno,
                    };
                    results.fill(Val::I32(errno));
                    Ok(())
                })?;
            }
        }
        let fixed = FIXED.iter().map(|(name, params, _)| (*name, *params));
        for (name, params) in fixed.chain(WORKING.iter().copied()) {
            if !plugin.allows(name) {
                link_restricted(linker, module, name, params)?;
            }
        }
    }
    Ok(())
}

/// What a plugin may not use says so, and answers ENOTCAPABLE.
fn link_restricted(
    linker: &mut Linker<VmState>,
    module: &str,
    name: &'static str,
    params: &str,
) -> wasmtime::Result<()> {
    let ty = signature(linker, params, name != "proc_exit");
    linker.allow_shadowing(true);
    linker.func_new(module, name, ty, move |guest, _, results| {
        let state = guest.data();
        let message = format!("Attempted call to restricted WASI capability: {name}");
        state.shared.borrow().log(LogLevel::Error, Some(state.plugin.name()), &message);
        results.fill(Val::I32(NOTCAPABLE));
        Ok(())
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn signature(linker: &Linker<VmState>, params: &str, answers: bool) -> FuncType {
    let params = params.chars().map(|c| if c == 'I' { ValType::I64 } else { ValType::I32 });
    FuncType::new(linker.engine(), params, answers.then_some(ValType::I32))
}

fn link_working(linker: &mut Linker<VmState>, module: &str) -> wasmtime::Result<()> {
    type G<'a> = Guest<'a>;
    linker.func_wrap(module, "fd_write", |mut g: G<'_>, fd: u32, iov: u32, n: u32, out: u32| {
        errno(fd_write(&mut g, fd, iov, n, out))
    })?;
    // Where it is written to does not matter.
    linker.func_wrap(
        module,
        "fd_pwrite",
        |mut g: G<'_>, fd: u32, iov: u32, n: u32, _: u64, out: u32| {
            errno(fd_write(&mut g, fd, iov, n, out))
        },
    )?;
    linker.func_wrap(module, "fd_fdstat_get", |mut g: G<'_>, fd: u32, out: u32| {
        errno(fd_fdstat_get(&mut g, fd, out))
    })?;
    linker.func_wrap(module, "clock_time_get", |mut g: G<'_>, id: u32, _: u64, out: u32| {
        errno(clock_time_get(&mut g, id, out))
    })?;
    linker.func_wrap(module, "clock_res_get", |mut g: G<'_>, id: u32, out: u32| {
        errno(clock_res_get(&mut g, id, out))
    })?;
    linker.func_wrap(module, "random_get", |mut g: G<'_>, ptr: u32, len: u32| {
        errno(random_get(&mut g, ptr, len))
    })?;
    linker.func_wrap(module, "environ_sizes_get", |mut g: G<'_>, count: u32, size: u32| {
        errno(environ_sizes_get(&mut g, count, size))
    })?;
    linker.func_wrap(module, "environ_get", |mut g: G<'_>, pointers: u32, text: u32| {
        errno(environ_get(&mut g, pointers, text))
    })?;
    linker.func_wrap(module, "args_sizes_get", |mut g: G<'_>, count: u32, size: u32| {
        errno(two_words(&mut g, count, size, 0, 0))
    })?;
    linker.func_wrap(module, "args_get", |_: G<'_>, _: u32, _: u32| SUCCESS)?;
    // Nothing has happened, whatever is waited for.
    linker.func_wrap(module, "poll_oneoff", |mut g: G<'_>, _: u32, _: u32, _: u32, out: u32| {
        let put = |g: &mut G<'_>| -> Result<i32, Fault> {
            let (memory, _) = split(g)?;
            put_u32(memory, out, 0)?;
            Ok(SUCCESS)
        };
        errno(put(&mut g))
    })?;
    // Envoy logs, and returns to the guest.
    linker.func_wrap(module, "proc_exit", |mut g: G<'_>, code: u32| {
        let text = format!("wasi proc_exit({code})");
        super::log::emit(g.data_mut(), LogLevel::Error, text.as_bytes());
    })?;
    Ok(())
}

/// `fd_write`: stdout is info, stderr is error, one trailing line feed is dropped.
fn fd_write(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, out: u32) -> Result<i32, Fault> {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Ok(BADF),
    };
    let (memory, state) = split(guest)?;
    let mut text = Vec::new();
    for i in 0..count {
        let at = i.checked_mul(8).and_then(|o| iovs.checked_add(o));
        let at = at.ok_or(Status::InvalidMemoryAccess)?;
        let (ptr, len) = (u32_at(memory, at)?, u32_at(memory, at.saturating_add(4))?);
        let part = slice(memory, ptr, len)?;
        let room = MAX_WRITE_BYTES.saturating_sub(text.len());
        text.extend_from_slice(part.get(..room).unwrap_or(part));
        if part.len() > room {
            break;
        }
    }
    put_u32(memory, out, u32::try_from(text.len()).unwrap_or(u32::MAX))?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    if !text.is_empty() {
        state.use_bytes(text.len()).map_err(Fault::Trap)?;
        super::log::emit(state, level, &text);
    }
    Ok(SUCCESS)
}

/// The standard streams can be written, and are of an unknown kind. A bad pointer is not noticed.
fn fd_fdstat_get(guest: &mut Guest<'_>, fd: u32, out: u32) -> Result<i32, Fault> {
    if !matches!(fd, 1 | 2) {
        return Ok(BADF);
    }
    let rights_fd_write = 64u64;
    let stat = [0, rights_fd_write, 0].map(u64::to_le_bytes);
    let (memory, _) = split(guest)?;
    let _ = put(memory, out, stat.as_flattened());
    Ok(SUCCESS)
}

/// Wall and monotonic clock are the engine's one clock.
fn clock_time_get(guest: &mut Guest<'_>, id: u32, out: u32) -> Result<i32, Fault> {
    if id > 1 {
        return Ok(NOTSUP);
    }
    let now = guest.data().shared.borrow().wall();
    let (memory, _) = split(guest)?;
    put(memory, out, &now.0.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Both clocks count nanoseconds.
fn clock_res_get(guest: &mut Guest<'_>, id: u32, out: u32) -> Result<i32, Fault> {
    if id > 1 {
        return Ok(NOTSUP);
    }
    let (memory, _) = split(guest)?;
    put(memory, out, &1u64.to_le_bytes())?;
    Ok(SUCCESS)
}

fn random_get(guest: &mut Guest<'_>, ptr: u32, len: u32) -> Result<i32, Fault> {
    if len > MAX_RANDOM_BYTES {
        return Ok(INVAL);
    }
    let (memory, state) = split(guest)?;
    state.shared.borrow_mut().rng.fill(slice_mut(memory, ptr, len)?);
    Ok(SUCCESS)
}

fn environ_sizes_get(guest: &mut Guest<'_>, count: u32, size: u32) -> Result<i32, Fault> {
    let environment = &guest.data().plugin.environment;
    let bytes: usize = environment.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    let (entries, bytes) = (environment.len() as u32, u32::try_from(bytes).unwrap_or(u32::MAX));
    two_words(guest, count, size, entries, bytes)
}

fn environ_get(guest: &mut Guest<'_>, mut pointers: u32, mut text: u32) -> Result<i32, Fault> {
    let plugin = guest.data().plugin.clone();
    let (memory, _) = split(guest)?;
    for (key, value) in &plugin.environment {
        let entry = format!("{key}={value}\0");
        put_u32(memory, pointers, text)?;
        put(memory, text, entry.as_bytes())?;
        pointers = pointers.saturating_add(4);
        text = text.saturating_add(u32::try_from(entry.len()).unwrap_or(u32::MAX));
    }
    Ok(SUCCESS)
}

fn two_words(guest: &mut Guest<'_>, a: u32, b: u32, x: u32, y: u32) -> Result<i32, Fault> {
    let (memory, _) = split(guest)?;
    put_u32(memory, a, x)?;
    put_u32(memory, b, y)?;
    Ok(SUCCESS)
}

/// A bad pointer is EFAULT, as in Envoy.
fn errno(result: Result<i32, Fault>) -> wasmtime::Result<i32> {
    match result {
        Ok(errno) => Ok(errno),
        Err(Fault::Status(_)) => Ok(FAULT),
        Err(Fault::Trap(error)) => Err(error),
    }
}
