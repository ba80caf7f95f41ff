//! What the shipped modules accept and what they reject, in the words that an operator reads.
//!
//! `configuration/bad.yaml` lists bad configurations, and for each the place and what is said of it,
//! the mend included. Every one is loaded as a proxy would load it: the canary's `on_configure` must fail,
//! with these problems and no others.

// One long object in a `json!` of its own.
#![recursion_limit = "256"]

use anyhow::{Context as _, Result};
use host_sim_bootstrap::Bootstrap;
use host_sim_engine::{Engine, EngineOptions};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use weir_tests::Suite;

const MODULES: [&str; 4] = ["token-bucket", "metric-router", "circuit-breaker", "health-signal"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    module: String,
    /// A document, which is handed over as JSON, or a text as it is.
    configuration: Value,
    expect: Vec<Problem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Problem {
    /// JSON pointer; `/` for the whole document.
    at: String,
    /// What the rest of the line holds: the message, with its mend.
    says: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Loads a module with this configuration. `Ok(Err)` holds the lines that it is rejected with.
fn load(module: &str, configuration: &str) -> Result<Result<(), Vec<String>>> {
    let suite = Suite::new(&["127.0.0.1:9".parse()?]).raw_filter(module, configuration, "weir");
    start(Bootstrap::from_yaml(&suite.bootstrap())?)
}

fn start(bootstrap: Bootstrap) -> Result<Result<(), Vec<String>>> {
    let options = EngineOptions { base_dir: Some(root()), ..EngineOptions::default() };
    match Engine::start(bootstrap, options) {
        Ok(_) => Ok(Ok(())),
        Err(error) => {
            // Whatever else can go wrong at the start is no answer to the question.
            anyhow::ensure!(error.reason.contains("configur"), "{error}");
            Ok(Err(problems(&error.log)))
        }
    }
}

/// One line for each problem, `MODULE: POINTER: MESSAGE`, without the module. The closing line, which
/// repeats them all, is left out.
fn problems(log: &[String]) -> Vec<String> {
    let single = log.iter().filter(|line| !line.contains(" configuration rejected: "));
    let parted = single.filter_map(|line| line.split_once(": "));
    parted.map(|(_, rest)| rest.to_owned()).filter(|rest| rest.starts_with('/')).collect()
}

/// What is wrong with a rejection; nothing if it is as expected.
fn differences(bad: &Bad) -> Result<Vec<String>> {
    let text = match &bad.configuration {
        Value::String(raw) => raw.clone(),
        document => document.to_string(),
    };
    let Err(told) = load(&bad.module, &text)? else {
        return Ok(vec![format!("{}: accepted {text}", bad.module)]);
    };
    let is_told = |problem: &Problem| {
        let place = format!("{}: ", problem.at);
        let rest = told.iter().filter_map(|line| line.strip_prefix(&place));
        rest.into_iter().any(|rest| rest.contains(&problem.says))
    };
    let mut differences: Vec<String> = bad
        .expect
        .iter()
        .filter(|problem| !is_told(problem))
        .map(|problem| {
            format!("{} {text}\n  not told: {}: {}", bad.module, problem.at, problem.says)
        })
        .collect();
    if told.len() != bad.expect.len() {
        differences.push(format!("{} {text}\n  {} expected", bad.module, bad.expect.len()));
    }
    if !differences.is_empty() {
        differences.push(format!("  told:\n    {}", told.join("\n    ")));
    }
    Ok(differences)
}

#[test]
fn every_bad_configuration_is_rejected_with_place_and_mend() -> Result<()> {
    let text = include_str!("configuration/bad.yaml");
    let all: Vec<Bad> = serde_yaml_ng::from_str(text)?;
    assert!(all.len() >= 48, "only {} cases", all.len());
    for module in MODULES {
        assert!(all.iter().any(|bad| bad.module == module), "no case for {module}");
    }
    let mut wrong = Vec::new();
    for bad in &all {
        assert!(!bad.expect.is_empty(), "a case without expectations: {}", bad.configuration);
        wrong.extend(differences(bad)?);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn too_large_and_too_deep_documents_are_rejected_before_they_are_read() -> Result<()> {
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(256 * 1024));
    let deep = format!("{{\"name\": {}{}}}", "[".repeat(40), "]".repeat(40));
    for module in MODULES {
        for (text, says) in [(&large, "too many"), (&deep, "deeper than 32")] {
            let Err(told) = load(module, text)? else { panic!("{module} accepts it") };
            assert!(told.len() == 1 && told[0].contains(says), "{module}: {told:?}");
        }
    }
    Ok(())
}

/// The first block of this kind of a page that follows this text.
fn block<'r>(page: &'r str, after: &str, kind: &str) -> Result<&'r str> {
    let (_, rest) = page.split_once(after).with_context(|| format!("no {after:?}"))?;
    let (_, block) = rest.split_once(&format!("```{kind}\n")).context("no block follows")?;
    Ok(block.split_once("```").context("the block does not end")?.0)
}

#[test]
fn the_smallest_configuration_of_every_readme_is_accepted() -> Result<()> {
    for module in MODULES {
        let path = root().join("filters").join(module).join("README.md");
        let readme = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let configuration = block(&readme, "## Smallest configuration", "json")?;
        assert_eq!(load(module, configuration)?, Ok(()), "{module}: {configuration}");
    }
    Ok(())
}

#[test]
fn the_configurations_on_the_front_page_are_accepted() -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    for module in MODULES {
        let configuration = block(&readme, &format!("\n**{module}**, "), "json")?;
        assert_eq!(load(module, configuration)?, Ok(()), "{module}: {configuration}");
    }
    Ok(())
}

#[test]
fn the_mistakes_on_the_front_page_are_told_in_these_words() -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let shown = block(&readme, "\nA mistake is rejected at load", "text")?;
    let wrong = json!({"policies": [
        {"name": "all", "token_bucket": {"max_token": 1, "fill_interval": "50ms"}},
    ]});
    let Err(told) = load("token-bucket", &wrong.to_string())? else { panic!("it is accepted") };
    for line in shown.lines() {
        assert!(told.iter().any(|told| told == line), "not told: {line}\nbut: {told:#?}");
    }
    Ok(())
}

#[test]
fn modules_that_need_no_configuration_take_none() -> Result<()> {
    for module in ["circuit-breaker", "health-signal"] {
        for nothing in ["", "  \n", "{}"] {
            assert_eq!(load(module, nothing)?, Ok(()), "{module}: {nothing:?}");
        }
    }
    Ok(())
}

#[test]
fn every_field_of_the_readmes_is_accepted_at_once() -> Result<()> {
    for (module, configuration) in [
        ("token-bucket", full_token_bucket()),
        ("metric-router", full_metric_router()),
        ("circuit-breaker", full_circuit_breaker()),
        ("health-signal", full_health_signal()),
    ] {
        assert_eq!(load(module, &configuration.to_string())?, Ok(()), "{module}");
    }
    Ok(())
}

#[test]
fn the_demo_is_accepted_as_a_whole() -> Result<()> {
    let bootstrap = Bootstrap::from_file(&root().join("envoy-config/demo.yaml"))?;
    assert_eq!(start(bootstrap)?, Ok(()));
    Ok(())
}

fn full_token_bucket() -> Value {
    json!({
        "name": "limits", "mode": "shadow",
        "policies": [{
            "name": "p", "mode": "enforce",
            "match": [
                {
                    "hosts": ["example.com", "*.example.org"], "path": {"prefix": "/api"}, "methods": ["GET"],
                    "headers": [
                        {"name": "x-tier", "exact": "gold"}, {"name": "x-tier", "prefix": "g"},
                        {"name": "x-internal", "present": false},
                    ],
                },
                {"path": {"exact": "/login"}},
                {"path": {"template": "/users/{id}/orders/**"}},
            ],
            "key": [
                "source.address/24/64", "header:x-client", "path", "method", "host", "route", "cluster",
            ],
            "on_missing_key": "skip",
            "enabled_percent": 50, "enforced_percent": 10,
            "cost": {"header": "x-cost", "default": 2, "min": 0, "max": 60},
            "settle": {"response_header": "x-actual-cost", "max_debt": 1000},
            "token_bucket": {"max_tokens": 60, "tokens_per_fill": 10, "fill_interval": "1s"},
            "capacity": {"cluster": "backend", "min_percent": 20, "endpoints": ["10.0.0.1:8080"]},
        }, {
            "name": "uploads", "gcra": {"rate": 100, "per": "60s", "burst": 20},
            "peers": {"count": 3, "from_cluster": "fleet"},
            "global": {
                "cluster": "ratelimit", "domain": "edge",
                "descriptors": [{"entries": [{"key": "client", "from": "source.address"}, {"key": "kind", "value": "upload"}]}],
                "timeout": "0.05s", "failure_mode": "deny", "status_on_error": 503,
                "batch": {"max": 20, "time": "0.5s"},
            },
            "cost": {"content_length": [{"up_to": 1024, "cost": 1}, {"up_to": 65536, "cost": 4}], "above": 16},
        }, {
            "name": "searches", "gcra": {"rate": 100}, "cost": 5,
        }, {
            "name": "q", "key": ["source.address", "cookie:id", "query:key", "jwt:sub", "constant:a"],
            "token_bucket": {"max_tokens": 1, "fill_interval": "1s"},
        }, {
            "name": "in-flight",
            "concurrency": {"max": 5, "lease": "30s"},
        }, {
            "name": "all", "max_wait": "1.5s",
            "gcra": {"rate": 50, "per": "2s", "burst": 5},
        }, {
            "name": "fair", "key": "header:x-client",
            "fair_share": {"of": "all", "weight": 2, "start_below_percent": 30},
        }, {
            "name": "weighted", "key": "header:x-client",
            "fair_share": {"of": "all", "weights": {"header": "x-weight"}},
        }],
        "max_held": 10,
        "xff_trusted_hops": 1,
        "store": {"shards": 1, "slots_per_shard": 4, "on_full": "deny",
                  "lease_time": "0.1s"},
        "on_contention": "allow", "failure_mode": "deny", "status": 503, "body": "later",
        "retry_after": false, "retry_after_jitter_percent": 0, "ratelimit_headers": "never",
        "x_ratelimit_headers": true, "problem_details": true, "grpc_status": "UNAVAILABLE",
        "response_headers_to_add": [{"name": "x-limited", "value": "1"}],
    })
}

fn full_metric_router() -> Value {
    json!({
        "name": "router", "mode": "off",
        "steering": {"header": "x-to", "max_endpoints": 8},
        "debug_header": {
            "enabled": true, "request_header": "x-why", "response_header": "x-because",
            "secret": "sixteen bytes at least",
        },
        "clusters": [
            {
                "name": "backend", "policy": "least_cost",
                "learn": {"exploration_percent": 1, "verification_percent": 0},
                "update_interval": "0.01s", "healthy_panic_threshold": 0,
                "max_ejection_percent": 50,
                "slow_start_config": {"slow_start_window": "0s", "min_weight_percent": 1, "aggression": 2},
                "weighted_round_robin": {
                    "weight_update_period": "0.1s",
                    "blackout_period": "0s", "weight_expiration_period": "1s",
                    "error_utilization_penalty": 0,
                    "metric_names_for_computing_utilization": ["named_metrics.queue"],
                },
                "least_cost": {"default_latency": "0.001s", "decay_time": "0.1s", "error_penalty": 0,
                               "full_scan_max": 8, "choice_count": 2},
            },
            {"name": "*", "policy": "weighted_round_robin"},
            {
                "name": "many", "policy": "auto", "auto": {"gateway_share": 0.9, "mesh_share": 0.1},
                "hot_cold": {
                    "pool_size": 8, "rif_quantile": 0.6, "max_report_age": "0.5s", "max_reuse": 1,
                    "min_pool": 1, "rif_metric": "named_metrics.queue", "latency_metric": "named_metrics.ms",
                },
            },
            {
                "name": "peaks", "policy": "peak_ewma",
                "peak_ewma": {"decay_time": "5s", "default_rtt": "0.1s", "full_scan_max": 0, "choice_count": 3},
            },
            {
                "name": "sticky", "policy": "consistent_hash",
                "consistent_hash": {
                    "key": ["header:x-user", "cookie:id", "source.address"], "hash_balance_factor": 0,
                },
            },
            {"name": "listed", "endpoints": ["10.0.0.1:80", "[::1]:8080"]},
        ],
    })
}

fn full_circuit_breaker() -> Value {
    let everything = "../filters/circuit-breaker/core/src/config/readme/everything.json";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(everything);
    let text = std::fs::read_to_string(path).expect("the document with everything");
    serde_json::from_str(&text).expect("JSON")
}

fn full_health_signal() -> Value {
    json!({
        "name": "health", "mode": "shadow", "position": "upstream", "publish_interval": "0.1s",
        "leader": {"lease": "1s"},
        "clusters": [
            {"name": "*"},
            {
                "name": "backend", "endpoints": ["10.0.0.1:80"], "steering_header": "x-to",
                "passive": {"enabled": false, "fall": 1, "rise": 100, "failure_statuses": "503"},
                "orca": {"enabled": true, "strict": true, "strip_response_header": false, "oob_reporting_period": "1s"},
                "agent_header": "x-agent", "max_probe_rps": 10, "ramp": "10s",
                "limits": {"rif": {"degraded_above": 1, "unready_above": 2.5}, "custom.a": {"unready_above": 1}},
                "smoothing": {"utilization": "0s", "queue_depth": "600s", "latency": "1s"},
                "flap": {"penalty": 0, "half_life": "1s", "suppress": 2, "reuse": 1, "max": "1s"},
                "active": [{
                    "kind": "http", "path": "/ready", "host": "api.internal", "interval": "0.25s",
                    "no_traffic_interval": "1s", "timeout": "0.02s", "min_timeout": "0.01s", "skip_if_fresh": true,
                    "jitter_percent": 50, "rise": 1, "fall": 10,
                    "expect_statuses": ["200", "503"], "status_map": {"OK": "healthy", "bye": "unready"},
                    "expect_json": {"/a": "b", "/c": 1, "/d": false},
                    "extract": {
                        "status": "/s", "ready": "/r", "queue_depth": "/q", "connections": "/c", "timestamp": "/t",
                        "rif": "/f", "custom.x": "/x",
                    },
                    "frozen_after": "5s",
                }, {
                    "kind": "prometheus", "samples": [
                        {"name": "a", "labels": {"b": "c"}, "labels_not": {"d": "e"}, "type": "counter", "scale": 0.1, "as": "eps"},
                        {"name": "h", "quantile": 0.5, "as": "custom.p50"},
                    ],
                }, {
                    "kind": "prometheus_query", "query": "up", "cluster": "prometheus", "label": "pod_ip", "as": "rps", "scale": 2,
                }, {
                    "kind": "agent", "interval": "1s", "timeout": "0.5s",
                }],
                "staleness": {"orca": "1s", "active": "5x", "passive": "1s"},
            },
        ],
    })
}
