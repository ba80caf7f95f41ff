//! Running again what a trace records, and comparing line by line.

use super::Trace;
use crate::{RunOptions, run};
use serde::Deserialize;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Lines told before the one that differs.
const CONTEXT: usize = 5;

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many runs the trace holds.
    pub runs: usize,
    /// How many lines the replay gave.
    pub lines: u64,
    /// The first line that differs.
    pub difference: Option<Difference>,
}

/// The first line in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its number in the recorded file, from 1.
    pub line: u64,
    /// The lines before it, which were equal.
    pub before: Vec<String>,
    /// What was recorded; `None` if the recorded run had ended.
    pub recorded: Option<String>,
    /// What happened now; `None` if this run had ended.
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the runs differ at line {}:", self.line)?;
        self.before.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        let end = "(the run has ended)";
        writeln!(f, "  - {}", self.recorded.as_deref().unwrap_or(end))?;
        write!(f, "  + {}", self.now.as_deref().unwrap_or(end))
    }
}

/// The first line of a run.
#[derive(Deserialize)]
struct Head {
    run: u64,
    file: PathBuf,
    workers: usize,
    seed: u64,
}

/// Runs again, from the scenario files that the trace names, every run that it records.
///
/// # Errors
/// When the trace or a scenario cannot be read, or the file is no trace.
pub fn replay(path: &Path) -> io::Result<Replayed> {
    let mut heads = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if line.starts_with("{\"run\":") {
            heads.push(serde_json::from_str::<Head>(&line).map_err(io::Error::other)?);
        }
    }
    if heads.is_empty() || heads.iter().any(|head| head.run != 1) {
        return Err(io::Error::other("no trace that this version of host-sim has written"));
    }
    let trace = Trace::comparing(Comparison::open(path)?);
    for head in &heads {
        let options = RunOptions {
            seed: Some(head.seed),
            workers: Some(head.workers),
            trace: Some(trace.clone()),
            ..RunOptions::default()
        };
        run(std::slice::from_ref(&head.file), &options, |_| {})?;
    }
    let difference = trace.difference();
    Ok(Replayed { runs: heads.len(), lines: trace.finish()?.lines, difference })
}

/// The recorded lines, read as the run goes on.
pub(super) struct Comparison {
    recorded: BufReader<File>,
    line: u64,
    before: VecDeque<String>,
    buffer: Vec<u8>,
    difference: Option<Difference>,
}

impl Comparison {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            recorded: BufReader::with_capacity(1 << 16, File::open(path)?),
            line: 0,
            before: VecDeque::new(),
            buffer: Vec::new(),
            difference: None,
        })
    }

    /// Takes the next line of this run.
    pub(super) fn line(&mut self, now: &[u8]) {
        if self.difference.is_some() {
            return;
        }
        let recorded = self.next();
        if recorded && self.buffer == now {
            if self.before.len() == CONTEXT {
                self.before.pop_front();
            }
            self.before.push_back(text(now));
            return;
        }
        self.differs(recorded, Some(text(now)));
    }

    /// What is left of the recorded run is a difference, too.
    pub(super) fn end(mut self) -> Option<Difference> {
        if self.difference.is_none() && self.next() {
            self.differs(true, None);
        }
        self.difference
    }

    /// Reads a line. A file that can no longer be read has ended.
    fn next(&mut self) -> bool {
        self.line += 1;
        self.buffer.clear();
        self.recorded.read_until(b'\n', &mut self.buffer).is_ok_and(|read| read > 0)
    }

    fn differs(&mut self, recorded: bool, now: Option<String>) {
        self.difference = Some(Difference {
            line: self.line,
            before: self.before.drain(..).collect(),
            recorded: recorded.then(|| text(&self.buffer)),
            now,
        });
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}
