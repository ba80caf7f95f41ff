//! The two hosts, running the one file.

use crate::Phase;
use crate::probe::MARK;
use crate::trace::{Event, Line};
use anyhow::Context;
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{EngineOptions, LogLevel, LogRecord, LogSink};
use host_sim_proxy::{Proxy, ProxyOptions, RunningProxy};
use host_sim_rig::client::Client;
use host_sim_rig::process::{ProcessOptions, ProxyProcess, Readiness};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long Envoy may take to start: it compiles a module for each of a hundred VMs, on a machine
/// that may be busy with other things.
const START: Duration = Duration::from_secs(300);

/// A running host.
pub(crate) struct Host {
    pub(crate) listeners: Vec<(String, SocketAddr)>,
    pub(crate) lines: Arc<Lines>,
    process: Process,
}

enum Process {
    HostSim { _proxy: Box<RunningProxy> },
    Envoy { process: Box<ProxyProcess> },
}

impl Host {
    /// Starts the live proxy of host-sim in this process, with one worker.
    pub(crate) fn host_sim(text: &str, lines: Arc<Lines>) -> anyhow::Result<Self> {
        let bootstrap =
            Bootstrap::from_yaml(text).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let mut options = ProxyOptions { concurrency: NonZeroU32::MIN, ..ProxyOptions::default() };
        options.engine = EngineOptions { log: lines.clone(), ..options.engine };
        let proxy = Proxy::start(bootstrap, options)?;
        let listeners = proxy.listeners().to_vec();
        Ok(Self { listeners, lines, process: Process::HostSim { _proxy: Box::new(proxy) } })
    }

    /// Starts Envoy as a child, with one worker.
    pub(crate) async fn envoy(
        binary: &Path,
        directory: &Path,
        text: &str,
        lines: Arc<Lines>,
    ) -> anyhow::Result<Self> {
        let file = directory.join("envoy.yaml");
        let admin = directory.join("admin");
        std::fs::write(&file, text)?;
        let sink = lines.clone();
        let options = ProcessOptions::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn"])
            .args(["--component-log-level", "main:info", "--drain-time-s", "1", "-c"])
            .args([&file])
            .args(["--admin-address-path"])
            .args([&admin])
            .on_line(move |line| sink.push(line))
            .ready_when(Readiness::Line("starting main dispatch loop".to_owned()))
            .ready_timeout(START);
        let process = ProxyProcess::start(options).await?;
        let admin: SocketAddr = std::fs::read_to_string(&admin)?.trim().parse()?;
        let page = Client::new().get(&format!("http://{admin}/listeners")).await?.text();
        let listeners = page
            .lines()
            .map(|line| {
                let (name, at) = line.split_once("::").context("a listener's line")?;
                Ok((name.to_owned(), at.trim().parse()?))
            })
            .collect::<anyhow::Result<_>>()
            .with_context(|| format!("cannot read Envoy's listeners: {page}"))?;
        Ok(Self { listeners, lines, process: Process::Envoy { process: Box::new(process) } })
    }

    /// An error if it has ended, with its last words: Envoy aborts on some hostcalls.
    pub(crate) fn check_alive(&self, case: &str) -> anyhow::Result<()> {
        let Process::Envoy { process } = &self.process else { return Ok(()) };
        let Some(status) = process.exited() else { return Ok(()) };
        let log = process.log();
        let words: Vec<_> = log.lines().filter(|line| !line.contains(MARK)).collect();
        let last = words.get(words.len().saturating_sub(20)..).unwrap_or_default().join("\n");
        anyhow::bail!("Envoy ended ({status}) during case {case}:\n{last}")
    }

    /// The address of a listener.
    pub(crate) fn listener(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let found = self.listeners.iter().find(|(listener, _)| listener == name);
        Ok(found.with_context(|| format!("no listener {name}"))?.1)
    }
}

/// Between two looks at what probes have written.
const MOMENT: Duration = Duration::from_millis(4);

/// What probes have written, in order.
#[derive(Default)]
pub(crate) struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Lines {
    /// Keeps a line of a probe, drops every other.
    fn push(&self, line: &str) {
        if !line.contains(MARK) {
            return;
        }
        // Before it are times and places in Envoy's source.
        let start = line.find("wasm log").unwrap_or(0);
        self.lock().push(line[start..].to_owned());
        self.more.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines so far.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The lines from that one on.
    pub(crate) fn since(&self, start: usize) -> Vec<String> {
        self.lock().get(start..).unwrap_or_default().to_vec()
    }

    /// Waits until no line has come for a moment, at most a tenth of a second.
    pub(crate) fn settle(&self) {
        for _ in 0..25 {
            let before = self.len();
            std::thread::sleep(MOMENT);
            if self.len() == before {
                return;
            }
        }
    }

    /// Waits until that callback has begun in a line from `start` on, at most so long.
    pub(crate) async fn begins(&self, start: usize, phase: Phase, within: Duration) {
        let begun = || {
            let lines = self.since(start);
            let mut lines = lines.iter().filter_map(|line| Line::parse(line));
            lines.any(|line| line.phase == phase && matches!(line.event, Event::Callback(..)))
        };
        let deadline = Instant::now() + within;
        while !begun() && Instant::now() < deadline {
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// Waits until the lines from `start` on are enough, at most so long.
    pub(crate) fn wait(
        &self,
        start: usize,
        patience: Duration,
        enough: impl Fn(&[String]) -> bool,
    ) -> bool {
        let deadline = Instant::now() + patience;
        let mut lines = self.lock();
        loop {
            if enough(lines.get(start..).unwrap_or_default()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            lines = match self.more.wait_timeout(lines, left) {
                Ok((lines, _)) => lines,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl LogSink for Lines {
    fn log(&self, record: &LogRecord<'_>) {
        self.push(record.message);
    }

    fn level(&self) -> LogLevel {
        LogLevel::Warn
    }
}
