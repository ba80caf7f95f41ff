//! In which order plugins start.

use crate::raw::{bootstrap, listener, plugin};
use serde_json::{Value, json};
use std::net::SocketAddr;
use weir_tests::{Running, on_both_hosts};

const MODULE: &str = r#"(module
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "created")
  (data (i32.const 16) "configured")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_context_create") (param i32 i32)
    (drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 7))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $proxy_log (i32.const 2) (i32.const 16) (i32.const 10))) (i32.const 1)))"#;

on_both_hosts! {
    async fn each_plugin_is_tried_out_and_started_before_the_next_clusters_first(host: Host) {
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("p.wasm");
        std::fs::write(&module, wat::parse_str(MODULE)?)?;
        let config = |name: &str| plugin(name, &module, "", &json!({}), &json!({"vm_id": name}));
        let filter = |name: &str| json!({"name": name, "typed_config": config(name)});
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let text = bootstrap(&[listener("weir", &[filter("a"), filter("b")])], nobody);
        let mut file: Value = serde_json::from_str(&text)?;
        let types = "type.googleapis.com/envoy.extensions";
        file["static_resources"]["clusters"][0]["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{types}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http_protocol_options": {}},
                "http_filters": [filter("up"), {"name": "codec", "typed_config": {
                    "@type": format!("{types}.filters.http.upstream_codec.v3.UpstreamCodec"),
                }}],
            },
        });
        let service = |name: &str, singleton: bool| {
            json!({"name": "envoy.bootstrap.wasm", "typed_config": {
                "@type": format!("{types}.wasm.v3.WasmService"),
                "singleton": singleton,
                "config": config(name)["config"],
            }})
        };
        file["bootstrap_extensions"] = json!([service("one", true), service("every", false)]);
        let proxy = Running::start(&host, &file.to_string()).await?;
        let log = proxy.log();
        let lines = log.lines().filter_map(|line| line.split_once("wasm log ")?.1.split_once(": "));
        let said: Vec<String> = lines
            .map(|(who, what)| format!("{} {what}", who.split(' ').next().unwrap_or(who)))
            .collect();
        // The trial, then the main thread; workers come later.
        let expected = ["up", "a", "b", "one", "every"].map(|name| {
            let both = [format!("{name} created"), format!("{name} configured")];
            [both.clone(), both].concat()
        });
        assert_eq!(said[..20], expected.concat());
    }
}
