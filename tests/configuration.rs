//! What the shipped modules accept and what they reject, in the words that an operator reads.
//!
//! `configuration/bad.yaml` lists bad configurations, and for each the place and what is said of it,
//! the mend included. Every one is loaded as a proxy would load it: the canary's `on_configure` must fail,
//! with these problems and no others.

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
    for module in MODULES {
        let everything = format!("filters/{module}/core/src/config/readme/everything.json");
        let configuration = std::fs::read_to_string(root().join(everything))?;
        assert_eq!(load(module, &configuration)?, Ok(()), "{module}");
    }
    Ok(())
}

#[test]
fn the_demo_is_accepted_as_a_whole() -> Result<()> {
    let bootstrap = Bootstrap::from_file(&root().join("envoy-config/demo.yaml"))?;
    assert_eq!(start(bootstrap)?, Ok(()));
    Ok(())
}
