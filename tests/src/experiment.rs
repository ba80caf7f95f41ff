//! Experiments with a real proxy: endpoints with set service times behind it, open-loop load before it,
//! an arm's policy in it.
//!
//! The rig's endpoints wait on timers, so their work costs no CPU and the proxy has the machine nearly
//! for itself. A seed fixes when requests come and each endpoint's service times, the same for every
//! arm.

mod arm;
mod failures;
mod oracle;

use crate::{Host, Running};
use anyhow::{Context, bail};
use host_sim_rig::connect::ErrorKind;
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::load::{self, LoadOptions, LoadResult, Steer};
use host_sim_rig::service_time::ServiceTime;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

pub use arm::Arm;
pub use failures::{Broken, Cycles, dies, kill_cycles, sinkhole};

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
}

impl Setting {
    /// 20 endpoints of 4 slots, lognormal work with mean 40 ms and CV 1, at so many requests a second,
    /// of clients that wait 2 s.
    pub fn usual(rate: f64) -> Self {
        let service_time = ServiceTime::LogNormal { mean: Duration::from_millis(40), cv: 1.0 };
        let patience = Duration::from_secs(2);
        Self { endpoints: 20, slots: 4, service_time, speeds: Vec::new(), rate, patience }
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
    steer: Option<Steer>,
    seed: u64,
}

impl Stand {
    /// Starts both. `retries` has the proxy try twice more.
    pub async fn start(
        host: &Host,
        arm: Arm,
        setting: &Setting,
        workers: NonZeroU32,
        seed: u64,
        retries: bool,
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
        let suite = if retries { suite.retries() } else { suite };
        let proxy = Running::start_with(host, &suite.bootstrap(), workers).await?;
        let steer = (arm == Arm::Oracle).then(|| oracle::steer(setting, &fleet));
        Ok(Self { setting: setting.clone(), fleet, proxy, steer, seed })
    }

    /// The endpoints.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The proxy.
    pub fn proxy(&self) -> &Running {
        &self.proxy
    }

    /// Sends load for so long; `part` tells loads of one seed apart.
    pub async fn load(&self, duration: Duration, part: u64) -> anyhow::Result<LoadResult> {
        let mut options = LoadOptions::at_rate(self.proxy.url("/"), self.setting.rate, duration);
        options.seed = self.seed.wrapping_mul(16).wrapping_add(part);
        options.timeout = self.setting.patience;
        options.connections = 512;
        options.steer = self.steer.clone();
        let result = load::run(&options, |_| ControlFlow::Continue(())).await?;
        if result.requests == 0 || result.succeeded == 0 {
            bail!("nothing came back: {result:?}\n{}", self.proxy.log());
        }
        Ok(result)
    }

    /// P99 in milliseconds after a warm-up, what was waited for in vain included.
    pub async fn p99(&self, warmup: Duration, duration: Duration) -> anyhow::Result<P99> {
        self.load(warmup, 0).await?;
        let result = self.load(duration, 1).await.context("after the warm-up")?;
        let timeouts = result.errors.get(&ErrorKind::Timeout).copied().unwrap_or(0);
        let vain = timeouts * 100 >= result.requests;
        let p99_ms =
            if vain { self.setting.patience.as_secs_f64() * 1e3 } else { result.latency.p99_ms };
        Ok(P99 {
            p99_ms,
            p50_ms: result.latency.p50_ms,
            error_percent: 100.0 * result.failed as f64 / result.requests as f64,
            lag_p99_ms: result.send_lag.p99_ms,
            unsent: result.unsent,
        })
    }
}

/// What came of one run.
#[derive(Clone, Copy, Debug)]
pub struct P99 {
    /// 99th percentile of the latency, in milliseconds.
    pub p99_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// Of 100 requests.
    pub error_percent: f64,
    /// The generator's own lateness: where it is not small, the machine was measured.
    pub lag_p99_ms: f64,
    /// Requests that could not be sent.
    pub unsent: u64,
}
