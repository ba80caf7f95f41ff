//! The experiments below `tests/experiments`, small, on the shipped modules. What they show at their
//! full size takes minutes, and is not asserted here: `host-sim simulate` prints it.

use anyhow::{Context as _, Result};
use host_sim::simulate::{ArmKind, Experiment, Results, SimulateOptions, simulate};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

/// The experiment of that name, with so many seeds and only these arms, and shorter.
fn small(name: &str, seeds: u64, arms: &[&str]) -> Result<Results> {
    let text = std::fs::read_to_string(folder().join(name))?;
    let text = text.replace("warmup: 5s", "warmup: 2s").replace("duration: 20s", "duration: 4s");
    let text = text.replace("duration: 10s", "duration: 4s").replace("to: 10s", "to: 4s");
    let mut experiment = Experiment::parse_in(&text, &folder())?;
    experiment.arms.retain(|arm| arms.contains(&arm.name.as_str()));
    let options =
        SimulateOptions { seeds: Some(seeds), base: folder(), ..SimulateOptions::default() };
    Ok(simulate(&experiment, &options, |_| {})?)
}

fn median(results: &Results, arm: &str, window: &str, measure: &str) -> Result<f64> {
    let found = results.arm(arm).and_then(|arm| arm.estimate(window, measure));
    Ok(found.with_context(|| format!("{arm} {window} {measure}"))?.median)
}

#[test]
fn every_experiment_can_be_read_and_compares_plugins_with_the_same_baselines() -> Result<()> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let experiment = Experiment::parse_in(&text, &folder());
        let experiment = experiment.with_context(|| path.display().to_string())?;
        for name in ["round_robin", "least_request", "full_scan", "cswrr", "peak_ewma", "oracle"] {
            let found = experiment.arms.iter().any(|arm| arm.name == name && arm.policy.is_some());
            assert!(found, "{}: no arm {name}", path.display());
        }
        assert!(experiment.arms.iter().any(|arm| arm.plugins.is_some()), "{}", path.display());
        files += 1;
    }
    assert!(files >= 7, "only {files} files");
    Ok(())
}

#[test]
fn the_shipped_modules_balance_better_than_taking_turns_and_worse_than_an_oracle() -> Result<()> {
    let results = small("strong-0.75.yaml", 1, &["round_robin", "oracle", "weir"])?;
    let p99 = |arm: &str| median(&results, arm, "all", "p99");
    assert!(p99("oracle")? <= p99("weir")?, "{}", results.text());
    assert!(p99("weir")? < p99("round_robin")?, "{}", results.text());
    assert_eq!(results.arm("weir").map(|arm| arm.kind), Some(ArmKind::Plugins));
    Ok(())
}

#[test]
fn the_shipped_modules_keep_away_from_a_sinkhole_and_the_run_is_the_same_again() -> Result<()> {
    let run = || small("sinkhole.yaml", 1, &["round_robin", "weir"]);
    let results = run()?;
    let errors = |arm: &str| median(&results, arm, "after the first second", "error_percent");
    assert!((errors("round_robin")? - 10.0).abs() < 1.5, "{}", results.text());
    assert!(errors("weir")? < 0.5 * errors("round_robin")?, "{}", results.text());
    assert_eq!(results.json(), run()?.json());
    Ok(())
}
