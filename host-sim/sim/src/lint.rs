//! Diagnosis: what a plugin does that Envoy takes otherwise than its author.
//!
//! A [`Linter`] watches a run through the engine's one seam and keeps each mistake once: which
//! callback and hostcall, where in the plugin's source, which rule, what to do instead. What is
//! wrong with a module or its configuration is found without a run. [`lint_bootstrap`] brings
//! traffic of its own; scenarios have theirs, see [`RunOptions`](crate::RunOptions).
//!
//! ```no_run
//! use host_sim::lint::{Level, lint_bootstrap};
//! use host_sim::HostOptions;
//!
//! let bootstrap = host_sim_bootstrap::Bootstrap::from_file("envoy.yaml".as_ref()).unwrap();
//! let findings = lint_bootstrap(&bootstrap, HostOptions { workers: 2, ..HostOptions::default() });
//! assert!(findings.iter().all(|finding| finding.level < Level::Warning), "{findings:?}");
//! ```

mod call;
mod check;
mod facts;
mod finding;
mod linter;
mod module;
mod rules;
mod scene;
mod traffic;

pub use finding::Finding;
pub use linter::{Linter, worst};
pub use rules::{Level, RULES, Rule, rule};

use crate::scenario::suite::SuiteSpec;
use crate::{Host, HostOptions, suite};
use host_sim_bootstrap::Bootstrap;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Starts a proxy from the bootstrap, sends it traffic of all sorts, and tells what was wrong.
///
/// A plugin that does not start is not an error here: why it does not is among the findings.
#[must_use]
pub fn lint_bootstrap(bootstrap: &Bootstrap, options: HostOptions) -> Vec<Finding> {
    let linter = Arc::new(Linter::new(bootstrap, options.base_dir.as_deref()));
    let host = Host::start_observed(bootstrap.clone(), options, Some(linter.clone()));
    let refused = match host {
        Ok(mut host) => {
            traffic::run(&mut host, bootstrap);
            None
        }
        Err(error) => Some(error),
    };
    let mut findings = linter.findings();
    // Unless it is explained already.
    if let Some(error) = refused
        && worst(&findings) < Some(Level::Warning)
    {
        findings.extend(
            rule("refused").map(|rule| Finding::fixed(rule, &error.plugin, error.to_string())),
        );
    }
    findings
}

/// What Envoy would refuse of a module, or never call, without a run. `name` stands for the
/// plugin.
///
/// # Errors
/// When the bytes are no WebAssembly module.
pub fn lint_module(name: &str, bytes: &[u8]) -> Result<Vec<Finding>, String> {
    Ok(module::Module::of(bytes)?.findings(name))
}

/// As [`lint_bootstrap`], with a bootstrap around one module, which is the only filter in front of
/// one endpoint. It has no configuration; a plugin that wants one needs a bootstrap of its own.
///
/// # Errors
/// When the file cannot be read, or is no WebAssembly module.
pub fn lint_file(module: &Path, options: HostOptions) -> Result<Vec<Finding>, String> {
    let file = std::path::absolute(module).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", module.display()))?;
    let name = module.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    lint_module(&name, &bytes).map_err(|error| format!("{}: {error}", module.display()))?;
    let spec = json!({"filters": [{"module": file, "name": name, "vm_id": "lint"}]});
    let spec: SuiteSpec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    let endpoint = SocketAddr::from(([127, 0, 0, 1], 9001));
    let text = suite::bootstrap(&spec, &[endpoint], Path::new("."))?;
    let bootstrap = Bootstrap::from_yaml(&text).map_err(|problems| problems.to_string())?;
    Ok(lint_bootstrap(&bootstrap, options))
}
