//! Endpoints with set service times, and switches to break them while they run.
//!
//! An endpoint is a process in miniature: bounded slots with a FIFO queue, a composite health
//! check, Prometheus metrics and ORCA load reports. It answers HTTP/1.1 and HTTP/2 (prior
//! knowledge, or ALPN when it has TLS) on one port.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | `{"status","timestamp","connections","queue_depth","ready"}`, 503 when degraded or not ready |
//! | `/metrics` | Prometheus text |
//! | `/rig`, `/rig/...` | counters, and the switches over HTTP: see the table in the endpoint's source |
//! | `/echo` | after the work: method, path, headers and body of the request as JSON |
//! | any other | after the work: `{"endpoint":"e1","served":7}` |
//!
//! Work answers carry `x-endpoint` and a load report. Only work queues for slots. A request may say in
//! [`x-work`](WORK) how much work it is.
//!
//! ```
//! use host_sim_rig::client::Client;
//! use host_sim_rig::endpoint::{Endpoint, EndpointOptions, Fault};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let endpoint = Endpoint::start(EndpointOptions::named("e1")).await?;
//! endpoint.set_fault(Fault::respond(503));
//! assert_eq!(Client::new().get(&endpoint.url("/")).await?.status, 503);
//! endpoint.recover();
//! assert_eq!(Client::new().get(&endpoint.url("/")).await?.status, 200);
//! assert_eq!((endpoint.counters().failed, endpoint.counters().served), (1, 1));
//! # anyhow::Ok(())
//! # })?;
//! # anyhow::Ok(())
//! ```

mod admin;
mod answer;
mod body;
mod connection;
mod exposition;
mod ledger;
mod lifecycle;
mod load_report;
mod meter;
mod slots;
mod switches;
mod timer;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::time::Instant;

pub use ledger::{Counters, HealthPoll, ReceivedRequest};
pub use load_report::{LoadReport, ReportFormat};
pub use switches::{Cold, Fault, ReportSource};

use crate::draw::SplitMix64;
use crate::ports::ReservedPort;
use crate::rfc3339;
use crate::service_time::ServiceTime;
use crate::sync::lock;
use ledger::Ledger;
use lifecycle::Life;
use slots::Slots;
use switches::Switches;
use timer::Timer;

/// How much work a request is: seconds at normal speed, such as `0.04`, instead of a drawn service
/// time. With it one request is the same work at every endpoint.
pub const WORK: HeaderName = HeaderName::from_static("x-work");

/// How an endpoint is built.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// Name in bodies, in `x-endpoint` and in metrics.
    pub name: String,
    /// Where to listen. Default 127.0.0.1, port chosen by the kernel.
    pub address: SocketAddr,
    /// Requests worked on at the same time; the others queue. At least 1, default 8.
    pub slots: usize,
    /// How long one request keeps its slot. Default: no time at all.
    pub service_time: ServiceTime,
    /// Fixes the service times, together with the name. Default 1.
    pub seed: u64,
    /// Encoding of the load report. Default text.
    pub report_format: ReportFormat,
    /// Time constant over which the load report is smoothed. Default 1 s.
    pub smoothing: Duration,
    /// How many received requests to keep for [`Endpoint::requests`]. Default 64; 0 under load.
    pub keep_requests: usize,
    /// Serves TLS when present. ALPN is the configuration's. Default plaintext.
    pub tls: Option<Arc<ServerConfig>>,
}

impl EndpointOptions {
    /// The defaults under this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            slots: 8,
            service_time: ServiceTime::default(),
            seed: 1,
            report_format: ReportFormat::default(),
            smoothing: Duration::from_secs(1),
            keep_requests: 64,
            tls: None,
        }
    }
}

/// A running endpoint. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Listens and serves on the current tokio runtime.
    pub async fn start(options: EndpointOptions) -> anyhow::Result<Self> {
        let name = options.name.clone();
        let reserved = ReservedPort::at(options.address)
            .with_context(|| format!("endpoint {name}: cannot bind {}", options.address))?;
        let shared = Arc::new(Shared::new(options, reserved.address())?);
        let listener =
            reserved.listen().with_context(|| format!("endpoint {name}: cannot listen"))?;
        *shared.life.lock().await = shared.run(listener);
        Ok(Self { shared })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens; the same after a kill.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// `http://127.0.0.1:<port><path>`, or `https` when it serves TLS.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.shared.address)
    }

    /// What it counted so far.
    pub fn counters(&self) -> Counters {
        lock(&self.shared.ledger).counters.clone()
    }

    /// Requests in the queue now.
    pub fn queue_depth(&self) -> usize {
        self.shared.slots.load().waiting
    }

    /// The last work requests received, oldest first.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        lock(&self.shared.ledger).requests()
    }

    /// Empties the list of received requests.
    pub fn forget_requests(&self) {
        lock(&self.shared.ledger).forget_requests();
    }

    /// The last health polls received, oldest first.
    pub fn health_polls(&self) -> Vec<HealthPoll> {
        lock(&self.shared.ledger).health_polls()
    }

    /// Closes the listener and all connections, as a killed process does: when this returns,
    /// connects are refused. Requests in flight are lost. Nothing to do when dead already.
    pub async fn kill(&self) -> io::Result<()> {
        self.shared.kill().await
    }

    /// Listens on the same port again, slower for a while if `cold`. The switches stay as they
    /// were.
    pub async fn revive(&self, cold: Option<Cold>) -> io::Result<()> {
        self.shared.revive(cold).await
    }

    /// Does this to work requests from now on; requests already in slots finish.
    pub fn set_fault(&self, fault: Fault) {
        self.switch(|switches| switches.work = fault);
    }

    /// Does this to health polls.
    pub fn set_health_fault(&self, fault: Fault) {
        self.switch(|switches| switches.health = fault);
    }

    /// Multiplies service times that start from now on. 1 is the normal speed.
    pub fn set_slow_factor(&self, factor: f64) {
        self.switch(|switches| switches.slow_factor = factor);
    }

    /// How fast it works now: 1 is normal, 0.5 takes twice as long.
    pub fn speed(&self) -> f64 {
        1.0 / lock(&self.shared.switches).factor(Instant::now())
    }

    /// Readiness in `/healthz`.
    pub fn set_ready(&self, ready: bool) {
        self.switch(|switches| switches.ready = ready);
    }

    /// Status `degraded` in `/healthz`.
    pub fn set_degraded(&self, degraded: bool) {
        self.switch(|switches| switches.degraded = degraded);
    }

    /// Repeats the present time in `/healthz` for as long as it is on.
    pub fn freeze_timestamp(&self, freeze: bool) {
        let text = freeze.then(|| rfc3339::format(SystemTime::now()));
        self.switch(|switches| switches.frozen_timestamp = text);
    }

    /// Answers gRPC requests trailers-only with this code; `None` treats them as any other.
    pub fn set_grpc_status(&self, code: Option<u32>) {
        self.switch(|switches| switches.grpc_status = code);
    }

    /// What load reports say.
    pub fn set_report(&self, source: ReportSource) {
        self.switch(|switches| switches.report = source);
    }

    /// How load reports are encoded.
    pub fn set_report_format(&self, format: ReportFormat) {
        self.switch(|switches| switches.report_format = format);
    }

    /// Headers added to every work answer; they replace others of the same name.
    pub fn set_response_headers(&self, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.switch(|switches| switches.response_headers = headers);
    }

    /// All switches back to normal, except for the report format.
    pub fn recover(&self) {
        self.switch(|switches| *switches = Switches::healthy(switches.report_format));
    }

    fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut lock(&self.shared.switches));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Held elsewhere only while a kill or revival is under way, whose task then has the last
        // word: dropping an endpoint in the middle of that leaves it running until the runtime ends.
        if let Ok(mut life) = self.shared.life.try_lock() {
            *life = Life::Gone;
        }
    }
}

/// What the handle, the listener and the connections share.
#[derive(Debug)]
struct Shared {
    name: String,
    /// The name as a JSON string, which is also a Prometheus label value.
    quoted_name: String,
    name_header: HeaderValue,
    address: SocketAddr,
    started: Instant,
    service_time: ServiceTime,
    tls: Option<Arc<ServerConfig>>,
    slots: Slots,
    timer: Timer,
    draws: Mutex<SplitMix64>,
    switches: Mutex<Switches>,
    ledger: Mutex<Ledger>,
    life: tokio::sync::Mutex<Life>,
}

impl Shared {
    fn new(options: EndpointOptions, address: SocketAddr) -> anyhow::Result<Self> {
        let name_header = HeaderValue::from_str(&options.name)
            .with_context(|| format!("{:?} cannot be a header value", options.name))?;
        let timer = Timer::precise().context("cannot start a timer thread")?;
        Ok(Self {
            quoted_name: serde_json::to_string(&options.name)?,
            name_header,
            address,
            started: Instant::now(),
            service_time: options.service_time,
            tls: options.tls,
            slots: Slots::new(options.slots, options.smoothing, timer.clone()),
            timer,
            draws: Mutex::new(SplitMix64::named(options.seed, &options.name)),
            switches: Mutex::new(Switches::healthy(options.report_format)),
            ledger: Mutex::new(Ledger::new(options.keep_requests, options.smoothing)),
            life: tokio::sync::Mutex::new(Life::Gone),
            name: options.name,
        })
    }

    /// The time the next request keeps its slot: what it brings, or what is drawn for it.
    fn service_time(&self, headers: &HeaderMap) -> Duration {
        let brought = headers.get(WORK).and_then(|value| value.to_str().ok()?.parse().ok());
        let brought = brought.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let drawn = brought.unwrap_or_else(|| self.service_time.sample(&mut lock(&self.draws)));
        let factor = lock(&self.switches).factor(Instant::now());
        Duration::try_from_secs_f64(drawn.as_secs_f64() * factor).unwrap_or(drawn)
    }

    /// What a fault does to the next request: nothing if it hits a share of them and not this one.
    /// Draws only if it matters, so that the service times do not depend on faults that hit all.
    fn struck_by(&self, fault: &Fault) -> Fault {
        match fault {
            Fault::Respond { fraction, .. }
                if *fraction < 1.0 && lock(&self.draws).unit() >= *fraction =>
            {
                Fault::None
            }
            _ => fault.clone(),
        }
    }

    /// The load report as a header.
    fn load_report_header(&self, switches: &Switches) -> Option<(&'static str, String)> {
        match &switches.report {
            ReportSource::Measured => self.measure().header(switches.report_format),
            ReportSource::Fixed(report) => report.header(switches.report_format),
            ReportSource::Raw(value) => Some(("endpoint-load-metrics", value.clone())),
        }
    }

    /// The load as it is now. Requests in flight include the one that carries the report: it has
    /// left its slot, but a client that reads `rif` compares endpoints, and the one in hand is
    /// the same at all of them.
    fn measure(&self) -> LoadReport {
        let load = self.slots.load();
        let now = self.started.elapsed();
        let mut ledger = lock(&self.ledger);
        let mut report = LoadReport {
            cpu_utilization: Some(rounded(load.utilization)),
            application_utilization: Some(rounded(load.demand)),
            rps_fractional: Some(rounded(ledger.rps.per_second(now))),
            eps: Some(rounded(ledger.eps.per_second(now))),
            ..LoadReport::default()
        };
        let rif = ledger.counters.in_flight as f64;
        report.named_metrics.insert("rif".to_owned(), rif);
        report.named_metrics.insert("queue".to_owned(), load.waiting as f64);
        report
    }
}

/// To four decimals: what is measured is not more precise, and headers cost bytes.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests;
