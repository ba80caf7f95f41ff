//! A plugin in the chain.

use crate::bootstrap::File;
use crate::running::{options, start, url};
use host_sim_proxy::Proxy;
use host_sim_rig::client::Client;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use std::path::Path;

/// Adds `x-wasm: yes` to requests. `configured` is what `proxy_on_configure` answers.
fn module(configured: u32) -> String {
    format!(
        r#"(module
  (import "env" "proxy_add_header_map_value"
    (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-wasm")
  (data (i32.const 16) "yes")
  (global $heap (mut i32) (i32.const 1024))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $size))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const {configured}))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 16) (i32.const 3)))
    (i32.const 0))
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_log") (param i32))
  (func (export "proxy_on_delete") (param i32)))"#
    )
}

fn filter(directory: &Path, configured: u32) -> String {
    let path = directory.join("filter.wasm");
    std::fs::write(&path, wat::parse_str(module(configured)).unwrap()).unwrap();
    format!(
        "{{name: wasm, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm, config: {{name: adder, \
         vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: '{}'}}}}}}}}}}}}",
        path.display()
    )
}

#[tokio::test]
async fn what_a_plugin_adds_reaches_the_endpoint() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let mut file = File::to([endpoint.address()]);
    file.filters = vec![filter(directory.path(), 1)];
    let proxy = start(&file);
    for _ in 0..10 {
        assert_eq!(Client::new().get(&url(&proxy, "/")).await.unwrap().status, 200);
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 10);
    assert!(requests.iter().all(|request| request.header("x-wasm") == Some("yes")));
}

#[tokio::test]
async fn a_plugin_that_rejects_its_configuration_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::to([([127, 0, 0, 1], 1).into()]);
    file.filters = vec![filter(directory.path(), 0)];
    let text = Proxy::start(file.parse(), options()).err().unwrap().to_string();
    assert!(text.contains("adder"), "{text}");
    assert_eq!(Proxy::check(file.parse(), &options()).unwrap_err().to_string(), text);
}
