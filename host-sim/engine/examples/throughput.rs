//! Header-only requests a second through an empty filter, on one core, without any I/O.
//!
//! `cargo run --release -p host-sim-engine --example throughput [REQUESTS]`

use base64::Engine as _;
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{Downstream, Engine, EngineOptions, Headers, Output, Protocol, Worker};
use std::time::Instant;

/// Every callback a request passes, all empty.
const FILTER: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_log") (param i32))
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_delete") (param i32)))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(200_000), |text| text.parse())?;
    let code = base64::engine::general_purpose::STANDARD.encode(wat::parse_str(FILTER)?);
    let empty = host_sim_guest::filter("empty", &format!("inline_bytes: {code}"));
    let backend = ("backend", ([127, 0, 0, 1], 9001).into());
    let bootstrap = Bootstrap::from_yaml(&host_sim_guest::bootstrap(&[empty], &[backend]))?;
    let engine = Engine::start(bootstrap, EngineOptions::default())?;
    let mut worker = engine.worker(0)?;
    let started = Instant::now();
    for _ in 0..count {
        exchange(&mut worker);
    }
    let elapsed = started.elapsed();
    let rate = f64::from(count) / elapsed.as_secs_f64();
    println!("{count} requests in {elapsed:.2?}: {rate:.0} a second");
    Ok(())
}

/// One request and its 200.
fn exchange(worker: &mut Worker) {
    let downstream = Downstream {
        remote: ([10, 0, 0, 1], 4000).into(),
        local: ([127, 0, 0, 1], 8080).into(),
        tls: None,
        protocol: Protocol::Http11,
        connection_id: 1,
    };
    let id = worker.start_exchange(0, downstream);
    let headers = [
        (":method", "GET"),
        (":path", "/"),
        (":scheme", "http"),
        (":authority", "test"),
        ("user-agent", "throughput"),
        ("accept", "*/*"),
    ];
    worker.request_headers(id, Headers::from_pairs(headers), true);
    while let Some(output) = worker.poll_output() {
        match output {
            Output::StartAttempt { attempt, .. } => {
                let headers = [(":status", "200"), ("content-length", "0")];
                worker.upstream_headers(attempt, Headers::from_pairs(headers), true);
            }
            Output::ResponseHeaders { exchange, .. } => worker.downstream_complete(exchange),
            _ => {}
        }
    }
}
