//! A proxy as a child process: started, waited for, and gone when its handle is.
//!
//! Readiness is observed, never slept for: a line the proxy prints (`host-sim serve` prints
//! `listening NAME HOST:PORT` for each listener, Envoy logs `starting main dispatch loop`), or the
//! admin endpoint's `/ready`, which Envoy turns to 200 when its clusters have warmed up. A child
//! that exits before it is ready is an error at once, with what it wrote.
//!
//! ```no_run
//! use host_sim_rig::process::{ProcessOptions, ProxyProcess, Readiness};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let options = ProcessOptions::new("target/debug/host-sim")
//!     .args(["serve", "-c", "envoy-config/demo.yaml"])
//!     .ready_when(Readiness::Listening { listeners: 1 });
//! let proxy = ProxyProcess::start(options).await?;
//! let address = proxy.listener("ingress").expect("the file has this listener");
//! # drop(address);
//! # Ok(())
//! # }
//! ```

mod output;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::sync::lock;
use output::{LineSink, Output};

/// Longest wait for readiness, unless set otherwise. Compiling four modules in a debug build on a
/// busy machine takes a good part of it.
const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(180);

/// How long a child may drain when its handle is dropped, before it is killed.
const DROP_GRACE: Duration = Duration::from_secs(2);

/// Pause between two looks at a child that is exiting, or at an admin endpoint not yet there.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// Longest wait for one answer of the admin endpoint.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How a started process shows that it can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has printed `listening NAME HOST:PORT` for this many listeners.
    Listening {
        /// How many lines to wait for.
        listeners: usize,
    },
    /// It has written a line that contains this, on either stream.
    Line(String),
    /// `GET /ready` on this admin address answers 200.
    Admin(SocketAddr),
}

/// What to start.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    readiness: Readiness,
    ready_timeout: Duration,
    line_sink: Option<LineSink>,
}

impl ProcessOptions {
    /// A program, ready when it prints its first listener.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            environment: Vec::new(),
            directory: None,
            readiness: Readiness::Listening { listeners: 1 },
            ready_timeout: DEFAULT_READY_TIMEOUT,
            line_sink: None,
        }
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs in this directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// What to wait for.
    pub fn ready_when(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Hands on every line as it is written, on either stream; only the last ones are kept.
    pub fn on_line(self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { line_sink: Some(LineSink(Arc::new(sink))), ..self }
    }

    /// How long to wait for it.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }
}

/// A running child process. Dropping it sends SIGTERM, then SIGKILL two seconds later, and blocks
/// until it has exited: no test leaves a proxy behind.
#[derive(Debug)]
pub struct ProxyProcess {
    child: Mutex<Child>,
    pid: u32,
    output: Output,
}

impl ProxyProcess {
    /// Starts a process and waits until it is ready. The waiting happens on a thread of its own:
    /// endpoints on this runtime can answer the proxy's health checks meanwhile. The process is
    /// spawned on the calling thread, because Envoy ends when the thread that started it does, and
    /// tokio lets idle blocking threads go after ten seconds.
    pub async fn start(options: ProcessOptions) -> anyhow::Result<Self> {
        let (readiness, limit) = (options.readiness.clone(), options.ready_timeout);
        let process = Self::spawn(options)?;
        tokio::task::spawn_blocking(move || process.when_ready(&readiness, limit)).await?
    }

    /// The same where there is no tokio runtime.
    pub fn start_blocking(options: ProcessOptions) -> anyhow::Result<Self> {
        let (readiness, limit) = (options.readiness.clone(), options.ready_timeout);
        Self::spawn(options)?.when_ready(&readiness, limit)
    }

    fn spawn(options: ProcessOptions) -> anyhow::Result<Self> {
        let program = options.program.display().to_string();
        let mut command = Command::new(&options.program);
        command.args(&options.args).envs(options.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &options.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let output = Output::of(&mut child, options.line_sink);
        Ok(Self { pid: child.id(), child: Mutex::new(child), output })
    }

    /// On an error the process is dropped, and with it the child ends.
    fn when_ready(self, readiness: &Readiness, limit: Duration) -> anyhow::Result<Self> {
        self.wait_until_ready(readiness, limit)
            .with_context(|| format!("it wrote:\n{}", self.log()))?;
        self.output.started();
        Ok(self)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The address of a listener, from its `listening NAME HOST:PORT` line.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners().into_iter().find(|(n, _)| n == name).map(|(_, address)| address)
    }

    /// All listeners printed so far, in order.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.output.find_all(listening)
    }

    /// The last lines written to both streams, oldest first.
    pub fn log(&self) -> String {
        self.output.text()
    }

    /// Waits until a line that contains `text` has been written, on either stream, and returns it.
    pub async fn wait_for_line(&self, text: &str, limit: Duration) -> anyhow::Result<String> {
        let (output, text) = (self.output.clone(), text.to_owned());
        let waiting = move || {
            let found = output.wait_for(Instant::now() + limit, |lines| {
                lines.iter().find(|line| line.contains(&text)).cloned()
            });
            found.with_context(|| format!("no line with {text:?} within {limit:?}"))
        };
        tokio::task::spawn_blocking(waiting).await?
    }

    /// The exit status, if it has exited.
    pub fn exited(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().ok().flatten()
    }

    /// CPU time of all its threads so far; absent when it has exited or `/proc` does not tell.
    pub fn cpu_time(&self) -> Option<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let nanoseconds = threads.filter_map(|thread| {
            // First field: nanoseconds on a CPU. A thread may end between the two reads.
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_ascii_whitespace().next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(nanoseconds.sum())).filter(|time| !time.is_zero())
    }

    /// Sends SIGTERM and waits for the exit. One that takes longer than `grace` is killed, and that
    /// is an error.
    pub async fn terminate(self, grace: Duration) -> anyhow::Result<ExitStatus> {
        let waiting = move || {
            self.signal(Signal::TERM);
            if let Some(status) = self.wait_for_exit(grace) {
                return Ok(status);
            }
            // It had its time: dropping the handle would grant some more.
            self.kill();
            bail!("still running {grace:?} after SIGTERM; it wrote:\n{}", self.log())
        };
        tokio::task::spawn_blocking(waiting).await?
    }

    /// Asks it to stop (SIGTERM) and returns at once: to watch it drain.
    pub fn request_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills it (SIGKILL), as a crash would, and waits for the exit.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        if let Err(error) = lock(&self.child).wait() {
            log::warn!("process {}: wait: {error}", self.pid);
        }
    }

    fn wait_until_ready(&self, readiness: &Readiness, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let seen = match readiness {
            Readiness::Admin(address) => return self.wait_for_admin(*address, deadline, limit),
            Readiness::Line(text) => {
                let mut looked_at = 0;
                self.output.wait_for(deadline, |lines| {
                    let mut new = lines.iter().skip(std::mem::replace(&mut looked_at, lines.len()));
                    new.any(|line| line.contains(text)).then_some(())
                })
            }
            Readiness::Listening { listeners } => self.output.wait_for(deadline, |lines| {
                let count = lines.iter().filter(|line| listening(line).is_some()).count();
                (count >= *listeners).then_some(())
            }),
        };
        if seen.is_some() {
            return Ok(());
        }
        // Both streams have ended, or time is up. A child that closed them is about to exit.
        match self.wait_for_exit(POLL_PAUSE) {
            Some(status) => bail!("exited ({status}) before it was ready ({readiness:?})"),
            None => bail!("not ready ({readiness:?}) within {limit:?}"),
        }
    }

    fn wait_for_admin(
        &self,
        address: SocketAddr,
        deadline: Instant,
        limit: Duration,
    ) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.exited() {
                bail!("exited ({status}) before {address}/ready answered 200");
            }
            if admin_is_ready(address).unwrap_or(false) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{address}/ready did not answer 200 within {limit:?}");
            }
            thread::sleep(POLL_PAUSE);
        }
    }

    fn wait_for_exit(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(POLL_PAUSE.min(limit));
        }
    }

    fn signal(&self, signal: Signal) {
        // While the child has not been waited for, its id cannot belong to another process.
        let mut child = lock(&self.child);
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            log::warn!("process {}: signal: {error}", self.pid);
        }
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if self.wait_for_exit(DROP_GRACE).is_none() {
            self.kill();
        }
    }
}

/// Reads `listening NAME HOST:PORT`.
fn listening(line: &str) -> Option<(String, SocketAddr)> {
    let (name, address) = line.strip_prefix("listening ")?.rsplit_once(' ')?;
    Some((name.to_owned(), address.trim().parse().ok()?))
}

fn admin_is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, ADMIN_TIMEOUT)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status_line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status_line)?;
    Ok(status_line.ends_with(b" 200"))
}

#[cfg(test)]
mod tests;
