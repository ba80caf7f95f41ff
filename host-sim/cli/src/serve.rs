//! `host-sim serve`: the live proxy.

use crate::cache::CacheArgs;
use crate::log_sink::{Level, Stderr};
use crate::signals::Signals;
use crate::source;
use anyhow::Context;
use clap::Args;
use host_sim::lint::{Level as Severity, Linter};
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{Clock, EngineOptions, Limits, LogLevel, LogRecord, LogSink, Observer};
use host_sim_proxy::{FileAccessLog, Proxy, ProxyOptions, RunningProxy};
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How long access-log lines may stay in memory.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Serve a bootstrap file as a live proxy.
///
/// Prints `listening NAME HOST:PORT` on stdout for each listener, and for the admin endpoint, once
/// every worker serves; the application log goes to stderr. SIGTERM and SIGINT close the
/// listeners, let requests in flight end, and exit with 0. A second signal ends at once.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim serve -c envoy-config/demo.yaml\n  \
    host-sim serve -c envoy.yaml --concurrency 1 --log-level debug\n  \
    host-sim serve -c envoy.yaml --lint --callback-deadline 1s\n\n\
    Exit codes: 0 stopped, 1 the file was rejected or a port is taken, 2 unusable arguments.")]
pub(crate) struct ServeArgs {
    /// The Envoy bootstrap, YAML or JSON.
    #[arg(short, long = "config", alias = "config-path", value_name = "FILE")]
    config: PathBuf,
    /// Number of workers. Default: the processors this process may use.
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroU32>,
    /// Least serious lines to log.
    #[arg(short, long, value_enum, default_value_t = Level::Info)]
    log_level: Level,
    /// How long requests in flight may go on after the first signal.
    #[arg(long, value_name = "DURATION", default_value = "10s",
          value_parser = host_sim_rig::duration::parse)]
    drain_timeout: Duration,
    /// Watch plugins for mistakes and log each once, with place, rule and mend. Costs speed.
    #[arg(long)]
    lint: bool,
    /// Seed of load balancing, back-off and request ids. Default: another one each time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long a plugin's callback may run before its VM is stopped, to about 10 ms. Default: as
    /// long as it likes, as in Envoy.
    #[arg(long, value_name = "DURATION", value_parser = host_sim_rig::duration::parse)]
    callback_deadline: Option<Duration>,
    /// Most memory a VM may have, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    vm_memory: u16,
    #[command(flatten)]
    cache: CacheArgs,
}

pub(crate) fn execute(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let bootstrap = source::bootstrap(&args.config)?;
    let access_log = Arc::new(FileAccessLog::open(&bootstrap)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything is started: a signal that comes early must not kill half a proxy.
        let signals = Signals::catch()?;
        let proxy = start(args, bootstrap, &access_log)
            .with_context(|| format!("{} cannot be served", args.config.display()))?;
        announce(&proxy)?;
        let code = serve(proxy, signals, &access_log).await;
        access_log.flush();
        code
    })
}

fn start(
    args: &ServeArgs,
    bootstrap: Bootstrap,
    access_log: &Arc<FileAccessLog>,
) -> anyhow::Result<RunningProxy> {
    let mut options = ProxyOptions::default();
    options.concurrency = args.concurrency.unwrap_or(options.concurrency);
    options.drain_timeout = args.drain_timeout;
    let log: Arc<dyn LogSink> = Arc::new(Stderr::at(args.log_level));
    options.engine = EngineOptions {
        observer: args.lint.then(|| linter(&bootstrap, log.clone(), options.engine.clock.clone())),
        log,
        access_log: access_log.clone(),
        seed: args.seed.unwrap_or_else(|| options.engine.clock.now().0),
        limits: Limits {
            memory: usize::from(args.vm_memory) << 20,
            deadline: args.callback_deadline,
            ..Limits::default()
        },
        module_cache: args.cache.modules(),
        ..options.engine
    };
    Ok(Proxy::start(bootstrap, options)?)
}

/// Logs what it finds, each mistake once.
fn linter(
    bootstrap: &Bootstrap,
    log: Arc<dyn LogSink>,
    clock: Arc<dyn Clock>,
) -> Arc<dyn Observer> {
    Arc::new(Linter::new(bootstrap, None).telling(move |finding| {
        let level = match finding.level {
            Severity::Note => LogLevel::Info,
            Severity::Warning => LogLevel::Warn,
            Severity::Error => LogLevel::Error,
        };
        if level >= log.level() {
            let (time, plugin) = (clock.now(), Some(finding.plugin.as_str()));
            let message = finding.to_string();
            log.log(&LogRecord { time, level, worker: None, plugin, message: &message });
        }
    }))
}

fn announce(proxy: &RunningProxy) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (name, address) in proxy.listeners() {
        writeln!(out, "listening {name} {address}")?;
    }
    if let Some(address) = proxy.admin() {
        writeln!(out, "listening admin {address}")?;
    }
    out.flush()
}

async fn serve(
    proxy: RunningProxy,
    mut signals: Signals,
    access_log: &FileAccessLog,
) -> anyhow::Result<ExitCode> {
    let mut flush = interval(FLUSH_INTERVAL);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(proxy.stop_requested());
    loop {
        tokio::select! {
            _ = signals.next() => break,
            () = stop.as_mut() => break,
            _ = flush.tick() => access_log.flush(),
        }
    }
    let stopped = tokio::task::spawn_blocking(move || proxy.drain_and_stop());
    tokio::select! {
        done = stopped => {
            done.context("the proxy did not stop")?;
            Ok(ExitCode::SUCCESS)
        }
        // Whoever signals twice does not want to wait, and the runtime would: for the drain.
        signal = signals.next() => {
            access_log.flush();
            std::process::exit(128 + signal)
        }
    }
}
