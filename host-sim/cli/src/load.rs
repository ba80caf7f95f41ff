//! `host-sim load`: open-loop load on a URL.

mod table;

use crate::Unusable;
use crate::format::Format;
use crate::header;
use clap::{Args, ValueEnum};
use host_sim_rig::certificates;
use host_sim_rig::connect::Protocol;
use host_sim_rig::load::{self, Arrivals, ClientProfile, LoadOptions};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Send load to a URL and report latencies.
///
/// Open loop: requests leave when they are due, whether or not earlier ones were answered, and
/// latency counts from when a request was due.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    host-sim load http://127.0.0.1:10000/ --rate 500 --duration 10s\n  \
    host-sim load https://127.0.0.1:10443/ --ca target/demo/certs/ca.pem --http2 --format json\n\n\
    Exit codes: 0 the load ran (look at the report for failures), 1 it could not, 2 unusable \
    arguments.")]
pub(crate) struct LoadArgs {
    /// Where to, with the path.
    url: String,
    /// Requests a second.
    #[arg(short, long, default_value_t = 100.0)]
    rate: f64,
    /// How long.
    #[arg(short, long, default_value = "10s", value_parser = host_sim_rig::duration::parse)]
    duration: Duration,
    /// Connections: at most so many over HTTP/1.1, exactly so many over HTTP/2.
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Speak HTTP/2.
    #[arg(long)]
    http2: bool,
    /// Trust this root for https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How requests are spaced.
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    arrivals: Spacing,
    /// Request method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// Header of every request; may be given again.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header::parse)]
    headers: Vec<(String, String)>,
    /// Request body.
    #[arg(long, default_value = "")]
    body: String,
    /// A request unanswered this long after it was due has failed.
    #[arg(long, default_value = "10s", value_parser = host_sim_rig::duration::parse)]
    timeout: Duration,
    /// Fixes when requests are due.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Gaps between requests.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spacing {
    /// Independent users: exponential gaps.
    Poisson,
    /// A metronome.
    Constant,
}

pub(crate) fn execute(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(load::run(&options, |_| ControlFlow::Continue(())))?;
    args.format.print(&result, table::render)?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &LoadArgs) -> anyhow::Result<LoadOptions> {
    let mut options = LoadOptions::at_rate(args.url.as_str(), args.rate, args.duration);
    options.tls = match &args.ca {
        Some(file) => Some(certificates::client_config(file)?),
        None if args.url.starts_with("https:") => {
            return Err(Unusable(format!("{}: name the root to trust with --ca", args.url)).into());
        }
        None => None,
    };
    options.protocol = if args.http2 { Protocol::Http2 } else { Protocol::Http1 };
    options.connections = usize::from(args.connections);
    options.arrivals = match args.arrivals {
        Spacing::Poisson => Arrivals::Poisson,
        Spacing::Constant => Arrivals::Constant,
    };
    options.method.clone_from(&args.method);
    options.body = args.body.clone().into_bytes().into();
    options.timeout = args.timeout;
    options.seed = args.seed;
    if !args.headers.is_empty() {
        let headers = args.headers.clone();
        options.clients = vec![ClientProfile { weight: 1.0, headers, path: None }];
    }
    Ok(options)
}
