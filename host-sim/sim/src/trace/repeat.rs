//! The same runs over and over: proof that nothing but their inputs decides them.

use super::{Trace, TraceSummary};
use crate::{Report, RunOptions, run};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What came of repeating.
#[derive(Clone, Debug)]
pub struct Repeated {
    /// The outcome of one of the runs.
    pub report: Report,
    /// Lines and digest of that run's trace.
    pub trace: TraceSummary,
    /// How many runs gave the same digest as the first.
    pub same: usize,
    /// The digests of runs that did not.
    pub others: Vec<String>,
}

/// Runs everything in `paths` `times` times, on `jobs` threads, and compares the digests of the
/// traces. `options.trace` is not used. Calls `progress` with the number of runs done.
///
/// # Errors
/// When a path cannot be read.
pub fn repeat(
    paths: &[PathBuf],
    options: &RunOptions,
    times: usize,
    jobs: usize,
    progress: impl Fn(usize) + Sync,
) -> io::Result<Repeated> {
    let once = || {
        let trace = Trace::hashed();
        let options = RunOptions { trace: Some(trace.clone()), ..options.clone() };
        let report = run(paths, &options, |_| {})?;
        io::Result::Ok((report, trace.finish()?))
    };
    let (report, first) = once()?;
    progress(1);
    let done = AtomicUsize::new(1);
    let others = Mutex::new(Vec::new());
    let work = || -> io::Result<()> {
        while done.fetch_add(1, Ordering::Relaxed) < times {
            let (_, trace) = once()?;
            if trace != first
                && let Ok(mut others) = others.lock()
            {
                others.push(trace.digest);
            }
            progress(done.load(Ordering::Relaxed).min(times));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a run panicked")))
        })
    })?;
    let others = others.into_inner().unwrap_or_default();
    Ok(Repeated { report, trace: first, same: times.max(1) - others.len(), others })
}
