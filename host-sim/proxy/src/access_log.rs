//! Access log files.
//!
//! Lines are buffered until somebody flushes, as Envoy buffers its own: a system call a request
//! would cost more than the rest of the log. The lock is per file and held for a copy.

use host_sim_bootstrap::{AccessLogSink as Target, Bootstrap, Listener};
use host_sim_engine::AccessLogSink;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, PoisonError};

/// Bytes kept before they are written without waiting for the flush. Envoy's minimum flush size.
const BUFFER: usize = 64 * 1024;

/// Writes to the files (and standard streams) that a bootstrap's access loggers name.
pub struct FileAccessLog {
    targets: HashMap<String, Mutex<BufWriter<Box<dyn Write + Send>>>>,
}

impl FileAccessLog {
    /// Opens every target for appending.
    ///
    /// # Errors
    /// When a file cannot be opened; the message names it.
    pub fn open(bootstrap: &Bootstrap) -> io::Result<Self> {
        let mut targets = HashMap::<String, _>::new();
        for log in bootstrap.listeners.iter().flat_map(Listener::access_logs) {
            let name = match &log.sink {
                Target::File(path) => path.display().to_string(),
                Target::Stdout => "/dev/stdout".to_owned(),
                Target::Stderr => "/dev/stderr".to_owned(),
            };
            if let Entry::Vacant(target) = targets.entry(name) {
                let writer = BufWriter::with_capacity(BUFFER, open(target.key())?);
                target.insert(Mutex::new(writer));
            }
        }
        Ok(Self { targets })
    }

    /// Writes what is buffered. Whoever holds the log calls it, once a second as Envoy does.
    pub fn flush(&self) {
        for writer in self.targets.values() {
            // A full disk must not stop the proxy; the lines stay buffered for the next try.
            let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).flush();
        }
    }
}

impl AccessLogSink for FileAccessLog {
    fn write(&self, target: &str, line: &str) {
        if let Some(writer) = self.targets.get(target) {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // As in `flush`.
            let _ = writer.write_all(line.as_bytes());
        }
    }
}

impl Drop for FileAccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open(name: &str) -> io::Result<Box<dyn Write + Send>> {
    match name {
        "/dev/stdout" => Ok(Box::new(io::stdout())),
        "/dev/stderr" => Ok(Box::new(io::stderr())),
        path => match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(io::Error::new(error.kind(), format!("access log {path}: {error}"))),
        },
    }
}
