//! A host around plugins, without a bootstrap of one's own.

use crate::scenario::suite::SuiteSpec;
use crate::{Host, HostOptions, StartError, suite};
use host_sim_bootstrap::Bootstrap;
use std::net::SocketAddr;
use std::path::Path;

impl Host {
    /// Starts from what stands under `suite` in a scenario file: one listener, one route, one cluster
    /// `backend` of these endpoints, and the plugins, whose modules are found from
    /// [`HostOptions::base_dir`].
    ///
    /// ```
    /// use host_sim::{Host, HostOptions, Request};
    /// use serde_json::json;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // A plugin that counts in shared data that it was there. Yours comes from a compiler.
    /// let module = wat::parse_str(r#"(module
    ///   (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
    ///   (memory (export "memory") 1)
    ///   (data (i32.const 0) "here")
    ///   (func (export "proxy_abi_version_0_2_1"))
    ///   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    ///   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    ///     (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 0))))"#)?;
    /// let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("mine.wasm"), module)?;
    ///
    /// let plugin = json!({"module": "mine.wasm", "vm_id": "mine", "configuration": {"limit": 3}});
    /// let endpoint = "127.0.0.1:9001".parse()?;
    /// let options = HostOptions {
    ///     workers: 2,
    ///     base_dir: Some(folder.path().to_owned()),
    ///     ..HostOptions::default()
    /// };
    /// let mut host = Host::start_suite(&json!({"filters": [plugin]}), &[endpoint], options)?;
    ///
    /// let first = host.send(&Request::get("/").header("x-client", "alice").on_worker(1));
    /// assert!(host.settle(Duration::from_secs(1)));
    /// assert_eq!(host.reply(first).map(|reply| reply.status), Some(200));
    /// assert_eq!(host.received(endpoint).len(), 1);
    /// assert_eq!(host.engine().shared_data().key_count("mine"), 1);
    /// // An hour passes in no time.
    /// host.advance(Duration::from_secs(3600));
    /// assert!(host.log().iter().all(|line| !line.contains("failed")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When this is no suite, or a plugin does not start.
    pub fn start_suite(
        suite: &serde_json::Value,
        endpoints: &[SocketAddr],
        options: HostOptions,
    ) -> Result<Self, StartError> {
        let wrong = |reason: String| StartError { plugin: String::new(), reason, log: Vec::new() };
        let spec: SuiteSpec =
            serde_json::from_value(suite.clone()).map_err(|error| wrong(error.to_string()))?;
        let base = options.base_dir.as_deref().unwrap_or(Path::new("."));
        let text = suite::bootstrap(&spec, endpoints, base).map_err(wrong)?;
        let bootstrap = Bootstrap::from_yaml(&text).map_err(|error| wrong(error.to_string()))?;
        // The modules' paths are whole already.
        Self::start(bootstrap, HostOptions { base_dir: None, ..options })
    }
}
