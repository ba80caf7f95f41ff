//! Conformance: one probe module runs the same cells in real Envoy and in host-sim.
//!
//! A cell is a callback, a hostcall and its arguments; what it shows is the status, what the host
//! wrote, the order of callbacks, and what client and upstream saw. host-sim claims to be Envoy to
//! plugins. This is how the claim is checked, and how a difference is found before a plugin's
//! author does: cells are data, so asking a new question takes a line.

mod case;
mod catalogue;
mod client;
mod explained;
mod file;
mod frames;
mod host;
mod listeners;
mod observe;
mod op;
mod phase;
mod probe;
mod program;
mod report;
mod run;
mod trace;
mod upstream;
mod wasi;

pub use case::{Body, Case, Ending, Exchange, Protocol};
pub use catalogue::catalogue;
pub use explained::{Explained, Row};
pub use op::{Agree, Arg, Call, Op, When, text};
pub use phase::Phase;
pub use report::{Difference, Report};

use anyhow::Context;
use host::{Host, Lines};
use report::Pair;
use run::Plan;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use upstream::Upstreams;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// Without the cases that ask what others of the run ask, under another failure policy.
    pub quick: bool,
}

/// Where a run is, for a line of progress.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// `envoy` or `host-sim`.
    pub host: &'static str,
    /// The case that begins.
    pub case: &'a str,
    /// Cases before it.
    pub done: usize,
    /// All cases.
    pub all: usize,
}

/// Runs the cells in both hosts and compares.
///
/// # Errors
/// When a host does not start or no case has the name asked for.
pub fn conform(
    options: &Options,
    mut progress: impl FnMut(Progress<'_>),
) -> anyhow::Result<Report> {
    let catalogue = catalogue();
    let chosen: Vec<_> = catalogue
        .iter()
        .filter(|case| options.filter.as_ref().is_none_or(|part| case.name.contains(part)))
        .filter(|case| !(options.quick && case.is_variation()))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no case has that name: --list prints them");
    let mut seen = look(options, &Plan::new(&chosen, 1), &mut progress)?;
    let explained = Explained::built_in();
    let complete = options.filter.is_none();
    let mut repeated = 0;
    for _ in 0..FURTHER_LOOKS {
        let doubtful: Vec<_> =
            (0..chosen.len()).filter(|at| !seen[*at].agree(&explained)).collect();
        if doubtful.is_empty() {
            break;
        }
        repeated = repeated.max(doubtful.len());
        let again: Vec<_> = doubtful.iter().map(|at| chosen[*at]).collect();
        let further = look(options, &Plan::new(&again, LONGER), &mut progress)?;
        for (at, pair) in doubtful.iter().zip(further) {
            seen[*at] = pair;
        }
    }
    Ok(Report { repeated, ..Report::new(&seen, &explained, complete) })
}

/// On a busy machine a host can be slower than a case waits, or than the tick it races with: what
/// differs is looked at again, on its own, with so many times the patience.
const LONGER: u32 = 4;

/// How often at most. A difference that counts is there each time.
const FURTHER_LOOKS: u32 = 4;

/// Runs the cases of a plan in both hosts.
fn look(
    options: &Options,
    plan: &Plan<'_>,
    progress: &mut impl FnMut(Progress<'_>),
) -> anyhow::Result<Vec<Pair>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    // Side by side: most of a case is waiting.
    let progress = RefCell::new(progress);
    let side = async |name: &'static str| {
        let directory = tempfile::tempdir()?;
        let lines = Arc::new(Lines::default());
        let upstreams = Upstreams::start(lines.clone()).await?;
        let text = run::file(directory.path(), plan, &upstreams)?;
        let all = plan.cases.len();
        let host = start(name, options, directory.path(), &text, lines).await;
        let host = host.with_context(|| format!("{name} does not start"))?;
        let mut done = 0;
        let mut told = |case: &str| {
            (progress.borrow_mut())(Progress { host: name, case, done, all });
            done += 1;
        };
        let mut cells = run::run(&host, plan, &upstreams, &mut told).await?;
        let (lines, names) = (host.lines.clone(), run::names(&host, &upstreams));
        let start = lines.len();
        // Stopping waits for threads of the host.
        tokio::task::spawn_blocking(move || drop(host)).await?;
        run::ended(plan, &lines, start, &names, &mut cells);
        anyhow::Ok(cells)
    };
    let both = async { tokio::join!(side("envoy"), side("host-sim")) };
    let (envoy, host_sim) = runtime.block_on(both);
    let pairs = envoy?.into_iter().zip(host_sim?);
    Ok(pairs.map(|(envoy, host_sim)| Pair { envoy, host_sim }).collect())
}

async fn start(
    name: &str,
    options: &Options,
    directory: &Path,
    text: &str,
    lines: Arc<Lines>,
) -> anyhow::Result<Host> {
    if name == "envoy" {
        return Host::envoy(&options.envoy, directory, text, lines).await;
    }
    let text = text.to_owned();
    tokio::task::spawn_blocking(move || Host::host_sim(&text, lines)).await?
}
