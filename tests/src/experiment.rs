//! Experiments with a real proxy: endpoints with set service times behind it, open-loop load before it,
//! an arm's policy in it.
//!
//! The rig's endpoints wait on timers, so their work costs no CPU and the proxy has the machine nearly
//! for itself. A seed fixes when requests come and how much work each of them is, wherever it goes: the
//! same for every arm.

mod arm;
mod cpu;
mod failures;
mod oracle;
mod reloads;

use crate::{Host, Running};
use anyhow::{Context, bail};
use cpu::Ticks;
use host_sim_rig::draw::SplitMix64;
use host_sim_rig::endpoint::{EndpointOptions, WORK};
use host_sim_rig::fleet::Fleet;
use host_sim_rig::load::{self, LoadOptions, LoadResult, Steer};
use host_sim_rig::service_time::ServiceTime;
use http::HeaderValue;
use oracle::Oracle;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

pub use arm::Arm;
pub use cpu::Cpu;
pub use failures::{Broken, Cycles, Stall, dies, kill_cycles, sinkhole};
pub use reloads::{Reloads, vms_die};

/// The endpoints, and how they are loaded.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many.
    pub endpoints: usize,
    /// Slots of each.
    pub slots: usize,
    /// Work of a request.
    pub service_time: ServiceTime,
    /// Speeds of the first, second, and so on, from the beginning again. Empty: all 1.
    pub speeds: Vec<f64>,
    /// Requests a second.
    pub rate: f64,
    /// How long a client waits.
    pub patience: Duration,
    /// Requests under way at one time. What comes due beyond them is not sent.
    pub at_once: usize,
}

impl Setting {
    /// 20 endpoints of 4 slots, lognormal work with mean 40 ms and CV 1, at so many requests a second,
    /// of clients that wait 2 s.
    pub fn usual(rate: f64) -> Self {
        let service_time = ServiceTime::LogNormal { mean: Duration::from_millis(40), cv: 1.0 };
        let patience = Duration::from_secs(2);
        // More than are ever needed: a bound would be a queue of the clients' own.
        let at_once = LoadOptions::at_rate("", rate, Duration::ZERO).max_in_flight;
        Self { endpoints: 20, slots: 4, service_time, speeds: Vec::new(), rate, patience, at_once }
    }

    /// The same with other speeds, at a part of the capacity.
    pub fn loaded(rho: f64, speeds: &[f64]) -> Self {
        let mut setting = Self { speeds: speeds.to_vec(), ..Self::usual(0.0) };
        setting.rate = rho * setting.capacity();
        setting
    }

    /// Requests a second that all can serve.
    pub fn capacity(&self) -> f64 {
        let one = self.slots as f64 / self.service_time.mean().as_secs_f64();
        (0..self.endpoints).map(|at| self.speed(at) * one).sum()
    }

    /// The speed of one of them.
    pub fn speed(&self, number: usize) -> f64 {
        let at = number.checked_rem(self.speeds.len());
        at.and_then(|at| self.speeds.get(at)).copied().unwrap_or(1.0)
    }
}

/// Endpoints, and a proxy with an arm's policy in front of them.
pub struct Stand {
    setting: Setting,
    fleet: Arc<Fleet>,
    proxy: Running,
    oracle: Option<Arc<Oracle>>,
    killers: Vec<String>,
    seed: u64,
}

/// What the proxy does besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct With {
    /// Tries twice more.
    pub retries: bool,
    /// Has modules come back when their VM dies, and lets [`vms_die`] kill them.
    pub reloads: bool,
    /// Has a core of its own, which the load and the endpoints leave to it.
    pub pinned: bool,
}

impl Stand {
    /// Starts both.
    pub async fn start(
        host: &Host,
        arm: Arm,
        setting: &Setting,
        workers: NonZeroU32,
        seed: u64,
        with: With,
    ) -> anyhow::Result<Self> {
        let options = EndpointOptions {
            slots: setting.slots,
            service_time: setting.service_time,
            seed,
            keep_requests: 0,
            ..EndpointOptions::named("e")
        };
        let fleet = Arc::new(Fleet::start(&options, setting.endpoints).await?);
        for (at, endpoint) in fleet.endpoints().iter().enumerate() {
            endpoint.set_slow_factor(1.0 / setting.speed(at));
        }
        let suite = arm.suite(&fleet.addresses());
        let suite = if with.retries { suite.retries() } else { suite };
        let suite = if with.reloads { suite.reloads() } else { suite };
        let proxy = Running::start_with(host, &suite.bootstrap(), workers).await?;
        if let (true, Some(id)) = (with.pinned, proxy.pid()) {
            anyhow::ensure!(
                cpu::pin(id, workers.get()),
                "cannot pin: it takes 'taskset' and two cores"
            );
        }
        let oracle = (arm == Arm::Oracle).then(|| Arc::new(Oracle::new(setting, &fleet)));
        Ok(Self { setting: setting.clone(), fleet, proxy, oracle, killers: suite.killers(), seed })
    }

    /// The endpoints.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The proxy.
    pub fn proxy(&self) -> &Running {
        &self.proxy
    }

    /// Sends load, of which what is due in the warm-up counts in the timeline alone.
    pub async fn load(&self, warmup: Duration, duration: Duration) -> anyhow::Result<LoadResult> {
        let mut options =
            LoadOptions::at_rate(self.proxy.url("/"), self.setting.rate, warmup + duration);
        options.seed = self.seed;
        options.warmup = warmup;
        options.timeout = self.setting.patience;
        options.max_in_flight = self.setting.at_once;
        options.connections = self.setting.at_once;
        options.steer = Some(self.steer());
        let result = load::run(&options, |_| ControlFlow::Continue(())).await?;
        if let Some(status) = self.proxy.exited() {
            bail!("the proxy ended ({status}) under load: {}", self.last_words());
        }
        if result.succeeded == 0 {
            bail!(
                "nothing came back: {:?} {:?}: {}",
                result.errors,
                result.by_status,
                self.last_words()
            );
        }
        Ok(result)
    }

    /// Has the proxy stand still for so long.
    async fn stop(&self, lasts: Duration) -> anyhow::Result<()> {
        let id = self.proxy.pid().context("a proxy in this process cannot be stopped")?;
        cpu::signal(id, "STOP")?;
        tokio::time::sleep(lasts).await;
        cpu::signal(id, "CONT")
    }

    /// Runs this, and says who used the machine meanwhile.
    async fn watch<T>(&self, what: impl Future<Output = T>) -> (T, Cpu) {
        let then = Ticks::now(self.proxy.pid());
        let result = what.await;
        (result, Ticks::now(self.proxy.pid()).since(then))
    }

    /// Gives every request its work, and in the oracle's arm its endpoint.
    fn steer(&self) -> Steer {
        let (seed, service_time) = (self.seed, self.setting.service_time);
        let oracle = self.oracle.clone();
        Steer(Arc::new(move |number, headers| {
            let mut draws = SplitMix64::named(seed ^ number.rotate_left(32), "work");
            let work = service_time.sample(&mut draws).as_secs_f64();
            if let Ok(value) = HeaderValue::from_str(&format!("{work:.6}")) {
                headers.insert(WORK, value);
            }
            if let Some(oracle) = &oracle {
                oracle.steer(headers);
            }
        }))
    }

    /// The end of what the proxy logged.
    fn last_words(&self) -> String {
        let log = self.proxy.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
    }

    /// P99 in milliseconds after a warm-up, what was waited for in vain included.
    pub async fn p99(&self, warmup: Duration, duration: Duration) -> anyhow::Result<P99> {
        let measuring = async {
            tokio::time::sleep(warmup).await;
            self.watch(tokio::time::sleep(duration)).await.1
        };
        let (result, cpu) = tokio::join!(self.load(warmup, duration), measuring);
        let result = result?;
        Ok(P99 {
            p99_ms: result.waited.p99_ms,
            p50_ms: result.waited.p50_ms,
            error_percent: 100.0 * result.failed as f64 / result.requests as f64,
            lag_p50_ms: result.send_lag.p50_ms,
            lag_p99_ms: result.send_lag.p99_ms,
            unsent: result.unsent,
            cpu,
            by_second_ms: result.timeline.iter().map(|own| own.p99_ms.round()).collect(),
            largest_share: result.share.values().copied().fold(0.0, f64::max)
                * self.setting.endpoints as f64,
        })
    }
}

/// Lines of the proxy's log that tell of a failure.
const LAST_WORDS: usize = 12;

/// What came of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct P99 {
    /// 99th percentile of the latency, in milliseconds.
    pub p99_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// Of 100 requests.
    pub error_percent: f64,
    /// The generator's own lateness.
    pub lag_p50_ms: f64,
    /// Its 99th percentile: where it is not small, the machine was measured.
    pub lag_p99_ms: f64,
    /// Requests that could not be sent.
    pub unsent: u64,
    /// Who used the machine.
    pub cpu: Cpu,
    /// P99 of each second, the warm-up's too: shows whether it was one stall or all the time.
    pub by_second_ms: Vec<f64>,
    /// The largest part of the answers that came from one endpoint, as a multiple of an equal part.
    pub largest_share: f64,
}
