//! Running the arms.

use super::file::{self, Rendered};
use super::report::Arm;
use super::{DemoArgs, HostKind, cast};
use crate::Unusable;
use anyhow::Context;
use host_sim_rig::certificates::{self, Certificates};
use host_sim_rig::client::Client;
use host_sim_rig::endpoint::Endpoint;
use host_sim_rig::load::{self, LoadOptions, Progress};
use host_sim_rig::process::{ProcessOptions, ProxyProcess, Readiness};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;

/// Workers of the proxy. Two, so that what workers share is shared.
const CONCURRENCY: &str = "2";

/// The arms, in the order they run.
const ARMS: [&str; 2] = ["native", "weir"];

pub(super) async fn both_arms(args: &DemoArgs) -> anyhow::Result<Vec<Arm>> {
    let certificates = certificates::ensure(&args.out.join("certs"))?;
    let rendered = file::render(&args.config, &args.out, cast::NAMES.len())?;
    let endpoints = cast::endpoints(&rendered.endpoints, args.seed).await?;
    let mut arms = Vec::with_capacity(ARMS.len());
    for name in ARMS {
        cast::begin(&endpoints);
        let proxy = start_proxy(args, &rendered).await?;
        let arm = run_arm(args, name, &rendered, &certificates, &endpoints).await;
        std::fs::write(args.out.join(format!("{name}.log")), proxy.log())?;
        arms.push(arm.with_context(|| format!("the proxy's last lines:\n{}", proxy.log()))?);
    }
    Ok(arms)
}

async fn start_proxy(args: &DemoArgs, rendered: &Rendered) -> anyhow::Result<ProxyProcess> {
    let options = match args.host {
        HostKind::HostSim => ProcessOptions::new(std::env::current_exe()?)
            .args(["serve", "--concurrency", CONCURRENCY, "-c"])
            .args([&rendered.path])
            .ready_when(Readiness::Listening { listeners: 2 }),
        HostKind::Envoy => {
            let where_is_it = "where is Envoy? name its binary with --envoy or ENVOY_BIN; 'make demo \
                               HOST=envoy' installs one";
            let binary = args.envoy.as_ref().ok_or_else(|| Unusable(where_is_it.to_owned()))?;
            ProcessOptions::new(binary)
                .args(["--use-dynamic-base-id", "--concurrency", CONCURRENCY, "-c"])
                .args([&rendered.path])
                .ready_when(Readiness::Admin(rendered.admin))
        }
    };
    ProxyProcess::start(options).await
}

async fn run_arm(
    args: &DemoArgs,
    name: &'static str,
    rendered: &Rendered,
    certificates: &Certificates,
    endpoints: &[Endpoint],
) -> anyhow::Result<Arm> {
    let listener = if name == "weir" { rendered.weir } else { rendered.native };
    let options = LoadOptions {
        tls: Some(certificates.client_config()?),
        clients: cast::clients(),
        seed: args.seed,
        ..LoadOptions::at_rate(
            format!("https://{listener}/"),
            f64::from(args.rate),
            args.duration(),
        )
    };
    let mut progress = ProgressLine::new(name, args.seconds);
    let (result, fate) = tokio::join!(
        load::run(&options, |now| {
            progress.show(now);
            ControlFlow::Continue(())
        }),
        cast::fate(endpoints, args.duration()),
    );
    progress.end();
    fate?;
    let metrics = Client::new().get(&format!("http://{}/stats/prometheus", rendered.admin)).await?;
    std::fs::write(args.out.join(format!("{name}.prom")), &metrics.body)?;
    Ok(Arm::new(name, result?, breaker_transitions(&metrics.text())))
}

/// Sum of the breakers' transitions; none in the arm that has no breaker.
fn breaker_transitions(metrics: &str) -> u64 {
    let values = metrics
        .lines()
        .filter(|line| line.starts_with("weir_breaker_transitions_total"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

/// One line that is rewritten on a terminal, and a line every five seconds elsewhere.
struct ProgressLine {
    arm: &'static str,
    seconds: u64,
    terminal: bool,
    next: f64,
}

impl ProgressLine {
    fn new(arm: &'static str, seconds: u64) -> Self {
        Self { arm, seconds, terminal: std::io::stdout().is_terminal(), next: 0.0 }
    }

    fn show(&mut self, now: &Progress) {
        if now.elapsed_seconds < self.next {
            return;
        }
        self.next = now.elapsed_seconds + if self.terminal { 0.5 } else { 5.0 };
        let (start, end) = if self.terminal { ("\r", "\x1b[K") } else { ("", "\n") };
        print!(
            "{start}  {:<7}{:>4.0} of {} s  {:>6} requests  {:>4} errors  {:>5} limited  p99 {:>6.1} ms{end}",
            self.arm,
            now.elapsed_seconds,
            self.seconds,
            now.requests,
            now.errors,
            now.limited,
            now.p99_ms,
        );
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stdout().flush();
    }

    fn end(&self) {
        if self.terminal {
            println!();
        }
    }
}
