//! Traces: everything that happens in a run, a line of JSON each.
//!
//! A run is a function of its scenario, seed and number of workers; a trace is how that is checked.
//! Two runs are equal when their lines are, so a line holds what decides what comes next: time,
//! worker, context, what a hostcall was given and answered, instructions taken, random numbers
//! drawn. Long arguments stand there as a digest: a trace is compared more often than it is read.
//! Nothing of the machine is in it.
//!
//! Lines go through one sink, which hashes them and also writes them to a file or compares them
//! with one. Hashing alone is for thousands of runs whose lines nobody wants to keep.

mod line;
mod recorder;
mod repeat;
mod replay;

pub(crate) use recorder::Recorder;
pub use repeat::{Repeated, repeat};
pub use replay::{Difference, Replayed, replay};

use line::Line;
use replay::Comparison;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the lines of one or more runs go. Clones are the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Sink>>);

/// What a trace came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// Number of lines.
    pub lines: u64,
    /// SHA-256 of all lines, line feeds included, in hexadecimal.
    pub digest: String,
}

struct Sink {
    line: Line,
    hash: Sha256,
    lines: u64,
    file: Option<BufWriter<File>>,
    comparison: Option<Comparison>,
    /// The first error of writing; told when all is over.
    error: Option<io::Error>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// Hashes lines and keeps none.
    pub fn hashed() -> Self {
        Self::new(None, None)
    }

    /// Writes lines to a file, which is replaced.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Some(BufWriter::with_capacity(1 << 16, File::create(path)?)), None))
    }

    fn comparing(comparison: Comparison) -> Self {
        Self::new(None, Some(comparison))
    }

    fn new(file: Option<BufWriter<File>>, comparison: Option<Comparison>) -> Self {
        let (line, hash) = (Line::default(), Sha256::new());
        Self(Arc::new(Mutex::new(Sink { line, hash, lines: 0, file, comparison, error: None })))
    }

    /// Ends the trace: no run writes to it any more.
    ///
    /// # Errors
    /// When a line could not be written.
    pub fn finish(&self) -> io::Result<TraceSummary> {
        let sink = &mut *self.sink();
        if let Some(error) = sink.error.take() {
            return Err(error);
        }
        if let Some(file) = &mut sink.file {
            file.flush()?;
        }
        let digest = sink.hash.clone().finalize();
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(TraceSummary { lines: sink.lines, digest })
    }

    /// Where the run differed from the recorded one, if it did. Ends the comparison.
    fn difference(&self) -> Option<Difference> {
        self.sink().comparison.take()?.end()
    }

    /// Begins the lines of a run.
    pub(crate) fn run(&self, file: &Path, workers: usize, seed: u64) {
        self.write(|line| {
            line.begin("run", 1);
            line.text("file", file.to_string_lossy().as_bytes());
            line.number("workers", workers as u64);
            line.number("seed", seed);
        });
    }

    fn write(&self, fill: impl FnOnce(&mut Line)) {
        let Sink { line, hash, lines, file, comparison, error } = &mut *self.sink();
        line.clear();
        fill(line);
        let bytes = line.end();
        *lines += 1;
        hash.update(bytes);
        if let Some(file) = file
            && error.is_none()
        {
            *error = file.write_all(bytes).err();
        }
        if let Some(comparison) = comparison {
            comparison.line(bytes);
        }
    }

    /// A line is whole or was not begun.
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
