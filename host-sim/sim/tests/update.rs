//! Configurations that change while requests are in flight, by hand and from a file.

use host_sim::{Behaviour, Host, HostOptions, Request, StartError};
use host_sim_bootstrap::Bootstrap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Logs its configuration when it is configured and for every request; refuses one that begins
/// with `x`. Roots log when they end.
const PLUGIN: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 8192))
  (data (i32.const 0) "done")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32)
    (global.set $heap (i32.add (global.get $heap) (i32.const 64)))
    (i32.sub (global.get $heap) (i32.const 64)))
  (func $say (param $root i32)
    (local $at i32)
    (local.set $at (i32.add (i32.const 1024) (i32.mul (local.get $root) (i32.const 8))))
    (drop (call $log (i32.const 2) (i32.load (local.get $at))
      (i32.load (i32.add (local.get $at) (i32.const 4))))))
  (global $newest (mut i32) (i32.const 0))
  (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32)
    (local $at i32)
    (local.set $at (i32.add (i32.const 1024) (i32.mul (local.get $root) (i32.const 8))))
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 60) (local.get $at)
      (i32.add (local.get $at) (i32.const 4))))
    (global.set $newest (local.get $root))
    (call $say (local.get $root))
    (i32.ne (i32.load8_u (i32.load (local.get $at))) (i32.const 120)))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $say (global.get $newest)) (i32.const 0))
  (func (export "proxy_on_done") (param $context i32) (result i32)
    (if (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $context) (i32.const 8))))
      (then (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4)))))
    (i32.const 1)))"#;

const BACKEND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

fn module(directory: &Path) -> String {
    let module = directory.join("p.wasm");
    std::fs::write(&module, wat::parse_str(PLUGIN).unwrap()).unwrap();
    module.display().to_string()
}

fn plugin(module: &str, configuration: &str) -> String {
    format!(
        r#"{{"@type": {WASM}, config: {{name: p,
            configuration: {{"@type": type.googleapis.com/google.protobuf.StringValue, value: "{configuration}"}},
            vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: "{module}"}}}}}}}}}}"#
    )
}

fn start(filter: &str) -> Host {
    try_start(filter).unwrap()
}

fn try_start(filter: &str) -> Result<Host, StartError> {
    let yaml = host_sim_guest::bootstrap(&[filter], &[("backend", BACKEND)]);
    let yaml = format!("node: {{id: node, cluster: tests}}{yaml}");
    let bootstrap = Bootstrap::from_yaml(&yaml).unwrap_or_else(|problems| panic!("{problems}"));
    Host::start(bootstrap, HostOptions { workers: 2, ..HostOptions::default() })
}

/// A filter that takes its configuration from a file of this directory.
fn discovered(directory: &Path, more: &str) -> String {
    let path = directory.join("ecds.yaml");
    format!(
        "{{name: limits, config_discovery: {{config_source: {{path_config_source: {{path: \"{}\"}}}}, \
         type_urls: [{WASM}]{more}}}}}",
        path.display()
    )
}

/// Moves a response to where the filter looks, as one has to.
fn publish(directory: &Path, version: &str, configuration: &str) {
    let text = format!(
        "{{version_info: \"{version}\", resources: [{{\"@type\": \
         type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig, name: limits, \
         typed_config: {}}}]}}",
        plugin(&module(directory), configuration)
    );
    let fresh = directory.join("fresh.yaml");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, directory.join("ecds.yaml")).unwrap();
}

fn status(host: &mut Host) -> u16 {
    let request = host.send(&Request::get("/"));
    assert!(host.settle(Duration::from_secs(1)));
    host.reply(request).unwrap().status
}

/// What the plugin has logged since the last look.
fn said(host: &Host, seen: &mut usize) -> Vec<String> {
    let lines = host.log();
    let new = lines.iter().skip(std::mem::replace(seen, lines.len()));
    new.filter_map(|line| Some(line.split_once("wasm log")?.1.split_once(": ")?.1.to_owned()))
        .collect()
}

/// Counters by the last part of their names.
fn counts<const N: usize>(host: &Host, names: [&str; N]) -> [u64; N] {
    let stats = host.engine().stats();
    names.map(|name| {
        stats.counter_value(&format!("extension_config_discovery.http_filter.limits.{name}"))
    })
}

#[test]
fn an_update_reaches_every_thread_and_spares_what_is_in_flight() {
    let directory = TempDir::new().unwrap();
    let module = module(directory.path());
    let mut host = start(&format!("{{name: p, typed_config: {}}}", plugin(&module, "one")));
    host.behave(BACKEND, Behaviour { latency: Duration::from_secs(1), ..Behaviour::default() });
    let mut seen = 0;
    assert_eq!(said(&host, &mut seen), ["one"; 4]);
    let early = host.send(&Request::get("/"));
    host.update_plugin("p", "two").unwrap();
    // The canary, the main thread and both workers; the second worker's old root is free to go, and
    // so is the main thread's.
    assert_eq!(said(&host, &mut seen), ["one", "two", "two", "two", "two", "done", "done"]);
    let refused = host.update_plugin("p", "x").unwrap_err();
    assert!(refused.to_string().contains("proxy_on_configure returned false"), "{refused}");
    host.advance(Duration::from_secs(2));
    assert_eq!(host.reply(early).unwrap().status, 200);
    assert_eq!(said(&host, &mut seen), ["x", "done"]);
    host.send(&Request::get("/"));
    assert_eq!(said(&host, &mut seen), ["two"]);
}

#[test]
fn a_file_that_is_moved_there_is_applied_and_a_refused_one_keeps_the_last_good_one() {
    let directory = TempDir::new().unwrap();
    publish(directory.path(), "1", "one");
    let mut host = start(&discovered(directory.path(), ""));
    let mut seen = 0;
    assert_eq!(said(&host, &mut seen), ["one"; 4]);
    let names = ["update_attempt", "update_success", "update_rejected", "config_reload"];
    assert_eq!(counts(&host, names), [1, 1, 0, 1]);
    host.poll_config_files();
    assert_eq!(counts(&host, names), [1, 1, 0, 1]);

    publish(directory.path(), "2", "two");
    host.poll_config_files();
    assert_eq!(counts(&host, names), [2, 2, 0, 2]);
    publish(directory.path(), "3", "x");
    host.poll_config_files();
    assert_eq!(counts(&host, names), [3, 2, 1, 3]);
    assert_eq!(counts(&host, ["config_fail"]), [1]);
    assert_eq!(host.engine().discovered_version("limits").as_deref(), Some("2"));
    said(&host, &mut seen);
    assert_eq!(status(&mut host), 200);
    assert_eq!(said(&host, &mut seen), ["two"]);

    // The refused one again: nothing differs from what was seen last, so it is no failure.
    publish(directory.path(), "4", "x");
    host.poll_config_files();
    assert_eq!(counts(&host, names), [4, 3, 1, 3]);
    assert_eq!(host.engine().discovered_version("limits").as_deref(), Some("4"));
}

#[test]
fn a_file_that_is_written_in_place_goes_unnoticed_and_that_is_said() {
    let directory = TempDir::new().unwrap();
    publish(directory.path(), "1", "one");
    let mut host = start(&discovered(directory.path(), ""));
    let file = directory.path().join("ecds.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"one\"", "\"two\"");
    std::fs::write(&file, text).unwrap();
    let later = std::fs::metadata(&file).unwrap().modified().unwrap() + Duration::from_secs(9);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    host.poll_config_files();
    assert_eq!(counts(&host, ["update_attempt"]), [1]);
    assert!(host.log().iter().any(|line| line.contains("was written in place")));
}

#[test]
fn what_cannot_be_read_is_a_failure_and_counted_apart() {
    let directory = TempDir::new().unwrap();
    publish(directory.path(), "1", "one");
    let mut host = start(&discovered(directory.path(), ""));
    let fresh = directory.path().join("fresh");
    std::fs::write(&fresh, "x: [").unwrap();
    std::fs::rename(&fresh, directory.path().join("ecds.yaml")).unwrap();
    host.poll_config_files();
    let names = ["update_failure", "update_rejected", "config_fail", "config_reload"];
    assert_eq!(counts(&host, names), [1, 0, 1, 1]);
    assert_eq!(status(&mut host), 200);
}

#[test]
fn without_an_accepted_configuration_requests_get_500() {
    let directory = TempDir::new().unwrap();
    publish(directory.path(), "1", "x");
    let mut host = start(&discovered(directory.path(), ""));
    assert_eq!(status(&mut host), 500);
    publish(directory.path(), "2", "one");
    host.poll_config_files();
    assert_eq!(status(&mut host), 200);
}

#[test]
fn a_default_configuration_serves_until_one_is_accepted() {
    let directory = TempDir::new().unwrap();
    publish(directory.path(), "1", "x");
    let default = plugin(&module(directory.path()), "default");
    let mut host = start(&discovered(directory.path(), &format!(", default_config: {default}")));
    assert_eq!(status(&mut host), 200);
    assert_eq!(said(&host, &mut 0).last().map(String::as_str), Some("default"));
}

#[test]
fn a_file_that_does_not_exist_refuses_the_start() {
    let directory = TempDir::new().unwrap();
    let refused = try_start(&discovered(directory.path(), "")).err().unwrap();
    assert!(refused.reason.contains("must refer to an existing path"), "{refused}");
}
