//! The two hosts, and what a test does with a running proxy.

use crate::Suite;
use anyhow::{Context, bail};
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{AccessLogSink, Engine, EngineOptions, LogRecord, LogSink};
use host_sim_proxy::{Proxy, ProxyOptions, RunningProxy};
use host_sim_rig::client::{Client, Response};
use host_sim_rig::process::{ProcessOptions, ProxyProcess, Readiness};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that [`eventually`] tries. Generous: it bounds a failure, not a success.
const PATIENCE: Duration = Duration::from_secs(120);

/// Workers of every proxy: two, so that what workers share is shared.
const CONCURRENCY: NonZeroU32 = NonZeroU32::new(2).expect("two");

/// Where a suite runs.
#[derive(Clone, Debug)]
pub enum Host {
    /// host-sim's live proxy, in this process.
    HostSim,
    /// This Envoy binary, as a child process.
    Envoy(PathBuf),
}

impl Host {
    /// Real Envoy, if `ENVOY_BIN` names it. Prints a line if not; with `CI=true` that is an error.
    pub fn envoy() -> anyhow::Result<Option<Self>> {
        match std::env::var_os("ENVOY_BIN") {
            Some(path) => Ok(Some(Self::Envoy(path.into()))),
            None if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                bail!("CI=true and ENVOY_BIN is not set: run 'make test', which installs Envoy")
            }
            None => {
                println!("SKIP: ENVOY_BIN is not set; 'make test' installs Envoy and sets it");
                Ok(None)
            }
        }
    }

    /// Loads the suite without serving, as `envoy --mode validate` does. The inner error is what
    /// the host says of a rejected configuration.
    pub async fn validate(&self, suite: &Suite) -> anyhow::Result<Result<(), String>> {
        match self {
            Self::HostSim => {
                let bootstrap = Bootstrap::from_yaml(&suite.bootstrap())
                    .map_err(|problems| anyhow::anyhow!("{problems}"))?;
                let started = Engine::start(bootstrap, EngineOptions::default());
                Ok(started.map(|_| ()).map_err(|error| error.to_string()))
            }
            Self::Envoy(binary) => {
                let directory = tempfile::tempdir()?;
                let file = directory.path().join("envoy.yaml");
                std::fs::write(&file, suite.bootstrap())?;
                let output = Command::new(binary)
                    .args(["--mode", "validate", "--use-dynamic-base-id", "-c"])
                    .arg(&file)
                    .output()
                    .context("cannot run Envoy")?;
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                Ok(if output.status.success() { Ok(()) } else { Err(text) })
            }
        }
    }
}

impl Suite {
    /// Runs it with two workers.
    pub async fn start(&self, host: &Host) -> anyhow::Result<Running> {
        Running::start(host, &self.bootstrap()).await
    }
}

impl Running {
    /// Runs a bootstrap with two workers. Its listener must be named `weir`.
    pub async fn start(host: &Host, text: &str) -> anyhow::Result<Self> {
        Self::start_with(host, text, CONCURRENCY).await
    }

    /// As [`Running::start`], with this many workers.
    pub async fn start_with(host: &Host, text: &str, workers: NonZeroU32) -> anyhow::Result<Self> {
        match host {
            Host::HostSim => {
                let bootstrap =
                    Bootstrap::from_yaml(text).map_err(|problems| anyhow::anyhow!("{problems}"))?;
                let log = Arc::new(Log::default());
                let engine = EngineOptions {
                    log: log.clone(),
                    access_log: log.clone(),
                    ..EngineOptions::default()
                };
                let options =
                    ProxyOptions { concurrency: workers, engine, ..ProxyOptions::default() };
                let proxy = Proxy::start(bootstrap, options)?;
                let listeners = proxy.listeners().to_vec();
                let admin = proxy.admin().context("no admin endpoint")?;
                let process = Process::HostSim { _proxy: Box::new(proxy), log };
                Ok(Self { listeners, admin, process })
            }
            Host::Envoy(binary) => start_envoy(binary, text, workers).await,
        }
    }
}

async fn start_envoy(binary: &PathBuf, text: &str, workers: NonZeroU32) -> anyhow::Result<Running> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("envoy.yaml");
    let admin_path = directory.path().join("admin");
    std::fs::write(&file, text)?;
    let options = ProcessOptions::new(binary)
        .args(["--use-dynamic-base-id", "--log-level", "info", "-c"])
        .args([&file])
        .args(["--concurrency".to_owned(), workers.to_string()])
        .args(["--drain-time-s", "1", "--admin-address-path"])
        .args([&admin_path])
        .ready_when(Readiness::Line("starting main dispatch loop".to_owned()));
    let process = ProxyProcess::start(options).await?;
    let admin: SocketAddr = std::fs::read_to_string(&admin_path)?.trim().parse()?;
    let listeners = Client::new().get(&format!("http://{admin}/listeners")).await?.text();
    let listeners = listeners
        .lines()
        .filter_map(|line| line.split_once("::"))
        .map(|(name, address)| Ok((name.to_owned(), address.parse()?)))
        .collect::<anyhow::Result<_>>()?;
    let process = Process::Envoy { process, _directory: directory };
    Ok(Running { listeners, admin, process })
}

enum Process {
    HostSim { _proxy: Box<RunningProxy>, log: Arc<Log> },
    Envoy { process: ProxyProcess, _directory: TempDir },
}

/// The application log in memory, access logs in their files.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl LogSink for Log {
    fn log(&self, record: &LogRecord<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(format!("[{:?}] {}", record.level, record.message));
    }
}

impl AccessLogSink for Log {
    fn write(&self, target: &str, line: &str) {
        let file = OpenOptions::new().create(true).append(true).open(target);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            println!("access log {target}: {error}");
        }
    }
}

/// A proxy that runs until it is dropped.
pub struct Running {
    listeners: Vec<(String, SocketAddr)>,
    admin: SocketAddr,
    process: Process,
}

impl Running {
    /// A URL of the listener `weir`, without TLS.
    pub fn url(&self, path: &str) -> String {
        self.url_of("weir", path)
    }

    /// A URL of any listener, without TLS.
    pub fn url_of(&self, listener: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(listener))
    }

    /// A URL of the listener `weir`, with TLS.
    pub fn https_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address("weir"))
    }

    /// A listener's address.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        found.unwrap_or_else(|| panic!("no listener '{listener}': {:?}", self.listeners)).1
    }

    /// Sends one request on a connection of its own, so that the kernel spreads them over the
    /// workers.
    pub async fn get(&self, path: &str) -> anyhow::Result<Response> {
        Client::new().get(&self.url(path)).await.with_context(|| self.log())
    }

    /// Sum of a metric over all of its label sets; `None` if there is none.
    pub async fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        self.metric_with(name, &[]).await
    }

    /// Sum of a metric over the label sets that hold these labels; `None` if there is none.
    ///
    /// Up to Envoy 1.38, metrics of plugins in a cluster's upstream filters stand below the cluster.
    pub async fn metric_with(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<Option<f64>> {
        let url = format!("http://{}/stats/prometheus", self.admin);
        let text = Client::new().get(&url).await?.text();
        let wanted: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let below = match name.strip_prefix("envoy_wasm_") {
            Some(rest) => format!("envoy_cluster_wasm_{rest}"),
            None => format!("envoy_cluster_wasmcustom_{name}"),
        };
        let mut sum = None;
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            if (series_name == name || series_name == below)
                && wanted.iter().all(|label| series_labels.contains(label))
            {
                *sum.get_or_insert(0.0) += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// The process id of a proxy that is not in this process.
    pub fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::HostSim { .. } => None,
            Process::Envoy { process, .. } => Some(process.pid()),
        }
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        match &self.process {
            Process::HostSim { .. } => None,
            Process::Envoy { process, .. } => process.exited(),
        }
    }

    /// What the proxy logged, for the report of a failure.
    pub fn log(&self) -> String {
        match &self.process {
            Process::HostSim { log, .. } => {
                log.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
            }
            Process::Envoy { process, .. } => process.log(),
        }
    }
}

/// Tries until the attempt answers true. The attempts themselves take the time that passes: they
/// send requests. Gives up after two minutes.
pub async fn eventually(
    what: &str,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !attempt().await.with_context(|| format!("while waiting until {what}"))? {
        if Instant::now() >= deadline {
            bail!("gave up waiting until {what}");
        }
    }
    Ok(())
}
