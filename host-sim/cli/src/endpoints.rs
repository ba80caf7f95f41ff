//! `host-sim endpoints`: something behind the proxy.

use crate::signals::Signals;
use anyhow::Context;
use clap::Args;
use host_sim_rig::certificates;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use host_sim_rig::service_time::ServiceTime;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run endpoints with set service times until a signal comes.
///
/// Each answers HTTP/1.1 and HTTP/2, has /healthz, /metrics and load reports, and switches under
/// /rig to slow it down or break it. Prints `endpoint NAME HOST:PORT` for each.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim endpoints                                     one that answers at once\n  \
    host-sim endpoints --count 5 fixed:10ms                five of the same\n  \
    host-sim endpoints fixed:4ms exponential:20ms          one of each\n  \
    host-sim endpoints --port 8001 --count 3 log_normal:10ms:1.0\n\n\
    Exit codes: 0 stopped by a signal, 1 a port is taken, 2 unusable arguments.")]
pub(crate) struct EndpointsArgs {
    /// fixed:MEAN, exponential:MEAN or log_normal:MEAN:VARIATION; one endpoint each.
    #[arg(value_name = "SERVICE_TIME", default_value = "fixed:0s")]
    service_times: Vec<ServiceTime>,
    /// So many endpoints of each service time.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Port of the first; the others follow. 0 lets the system choose each.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Requests each works on at the same time; the others queue.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Names are this and a number from 1.
    #[arg(long, default_value = "e")]
    name: String,
    /// Fixes the service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Serve TLS with the certificates in this directory, made if they are not there.
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
}

pub(crate) fn execute(args: &EndpointsArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::catch()?;
        let endpoints = start(args).await?;
        let mut out = std::io::stdout().lock();
        for endpoint in &endpoints {
            writeln!(out, "endpoint {} {}", endpoint.name(), endpoint.address())?;
        }
        out.flush()?;
        signals.next().await;
        Ok(ExitCode::SUCCESS)
    })
}

async fn start(args: &EndpointsArgs) -> anyhow::Result<Vec<Endpoint>> {
    let tls = match &args.certs {
        Some(directory) => Some(certificates::ensure(directory)?.server_config()?),
        None => None,
    };
    let mut endpoints = Vec::new();
    for service_time in &args.service_times {
        for _ in 0..args.count {
            let index = endpoints.len();
            let mut options = EndpointOptions::named(format!("{}{}", args.name, index + 1));
            options.address = SocketAddr::new(args.address, port(args.port, index)?);
            options.slots = usize::try_from(args.slots)?;
            options.service_time = *service_time;
            options.seed = args.seed;
            // Nobody in this process looks at them.
            options.keep_requests = 0;
            options.tls = tls.clone();
            endpoints.push(Endpoint::start(options).await?);
        }
    }
    Ok(endpoints)
}

fn port(first: u16, index: usize) -> anyhow::Result<u16> {
    if first == 0 {
        return Ok(0);
    }
    let port = usize::from(first) + index;
    u16::try_from(port).with_context(|| format!("port {port} is above 65535: choose --port lower"))
}
