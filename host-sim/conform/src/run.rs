//! Runs every case in a host and collects its cells.

use crate::case::Case;
use crate::client;
use crate::file;
use crate::host::{Host, Lines};
use crate::observe::{self, Cells, Names};
use crate::probe;
use crate::trace::{Event, Line};
use crate::upstream::Upstreams;
use crate::{Op, Phase};
use std::collections::BTreeSet;
use std::time::Duration;

/// After a case that nothing ends for sure: time for what may still come.
const SETTLE: Duration = Duration::from_millis(60);

/// The cases with the numbers of their programs.
pub(crate) struct Plan<'a> {
    pub(crate) cases: Vec<(usize, &'a Case)>,
    /// How many times as long as a case says is waited.
    pub(crate) patience: u32,
}

impl<'a> Plan<'a> {
    /// Numbers the programs. Program 0 is empty: a plugin without another one has it.
    pub(crate) fn new(cases: &[&'a Case], patience: u32) -> Self {
        let mut next = 1;
        let number = |case: &&'a Case| {
            let first = next;
            next += case.programs.len();
            (first, *case)
        };
        Self { cases: cases.iter().map(number).collect(), patience }
    }

    /// The table of programs.
    pub(crate) fn table(&self) -> Vec<u8> {
        let programs = self.cases.iter().flat_map(|(_, case)| &case.programs);
        let programs: Vec<_> =
            std::iter::once(&[][..]).chain(programs.map(|(_, ops)| ops.as_slice())).collect();
        crate::program::table(&programs)
    }

    /// The listeners and services that the cases name.
    fn hosts(&self) -> BTreeSet<&'a str> {
        let cases = self.cases.iter().map(|(_, case)| *case);
        cases
            .flat_map(|case| {
                let root = case.is_root().then(|| case.name.rsplit('/').next()).flatten();
                case.exchanges.iter().map(|exchange| exchange.listener.as_str()).chain(root)
            })
            .collect()
    }

    /// The program that a plugin's root runs. The case's name ends in the listener's.
    pub(crate) fn root(&self, listener: &str, letter: char) -> usize {
        let mut roots = self
            .cases
            .iter()
            .filter(|(_, case)| case.is_root() && case.name.rsplit('/').next() == Some(listener));
        let found = roots.find_map(|(first, case)| {
            let at = case.programs.iter().position(|(own, _)| *own == letter)?;
            Some(first + at)
        });
        found.unwrap_or(0)
    }
}

/// Runs the cases. `progress` is told each case's name as it begins.
pub(crate) async fn run(
    host: &Host,
    plan: &Plan<'_>,
    upstreams: &Upstreams,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<Cells>> {
    let names = names(host, upstreams);
    let mut out = Vec::new();
    for (first, case) in &plan.cases {
        progress(&case.name);
        out.push(if case.is_end() {
            Cells::new()
        } else if case.is_root() {
            root(host, *first, case, &names)
        } else {
            one(host, *first, &patient(case, plan.patience), upstreams, &names).await?
        });
        host.check_alive(&case.name)?;
    }
    Ok(out)
}

/// The case, with more time.
fn patient(case: &Case, factor: u32) -> Case {
    let mut case = case.clone();
    case.patience *= factor;
    case.exchanges.iter_mut().for_each(|exchange| exchange.patience *= factor);
    case
}

/// The cells of what roots did as the host stopped, put in their places. `start` is the number of
/// lines before that.
pub(crate) fn ended(
    plan: &Plan<'_>,
    lines: &Lines,
    start: usize,
    names: &Names,
    cells: &mut [Cells],
) {
    for ((first, case), own) in plan.cases.iter().zip(cells) {
        if case.is_end() {
            *own = of_roots(lines, start, *first, case, names);
        }
    }
}

fn root(host: &Host, first: usize, case: &Case, names: &Names) -> Cells {
    of_roots(&host.lines, 0, first, case, names)
}

fn of_roots(lines: &Lines, start: usize, first: usize, case: &Case, names: &Names) -> Cells {
    // Every operation has run on the main thread and on the worker.
    let last = case.programs.first().map_or(0, |(_, ops)| ops.len().saturating_sub(1));
    let done = |lines: &[String]| {
        let of_last = parsed(lines).filter(|line| {
            line.program == first && matches!(line.event, Event::Op { index, .. } if index == last)
        });
        of_last.count() >= 2
    };
    lines.wait(start, case.patience, done);
    let lines: Vec<_> = parsed(&lines.since(start)).collect();
    observe::cells(case, first, &lines, &[], &[], names)
}

async fn one(
    host: &Host,
    first: usize,
    case: &Case,
    upstreams: &Upstreams,
    names: &Names,
) -> anyhow::Result<Cells> {
    let start = host.lines.len();
    upstreams.received();
    let mut answers = Vec::new();
    for exchange in &case.exchanges {
        let cells = case
            .programs
            .iter()
            .enumerate()
            .map(|(at, (letter, _))| (probe::header(*letter), format!("{:04x}", first + at)));
        let cells: Vec<_> = if exchange.probed { cells.collect() } else { Vec::new() };
        let address = host.listener(&exchange.listener)?;
        answers.push(client::exchange(address, exchange, &cells, &host.lines).await);
    }
    if case.until.is_empty() {
        tokio::time::sleep(SETTLE).await;
    } else {
        let over = over(case, first);
        let (lines, patience) = (host.lines.clone(), case.patience);
        // Operations of the last callback come after the line that begins it.
        let waiting = move || {
            lines.wait(start, patience, over);
            lines.settle();
        };
        tokio::task::spawn_blocking(waiting).await?;
    }
    let lines: Vec<_> = parsed(&host.lines.since(start)).collect();
    Ok(observe::cells(case, first, &lines, &answers, &upstreams.received(), names))
}

/// Whether the callbacks that end the case have come, and done all they do.
fn over(case: &Case, first: usize) -> impl Fn(&[String]) -> bool + Send + 'static {
    let probed = case.exchanges.iter().filter(|exchange| exchange.probed).count();
    let streams = case.programs.len() * probed;
    // Per callback: how often, and by program the operation that comes last in it.
    let ends: Vec<_> = case
        .until
        .iter()
        .map(|phase| {
            // A stream each; a root's callback is one for all.
            let wanted = if *phase == Phase::Delete { streams } else { 1 };
            let last = |(_, ops): &(char, Vec<Op>)| {
                let is_last = |op: &Op| op.phase == *phase && op.call.is_import();
                ops.iter().rposition(is_last)
            };
            (*phase, wanted, case.programs.iter().map(last).collect::<Vec<_>>())
        })
        .collect();
    move |lines: &[String]| {
        let lines: Vec<_> = parsed(lines).collect();
        ends.iter().all(|(phase, wanted, last)| {
            let ended = lines.iter().filter(|line| {
                let last = line.program.checked_sub(first).and_then(|at| last.get(at));
                line.phase == *phase
                    && match (&line.event, last) {
                        (Event::Callback(..), Some(None)) => true,
                        (Event::Op { index, .. }, Some(Some(last))) => index == last,
                        _ => false,
                    }
            });
            ended.count() >= *wanted
        })
    }
}

fn parsed(lines: &[String]) -> impl Iterator<Item = Line> {
    lines.iter().filter_map(|line| Line::parse(line))
}

/// Ports differ between the hosts, or between runs.
pub(crate) fn names(host: &Host, upstreams: &Upstreams) -> Names {
    let listeners = host.listeners.iter().map(|(name, at)| (at.port(), format!("<{name}>")));
    // Two clusters may have one server.
    let clusters = upstreams
        .clusters
        .iter()
        .map(|(name, at)| (at.port(), format!("<{}>", name.trim_end_matches('2'))));
    listeners.chain(clusters).map(|(port, name)| (format!(":{port}"), format!(":{name}"))).collect()
}

/// The one file for both hosts.
pub(crate) fn file(
    directory: &std::path::Path,
    plan: &Plan<'_>,
    upstreams: &Upstreams,
) -> anyhow::Result<String> {
    let roots = |listener: &str, letter| plan.root(listener, letter);
    file::bootstrap(directory, &plan.hosts(), &upstreams.clusters, &plan.table(), &roots)
}
