//! What the pages show is true: their YAML is read by the readers it is meant for, their links lead
//! somewhere. What they show of plugin configuration is tested in configuration.rs.

use anyhow::{Context as _, Result, bail};
use host_sim::Scenario;
use host_sim::simulate::Experiment;
use host_sim_bootstrap::Bootstrap;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use weir_tests::Suite;

/// Every README, what lies beside the one on top, and host-sim's further pages.
fn pages() -> Result<Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).to_vec();
    for entry in std::fs::read_dir(root.join("host-sim/docs"))? {
        paths.push(entry?.path());
    }
    for folder in ["envoy-config", "filters", "host-sim"] {
        paths.push(root.join(folder).join("README.md"));
        for entry in std::fs::read_dir(root.join(folder))? {
            let path = entry?.path().join("README.md");
            if path.exists() {
                paths.push(path);
            }
        }
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok((path, text))
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_link_leads_to_a_file() -> Result<()> {
    let mut links = 0;
    for (page, text) in pages()? {
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            links += 1;
            let target = page.parent().context("a page lies in a folder")?.join(path);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
    assert!(links >= 10, "only {links} links were found");
    Ok(())
}

#[test]
fn every_yaml_snippet_is_read_by_its_reader() -> Result<()> {
    let mut snippets = 0;
    for (page, text) in pages()? {
        for rest in text.split("```yaml\n").skip(1) {
            snippets += 1;
            let snippet = rest.split("```").next().unwrap_or_default();
            read(snippet).with_context(|| format!("{}:\n{snippet}", page.display()))?;
        }
    }
    assert!(snippets >= 4, "only {snippets} snippets were found");
    Ok(())
}

/// A scenario, an experiment, or a part of a bootstrap, which is put where it belongs.
fn read(snippet: &str) -> Result<()> {
    if snippet.starts_with("scenario:") {
        Scenario::parse(snippet)?;
        return Ok(());
    }
    if snippet.starts_with("experiment:") {
        Experiment::parse(snippet)?;
        return Ok(());
    }
    let part: Value = serde_yaml_ng::from_str(snippet)?;
    let (key, value) =
        part.as_object().and_then(|part| part.iter().next()).context("no mapping")?;
    let endpoints = ["127.0.0.1:9".parse()?];
    let mut suite = Suite::new(&endpoints);
    if key == "retry_policy" {
        suite = suite.route(key, value.clone());
    }
    if key == "http_filters" {
        let filters = value.as_array().context("http_filters: no list")?;
        suite = filters.iter().fold(suite, |suite, filter| suite.native_filter(filter.clone()));
    }
    let mut bootstrap: Value = serde_json::from_str(&suite.bootstrap())?;
    let cluster = &mut bootstrap["static_resources"]["clusters"][0];
    match key.as_str() {
        "retry_policy" => {}
        "load_balancing_policy" => cluster[key] = value.clone(),
        "http_filters" => {}
        "clusters" => {
            let fields = value[0].as_object().context("clusters: no list of mappings")?;
            for (field, value) in fields {
                cluster[field] = value.clone();
            }
            // The page leaves out what every cluster has.
            assert_eq!(cluster["name"], json!("backend"));
        }
        other => bail!("'{other}': this test does not know where that belongs"),
    }
    Bootstrap::from_yaml(&bootstrap.to_string())?;
    Ok(())
}
