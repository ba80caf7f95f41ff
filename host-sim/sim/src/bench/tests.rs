use super::*;
use std::path::Path;

/// Reads a header and a key, writes the key, and ticks ten times a second.
const MODULE: &str = r#"(module
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) ":path")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $period (i32.const 100))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (drop (call $now (i32.const 512))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 68)))
    (drop (call $get (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 68) (i32.const 72)))
    (drop (call $set (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 3) (i32.const 0)))
    (i32.const 0))
  (func (export "proxy_on_log") (param i32)))"#;

const BOOTSTRAP: &str = r#"
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config: {virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: backend}}]}]}
          http_filters:
          - name: reader
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config: {name: reader, vm_config: {runtime: envoy.wasm.runtime.v8, code: {local: {filename: module.wasm}}}}
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    type: STRICT_DNS
    load_assignment:
      cluster_name: backend
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: backend.test, port_value: 80}}}}]}]
"#;

fn run(workers: usize, seed: u64) -> (Costs, Totals) {
    let directory = tempfile::tempdir().unwrap();
    let options = BenchOptions {
        requests: 200,
        warm_up: 50,
        rate: 100,
        workers,
        seed,
        base_dir: Some(module_in(directory.path())),
        ..BenchOptions::default()
    };
    counted(Bootstrap::from_yaml(BOOTSTRAP).unwrap(), &options).unwrap()
}

fn module_in(directory: &Path) -> PathBuf {
    std::fs::write(directory.join("module.wasm"), wat::parse_str(MODULE).unwrap()).unwrap();
    directory.to_owned()
}

fn callback<'a>(from: &'a [CallbackCost], name: &str) -> Option<&'a CallbackCost> {
    from.iter().find(|cost| cost.callback == name)
}

#[test]
fn a_request_costs_what_its_callbacks_do() {
    let (costs, _) = run(1, 1);
    assert_eq!(costs.statuses, BTreeMap::from([(200, 200)]));
    let request = &costs.per_request;
    assert_eq!(request.hostcalls, 3.0);
    assert_eq!((request.shared_data_reads, request.shared_data_writes), (1.0, 1.0));
    // The path and the key's three bytes.
    assert_eq!(request.bytes_given, 1.0 + 3.0);
    let headers = callback(&costs.callbacks, "proxy_on_request_headers").unwrap();
    assert_eq!((headers.calls, headers.hostcalls), (200, 3.0));
    assert_eq!(headers.hostcalls_by_name.len(), 3);
    let all: f64 = costs.callbacks.iter().map(|cost| cost.instructions.mean).sum();
    assert_eq!(request.instructions.mean, all);
    assert!(all > 15.0, "{all}");
}

#[test]
fn ticks_are_not_in_the_request_s_figures() {
    let (costs, _) = run(1, 1);
    assert!(callback(&costs.callbacks, "proxy_on_tick").is_none());
    let tick = callback(&costs.background.callbacks, "proxy_on_tick").unwrap();
    assert_eq!(tick.hostcalls_by_name, [("proxy_get_current_time_nanoseconds", 1.0)]);
    // Two seconds, ten ticks each, on the worker and on the main thread.
    assert!((39..=42).contains(&tick.calls), "{}", tick.calls);
    let per_second = costs.background.hostcalls_per_second;
    assert!((19.0..=21.0).contains(&per_second), "{per_second}");
}

#[test]
fn costs_are_the_same_on_every_run_with_one_seed() {
    assert_eq!(run(2, 7), run(2, 7));
}

#[test]
fn nothing_that_the_workers_counted_is_missing() {
    let (costs, totals) = run(2, 1);
    let all = || costs.callbacks.iter().chain(&costs.background.callbacks);
    let times = |each: fn(&CallbackCost) -> f64| -> f64 {
        all().map(|cost| (each(cost) * cost.calls as f64).round()).sum()
    };
    assert_eq!(times(|cost| cost.hostcalls), totals.hostcalls as f64);
    assert_eq!(times(|cost| cost.instructions.mean), totals.instructions as f64);
}

#[test]
fn a_file_without_a_listener_is_refused() {
    let bootstrap = Bootstrap::from_yaml("static_resources: {clusters: []}").unwrap();
    let error = costs(bootstrap, &BenchOptions::default()).unwrap_err();
    assert!(error.reason.contains("listeners"), "{error}");
}

#[test]
fn the_speed_is_a_number_of_requests_that_were_answered() {
    let directory = tempfile::tempdir().unwrap();
    let options = BenchOptions {
        requests: 20,
        warm_up: 0,
        base_dir: Some(module_in(directory.path())),
        ..BenchOptions::default()
    };
    let speed = speed(Bootstrap::from_yaml(BOOTSTRAP).unwrap(), &options).unwrap();
    assert!(speed.requests_per_second > 0.0);
}
