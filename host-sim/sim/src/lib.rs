//! The simulator: proxy-wasm plugins on a virtual clock, with scripted endpoints.
//!
//! [`Host`] runs any module, unchanged, in the same engine as the live proxy, without sockets and
//! without waiting: one thread, several logical workers, one heap of events ordered by time. Given
//! the same bootstrap, seed and actions it does the same, whatever the machine. Hold a `Host`, act,
//! then look at what is there.
//!
//! ```
//! use host_sim::{Answer, Behaviour, Connect, Host, HostOptions, Request};
//! use serde_json::json;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Counts requests, marks in shared data that there was one, logs connections, and refuses an
//! // empty configuration. Yours comes from a compiler.
//! let module = wat::parse_str(r#"(module
//!   (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
//!   (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
//!   (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
//!   (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
//!   (memory (export "memory") 1)
//!   (data (i32.const 0) "requestsconnected")
//!   (func (export "proxy_abi_version_0_2_1"))
//!   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
//!   (func (export "proxy_on_configure") (param i32 i32) (result i32)
//!     (drop (call $define (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 512)))
//!     (i32.ne (local.get 1) (i32.const 0)))
//!   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//!     (drop (call $increment (i32.load (i32.const 512)) (i64.const 1)))
//!     (call $set (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 4) (i32.const 0)))
//!   (func (export "proxy_on_new_connection") (param i32) (result i32)
//!     (call $log (i32.const 2) (i32.const 8) (i32.const 9))))"#)?;
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("mine.wasm"), module)?;
//!
//! // Start: the plugin before the endpoint, for requests and for connections.
//! let plugin = json!({
//!     "module": "mine.wasm", "name": "mine", "vm_id": "mine", "configuration": {"limit": 3},
//! });
//! let suite = json!({"filters": [plugin], "network_filters": [plugin]});
//! let endpoint = "127.0.0.1:9001".parse()?;
//! let base_dir = Some(folder.path().to_owned());
//! let options = HostOptions { workers: 2, base_dir, findings: true, ..HostOptions::default() };
//! let mut host = Host::start_suite(&suite, &[endpoint], options)?;
//!
//! // What the endpoint answers; then requests, and time, which costs none.
//! let answer = Answer { status: 404, body: b"nothing".to_vec(), ..Answer::default() };
//! host.behave(endpoint, Behaviour { answer, ..Behaviour::default() });
//! let first = host.send(&Request::get("/").header("x-client", "alice"));
//! let second = host.send(&Request::new("POST", "/").chunk("a body").on_worker(1));
//! assert!(host.settle(Duration::from_secs(1)));
//! host.advance(Duration::from_secs(3600));
//!
//! // What the client got, what the endpoint did, what the plugin left.
//! let reply = host.reply(first).expect("settled");
//! assert_eq!((reply.status, reply.body.as_slice()), (404, &b"nothing"[..]));
//! assert!(host.is_complete(second));
//! assert_eq!(host.received(endpoint).len(), 2);
//! assert_eq!(host.metric("requests", &[]), Some(2.0));
//! let (value, _cas) = host.engine().shared_data().get("mine", b"requests").expect("set");
//! assert_eq!(&value[..], b"requ");
//!
//! // Connections: the test is both ends.
//! let client = host.connect(&Connect::new()).expect("a listener with a TCP proxy");
//! host.send_bytes(client, "hello");
//! host.advance(Duration::from_millis(10));
//! assert_eq!(host.connection(client).expect("opened").received, b"hello");
//! assert!(host.log().iter().any(|line| line.contains("connected")));
//!
//! // Updates: a refused one changes nothing.
//! host.update_plugin("mine", r#"{"limit": 4}"#)?;
//! assert!(host.update_plugin("mine", "").is_err());
//!
//! // Findings: what the plugin does that Envoy's host does not take as it was meant.
//! let findings = host.findings();
//! let silent = findings.iter().find(|finding| finding.lint == "silent-rejection");
//! println!("{}", silent.expect("it does not say why it refuses"));
//! # Ok(())
//! # }
//! ```
//!
//! | to | there is |
//! |---|---|
//! | start from Envoy's own YAML | [`Host::start`] with a `Bootstrap` of the crate `host_sim_bootstrap` |
//! | let an endpoint be slow, fail, or answer by script | [`Behaviour`], [`Failure`], [`Host::behave_at`], [`Host::script`], [`TcpBehaviour`] |
//! | answer hostcalls in the host's place, each once if need be | [`fault::Injector`], [`sweep::sweep`] |
//! | bound what a plugin may use | [`HostOptions::limits`]; the defaults keep it from hanging the test |
//! | write down what happens, and compare | [`HostOptions::trace`], [`replay()`], [`repeat`] |
//! | try other orders of workers | [`explore()`] |
//! | look for mistakes without a test | [`lint::lint_module`], [`lint::lint_bootstrap`] |
//! | run scenario files | [`run()`]; their format is described at [`Scenario`] |
//! | compare load balancing under load | [`simulate::simulate`]; its files are described at [`simulate::Experiment`] |

pub mod bench;
mod capability;
mod capture;
mod clock;
mod difference;
mod dns;
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
pub mod simulate;
mod strict;
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
