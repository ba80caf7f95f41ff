//! Log lines, each with the name of its module, and the last words of a panic.

use crate::ffi;
use core::cell::Cell;
use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    static MODULE: Cell<(&'static str, &'static str)> = const { Cell::new(("weir", "")) };
}

const CRITICAL: u32 = 5;

struct HostLog;

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            ffi::log(host_level(record.level()), &format!("{}: {}", module().0, record.args()));
        }
    }

    fn flush(&self) {}
}

/// Sets up logging and the panic hook. [`crate::main`] calls it; only log lines are allowed then.
pub fn install(module: &'static str, version: &'static str) {
    MODULE.set((module, version));
    // A second plugin in the same VM finds the logger in place.
    let _ = log::set_logger(&HostLog);
    log::set_max_level(LevelFilter::Info);
    std::panic::set_hook(Box::new(|panic| {
        ffi::log(CRITICAL, &format!("{}: {panic}", MODULE.get().0));
    }));
}

/// Logs something that an operator should know, as a warning.
pub fn warn(message: &str) {
    log::warn!("{message}");
}

/// Follows the host's level, so that lines nobody reads are not formatted.
pub(crate) fn follow_host_level() {
    if let Ok(level) = ffi::log_level() {
        log::set_max_level(match level {
            0 => LevelFilter::Trace,
            1 => LevelFilter::Debug,
            2 => LevelFilter::Info,
            3 => LevelFilter::Warn,
            _ => LevelFilter::Error,
        });
    }
}

/// Name and version of the module.
pub(crate) fn module() -> (&'static str, &'static str) {
    MODULE.get()
}

const fn host_level(level: Level) -> u32 {
    match level {
        Level::Trace => 0,
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warn => 3,
        Level::Error => 4,
    }
}
