//! The simulator: the shipped modules on a virtual clock, with scripted endpoints.
//!
//! [`Host`] drives the same engine as the live proxy, without sockets and without waiting: one
//! thread, several logical workers, one heap of events ordered by time. Given the same bootstrap,
//! seed and actions it does the same, whatever the machine. Hold a `Host`, act, then look at what
//! is there: replies, what the endpoints received, metrics, shared data, logs.
//!
//! ```no_run
//! use host_sim::{Host, HostOptions, Request};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bootstrap = host_sim_bootstrap::Bootstrap::from_file("envoy.yaml".as_ref())?;
//! let mut host = Host::start(bootstrap, HostOptions { workers: 2, ..HostOptions::default() })?;
//! let first = host.send(&Request::get("/").header("x-client", "alice").on_worker(1));
//! host.settle(Duration::from_secs(10));
//! assert_eq!(host.reply(first).map(|reply| reply.status), Some(200));
//! assert_eq!(host.metric("weir_requests_total", &[]), Some(1.0));
//! # Ok(())
//! # }
//! ```
//!
//! Without a bootstrap, [`Host::start_suite`] puts plugins into one, with an example that runs.
//! [`HostOptions::limits`] keep a plugin from hanging the test, [`fault::Injector`] answers hostcalls
//! in the host's place, and [`sweep::sweep`] does so with each of them once.
//!
//! [`run`] does the same from scenario files; their format is described at [`Scenario`].

pub mod bench;
mod capability;
mod capture;
mod clock;
mod difference;
mod endpoint;
mod expect;
mod explore;
pub mod fault;
mod grpc_answer;
mod host;
pub mod lint;
mod metric;
mod observers;
mod problem;
mod report;
mod request;
mod run;
mod runner;
mod scenario;
mod schema;
mod suite;
pub mod sweep;
mod tcp;
mod textpb;
mod trace;
mod watch;
mod yaml;

pub use clock::VirtualClock;
pub use endpoint::{Answer, Behaviour, Chunk, Failure};
pub use explore::{
    Access, Case, Decision, ExploreOptions, Explored, Finding, Schedule, explore, replay_schedule,
};
pub use grpc_answer::{GrpcAnswer, GrpcBegin};
pub use host::{Host, HostOptions, StartError};
pub use host_sim_engine::{Limits, ModuleCache};
pub use observers::Observers;
pub use problem::{Place, Problem};
pub use report::{Format, Outcome, Report};
pub use request::{Received, Reply, Request, RequestId};
pub use runner::{Progress, RunOptions, find_files, run, run_watched, scenario_files};
pub use scenario::{Scenario, ScenarioError, json_schema};
pub use tcp::{Connect, TcpBehaviour, TcpConnection, TcpId, TcpReaction, TcpReceived};
pub use textpb::check_suite;
pub use trace::{Difference, Repeated, Replayed, Trace, TraceSummary, repeat, replay};
