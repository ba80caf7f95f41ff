//! Planted mistakes: each is named, and its corrected counterpart is not complained of.

mod mistakes;
mod plant;
mod rust;

use host_sim::lint::{Finding, Level, RULES, lint_bootstrap};
use host_sim::{Host, HostOptions, Request};
use host_sim_bootstrap::Bootstrap;
use mistakes::{Code, MISTAKES, Mistake};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const TYPES: &str = "type.googleapis.com";

/// How a plugin is configured besides its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    Plain,
    /// With this configuration, as a string.
    Configured(&'static str),
    /// With a `Struct` as its configuration.
    Struct,
    /// With an empty `vm_id`.
    Shared,
}

fn bootstrap(file: &Path, setup: Setup) -> Bootstrap {
    let extension = |name: &str, kind: &str, mut config: Value| {
        config["@type"] = json!(format!("{TYPES}/{kind}"));
        json!({"name": name, "typed_config": config})
    };
    let mut plugin = json!({
        "name": "planted",
        "vm_config": {
            "vm_id": if setup == Setup::Shared { "" } else { "test" },
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": file}},
        },
    });
    match setup {
        Setup::Configured(text) => {
            plugin["configuration"] =
                json!({"@type": format!("{TYPES}/google.protobuf.StringValue"), "value": text});
        }
        Setup::Struct => {
            plugin["configuration"] =
                json!({"@type": format!("{TYPES}/google.protobuf.Struct"), "value": {"a": 1}});
        }
        _ => {}
    }
    let wasm = extension(
        "planted",
        "envoy.extensions.filters.http.wasm.v3.Wasm",
        json!({"config": plugin}),
    );
    let router = extension("router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    let manager = extension(
        "hcm",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "lint",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "5s"}},
            ]}]},
            "http_filters": [wasm, router],
        }),
    );
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let document = json!({"static_resources": {
        "listeners": [{
            "name": "main",
            "address": address(10_000),
            "filter_chains": [{"filters": [manager]}],
        }],
        "clusters": [
            {"name": "backend", "load_assignment": {"cluster_name": "backend", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(9001)}}]},
            ]}},
            {"name": "empty", "load_assignment": {"cluster_name": "empty"}},
        ],
    }});
    Bootstrap::from_yaml(&document.to_string()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn lint(code: &Code, setup: Setup) -> Vec<Finding> {
    let bytes = match code {
        Code::Callbacks(callbacks) => plant::module(callbacks),
        Code::Module(text) => wat::parse_str(text).unwrap_or_else(|error| panic!("{error}")),
    };
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let options = HostOptions {
        workers: 2,
        module_cache: host_sim_engine::ModuleCache::off(),
        ..HostOptions::default()
    };
    lint_bootstrap(&bootstrap(file.path(), setup), options)
}

fn names(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.lint).collect()
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Splits the table over the machine's processors; collects what failed.
fn each(check: impl Fn(&Mistake) -> Option<String> + Sync) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let check = &check;
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let own = MISTAKES.iter().skip(part).step_by(threads);
                    own.filter_map(check).collect::<Vec<_>>()
                })
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

#[test]
fn every_planted_mistake_is_named() {
    let failures = each(|mistake| {
        let findings = lint(&mistake.wrong, mistake.setup);
        let found = findings.iter().any(|f| {
            f.lint == mistake.lint && f.message.contains(mistake.says) && !f.mend.is_empty()
        });
        (!found).then(|| format!("{} is not found, but\n{}", mistake.lint, listed(&findings)))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_mistake_is_not_taken_for_many() {
    // Some lead to others: a trap follows a bad call, a refused plugin its reason.
    let failures = each(|mistake| {
        let findings = lint(&mistake.wrong, mistake.setup);
        let others = names(&findings);
        (others.len() > 2).then(|| format!("{} is taken for {others:?}", mistake.lint))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_corrected_counterpart_is_complained_of() {
    let failures = each(|mistake| {
        let setup = match mistake.setup {
            Setup::Struct => Setup::Configured("{}"),
            Setup::Shared => Setup::Plain,
            other => other,
        };
        let findings = lint(&mistake.right, setup);
        (!findings.is_empty())
            .then(|| format!("{} corrected:\n{}", mistake.lint, listed(&findings)))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn who_waits_for_a_whole_body_is_not_complained_of_and_who_waits_forever_is() {
    const WAITS: &str = "(return (i32.eqz (local.get 2)))";
    const WAITING: [(&str, &str); 2] = [("on_request_body", WAITS), ("on_response_body", WAITS)];
    let findings = lint(&Code::Callbacks(&WAITING), Setup::Plain);
    assert!(findings.is_empty(), "{}", listed(&findings));
    const FOREVER: [(&str, &str); 1] = [("on_response_body", "(return @1)")];
    let findings = lint(&Code::Callbacks(&FOREVER), Setup::Plain);
    assert_eq!(names(&findings), BTreeSet::from(["never-resumed"]), "{}", listed(&findings));
}

#[test]
fn every_lint_has_a_planted_mistake() {
    let planted: BTreeSet<_> = MISTAKES.iter().map(|mistake| mistake.lint).collect();
    let without: Vec<_> =
        RULES.iter().map(|rule| rule.name).filter(|name| !planted.contains(name)).collect();
    assert_eq!(without, [""; 0]);
    assert!(planted.len() >= 30);
    assert!(RULES.iter().any(|rule| rule.level == Level::Warning));
}

#[test]
fn the_page_lists_every_lint_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lints.md");
    let page = std::fs::read_to_string(file).unwrap();
    let mut table = "| lint | level | what Envoy does | mend |\n|---|---|---|---|\n".to_owned();
    for rule in RULES {
        let (name, level) = (rule.name, rule.level.as_str());
        table += &format!("| `{name}` | {level} | {} | {} |\n", rule.rule, rule.mend);
    }
    assert!(page.contains(&table), "the table of host-sim/docs/lints.md should be\n{table}");
}

#[test]
fn a_host_that_watches_tells_what_its_plugins_did() {
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    let code = [("on_response_headers", "(drop (call $get_header_map_value @0 {a} @4096 @4100))")];
    std::fs::write(file.path(), plant::module(&code)).unwrap();
    let start = |findings| {
        let options = HostOptions { findings, ..HostOptions::default() };
        let mut host = Host::start(bootstrap(file.path(), Setup::Plain), options).unwrap();
        host.send(&Request::get("/"));
        host.settle(std::time::Duration::from_secs(1));
        names(&host.findings())
    };
    assert_eq!(start(true), BTreeSet::from(["phase-invalid-read"]));
    assert_eq!(start(false), BTreeSet::new());
}
