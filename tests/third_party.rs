//! Plugins that nobody here wrote the SDK of: one plugin on SDKs of three ages in Rust, and one in
//! AssemblyScript, all unchanged as their compilers leave them.
//!
//! `third-party/build.sh` builds them from the registries. What is not built is skipped, and says
//! so; with `CI=true` that is a failure.

use anyhow::{Context, Result, bail};
use host_sim::RunOptions;
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use std::path::PathBuf;
use weir_tests::{Suite, on_both_hosts};

const MODULES: [&str; 4] = ["sdk_0_1_4", "sdk_0_2_0", "sdk_0_2_5", "assemblyscript"];

/// Those that are built.
fn modules() -> Result<Vec<(&'static str, PathBuf)>> {
    let folder = std::env::var_os("WEIR_THIRD_PARTY").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/third-party")),
        PathBuf::from,
    );
    let mut modules = Vec::new();
    for name in MODULES {
        let path = folder.join(format!("{name}.wasm"));
        if path.exists() {
            modules.push((name, path.canonicalize()?));
        } else if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!("CI=true and {} is not built: run 'make test'", path.display());
        } else {
            println!("SKIP {name}: 'make third-party' builds it");
        }
    }
    Ok(modules)
}

fn scenario(name: &str, module: &str) -> String {
    format!(
        "
scenario: {name} ticks, adds headers, replaces a body, refuses, and asks before it lets pass
workers: [1, 2]
suite:
  filters: [{{module: {module}, name: third, vm_id: third, configuration: third}}]
endpoints:
  127.0.0.1:9001:
    answer: {{body: replace me}}
    paths: {{/verdict: {{body: 'yes'}}}}
steps:
- expect: {{log: ['configured as third']}}
- send: {{path: /}}
  expect:
    reply: {{status: 200, headers: {{x-served-through: third}}, body: replaced}}
    upstream: [{{path: /, headers: {{x-plugin: third}}}}]
    log: [over]
- send: {{path: /refused}}
  expect: {{reply: {{status: 403, headers: {{x-refused-by: third}}, body: refused}}}}
- send: {{path: /ask}}
  expect:
    reply: {{status: 200}}
    calls: [{{kind: http, cluster: backend, headers: {{':path': /verdict}}}}]
    log: ['asked: true', 'verdict: yes']
- endpoints: {{127.0.0.1:9001: {{paths: {{/verdict: {{body: 'no'}}}}}}}}
  send: {{path: /ask}}
  expect: {{reply: {{status: 403, headers: {{x-refused-by: judge}}, body: judged}}}}
- advance: 3s
  expect: {{log: ['tick 1', 'tick 3'], no_log: ['failed:'], traps: 0}}
"
    )
}

#[test]
fn every_plugin_does_in_the_simulator_what_its_source_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, module) in modules()? {
        let text = scenario(name, module.to_str().context("a path in UTF-8")?);
        std::fs::write(folder.path().join(format!("{name}.yaml")), text)?;
    }
    let report = host_sim::run(&[folder.path().to_owned()], &RunOptions::default(), |_| {})?;
    let text: String = report.outcomes.iter().map(|outcome| outcome.text()).collect();
    assert!(report.outcomes.iter().all(|outcome| outcome.passed()), "\n{text}");
    Ok(())
}

on_both_hosts! {
    async fn every_plugin_is_served_live(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        for (name, module) in modules()? {
            let suite = Suite::new(&fleet.addresses()).foreign_filter(&module, "third", "third");
            let proxy = suite.start(&host).await.context(name)?;
            let passed = proxy.get("/").await?;
            assert_eq!(passed.status, 200, "{name}: {}", proxy.log());
            assert_eq!(passed.header("x-served-through"), Some("third"), "{name}");
            let refused = proxy.get("/refused").await?;
            assert_eq!((refused.status, refused.text().as_str()), (403, "refused"), "{name}");
            assert_eq!(refused.header("x-refused-by"), Some("third"), "{name}");
            // The judge answers something, but not "yes".
            let judged = proxy.get("/ask").await?;
            assert_eq!((judged.status, judged.text().as_str()), (403, "judged"), "{name}");
            assert_eq!(judged.header("x-refused-by"), Some("judge"), "{name}");
        }
    }
}
