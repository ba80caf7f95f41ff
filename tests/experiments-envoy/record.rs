//! Results: a run a line, in a file that outlives the program.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use weir_tests::experiment::{Arm, Broken, Cpu, Cycles, P99, Reloads};

/// What was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) experiment: String,
    pub(crate) workers: u32,
    pub(crate) seed: u64,
    pub(crate) arm: Arm,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { experiment, workers, seed, arm } = self;
        write!(f, "{experiment}, concurrency {workers}, seed {seed}, {arm}")
    }
}

/// Seconds of load of the P99 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Length {
    pub(crate) warmup: u64,
    pub(crate) measured: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Latency((Length, P99)),
    Broken(Broken),
    Cycles(Cycles),
    Reloads(Reloads),
    /// That of a run in which the machine was not left alone: it counts for nothing.
    Disturbed(Box<Self>),
    /// Why there is none.
    Failed(String),
}

impl Outcome {
    /// What it is if others than the proxy, the endpoints and the load may take so much of a core.
    pub(crate) fn judged(self, others: f64) -> Self {
        match self.cpu() {
            Some(cpu) if cpu.others > others => Self::Disturbed(Box::new(self)),
            _ => self,
        }
    }

    /// Who used the machine.
    pub(crate) fn cpu(&self) -> Option<&Cpu> {
        match self {
            Self::Latency((_, own)) => Some(&own.cpu),
            Self::Broken(own) => Some(&own.cpu),
            Self::Cycles(own) => Some(&own.cpu),
            Self::Reloads(own) => Some(&own.cpu),
            Self::Disturbed(own) => own.cpu(),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disturbed(own) => write!(f, "DISTURBED: {own}"),
            Self::Latency((_, own)) => write!(f, "{own:?}"),
            Self::Broken(own) => write!(f, "{own:?}"),
            Self::Cycles(own) => write!(f, "{own:?}"),
            Self::Reloads(own) => write!(f, "{own:?}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// A run, the modules it was made with, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) run: Run,
    pub(crate) modules: String,
    pub(crate) outcome: Outcome,
}

/// All runs so far.
pub(crate) struct Results {
    records: Vec<Record>,
    file: File,
}

impl Results {
    /// Those of a file, if they are wanted; of failed runs nothing is kept, so that they run again.
    pub(crate) fn open(path: &Path, resume: bool) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        let text = if resume && path.exists() {
            std::fs::read_to_string(path).with_context(place)?
        } else {
            String::new()
        };
        let mut records = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let record: Record = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", path.display(), at + 1))?;
            if !matches!(record.outcome, Outcome::Failed(_)) {
                records.push(record);
            }
        }
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path);
        let mut results = Self { records: Vec::new(), file: file.with_context(place)? };
        for record in records {
            results.add(record)?;
        }
        Ok(results)
    }

    /// Whether it has been run, and not in vain.
    pub(crate) fn has(&self, run: &Run) -> bool {
        let counts = |own: &&Record| !matches!(own.outcome, Outcome::Disturbed(_));
        self.records.iter().filter(counts).any(|own| own.run == *run)
    }

    /// Keeps a result.
    pub(crate) fn add(&mut self, record: Record) -> anyhow::Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(&record)?)?;
        self.records.push(record);
        Ok(())
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Record> + Clone {
        self.records.iter()
    }

    /// Those of an experiment with so many workers.
    pub(crate) fn of<'a>(
        &'a self,
        experiment: &'a str,
        workers: u32,
    ) -> impl Iterator<Item = &'a Record> + Clone {
        let wanted =
            move |own: &&Record| own.run.experiment == experiment && own.run.workers == workers;
        self.records.iter().filter(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(others: f64) -> Outcome {
        Outcome::Cycles(Cycles { cpu: Cpu { others, ..Cpu::default() }, ..Cycles::default() })
    }

    #[test]
    fn a_run_in_which_others_took_more_than_they_may_counts_for_nothing() {
        let counts = |own: Outcome| !matches!(own.judged(0.1), Outcome::Disturbed(_));
        assert_eq!([cycles(0.1), cycles(0.11)].map(counts), [true, false]);
        assert!(counts(Outcome::Failed("no proxy".to_owned())));
    }

    #[test]
    fn what_was_disturbed_is_kept_and_is_made_again() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let run = |seed| Run { experiment: "death".to_owned(), workers: 1, seed, arm: Arm::Weir };
        let mut results = Results::open(file.path(), false)?;
        for (seed, others) in [(1, 0.5), (2, 0.0)] {
            let outcome = cycles(others).judged(0.1);
            results.add(Record { run: run(seed), modules: String::new(), outcome })?;
        }
        let results = Results::open(file.path(), true)?;
        assert_eq!((results.has(&run(1)), results.has(&run(2))), (false, true));
        assert_eq!(results.all().count(), 2);
        Ok(())
    }
}
