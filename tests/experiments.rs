//! The experiments below `tests/experiments`, small, on the shipped modules. What they show at their
//! full size takes minutes, and is not asserted here: `host-sim simulate` prints it.

use anyhow::{Context as _, Result};
use host_sim::simulate::{ArmKind, Experiment, Results, Severity, SimulateOptions, simulate};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

/// The experiment of that name, with so many seeds and only these arms, and shorter.
fn small(name: &str, seeds: u64, arms: &[&str]) -> Result<Results> {
    let text = std::fs::read_to_string(folder().join(name))?;
    let text = text.replace("warmup: 5s", "warmup: 2s").replace("duration: 20s", "duration: 4s");
    let text = text.replace("duration: 10s", "duration: 4s").replace("to: 10s", "to: 4s");
    simulated(&text, seeds, arms)
}

fn simulated(text: &str, seeds: u64, arms: &[&str]) -> Result<Results> {
    let mut experiment = Experiment::parse_in(text, &folder())?;
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
fn every_experiment_can_be_read_compares_plugins_with_the_one_to_beat_and_says_what_must_hold()
-> Result<()> {
    let mut files = 0;
    let makefile = std::fs::read_to_string(folder().join("../../Makefile"))?;
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let experiment = Experiment::parse_in(&text, &folder());
        let experiment = experiment.with_context(|| path.display().to_string())?;
        for name in ["full_scan", "oracle"] {
            let found = experiment.arms.iter().any(|arm| arm.name == name && arm.policy.is_some());
            assert!(found, "{}: no arm {name}", path.display());
        }
        assert!(experiment.arms.iter().any(|arm| arm.plugins.is_some()), "{}", path.display());
        assert!(!experiment.expect.is_empty(), "{}: nothing must hold", path.display());
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let words: Vec<&str> = makefile.split_whitespace().collect();
        assert!(words.contains(&name.as_str()), "{name} is on no page: see the Makefile");
        files += 1;
    }
    assert!(files >= 15, "only {files} files");
    Ok(())
}

#[test]
fn the_page_of_figures_has_every_experiment_and_its_command() -> Result<()> {
    let page = std::fs::read_to_string(folder().join("../../docs/experiments.md"))?;
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        if name.ends_with(".yaml") {
            let command = format!("host-sim simulate tests/experiments/{name}");
            assert!(page.contains(&command), "{name}: run 'make experiments-routing'");
        }
    }
    assert!(page.contains("P99 against full_scan"), "the baseline to beat is full scan");
    Ok(())
}

#[test]
fn every_experiment_of_breaking_can_be_read_and_is_on_its_page() -> Result<()> {
    let makefile = std::fs::read_to_string(folder().join("../../Makefile"))?;
    let words: Vec<&str> = makefile.split_whitespace().collect();
    let page = std::fs::read_to_string(folder().join("../../docs/experiments-breaking.md"))?;
    let folder = folder().join("breaking");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let experiment = Experiment::parse_in(&std::fs::read_to_string(&path)?, &folder);
        let experiment = experiment.with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(experiment.trouble.is_some() && !experiment.expect.is_empty(), "{name}");
        assert!(words.contains(&name.as_str()), "{name} is on no page: see the Makefile");
        let command = format!("host-sim simulate tests/experiments/breaking/{name}.yaml");
        assert!(page.contains(&command), "{name}: run 'make experiments-breaking'");
        files += 1;
    }
    assert!(files >= 5, "only {files} files");
    Ok(())
}

/// An experiment of breaking with one seed, these arms, and the case of that name only.
fn breaking(name: &str, case: &str, arms: &[&str]) -> Result<Results> {
    let folder = folder().join("breaking");
    let text = std::fs::read_to_string(folder.join(name))?;
    let mut experiment = Experiment::parse_in(&text, &folder)?;
    experiment.arms.retain(|arm| arms.contains(&arm.name.as_str()));
    experiment.cases.retain(|own| own.name == case);
    experiment.expect.clear();
    let options =
        SimulateOptions { seeds: Some(1), base: folder.clone(), ..SimulateOptions::default() };
    Ok(simulate(&experiment, &options, |_| {})?)
}

#[test]
fn trouble_ends_with_its_cause_where_a_limit_follows_the_latency_and_else_it_stays() -> Result<()> {
    let case = "all are three times as slow at 0.8";
    let results = breaking("cascades.yaml", case, &["checks", "combination", "weir"])?;
    let cascades = |arm| median(&results, arm, "all", "cascades");
    let found = [cascades("checks")?, cascades("combination")?, cascades("weir")?];
    assert_eq!(found, [100.0, 100.0, 0.0], "{}", results.text());
    Ok(())
}

#[test]
fn requests_survive_the_death_of_every_vm_and_the_deaths_are_told() -> Result<()> {
    let results = small("vms-die.yaml", 1, &["full_scan", "weir", "weir_private"])?;
    for arm in ["weir", "weir_private"] {
        let percent = median(&results, arm, "all", "error_percent")?;
        assert!(percent < 5.0, "{arm}: {}", results.text());
        let notices = results.arm(arm).map(|arm| arm.notices.clone()).unwrap_or_default();
        let killed = notices.iter().filter(|notice| notice.severity == Severity::Killed);
        // Four plugins on two workers, at 1 s and at 3 s.
        assert_eq!(killed.map(|notice| notice.times).sum::<u64>(), 16, "{}", results.text());
        let traps = notices.iter().filter(|notice| notice.severity == Severity::Critical);
        assert_eq!(traps.count(), 0, "{}", results.text());
    }
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
fn fast_endpoints_with_places_free_are_used_before_slow_ones_that_are_idle() -> Result<()> {
    // How many an endpoint works on at once is learned from the fourth second on.
    let text = std::fs::read_to_string(folder().join("strong-0.6.yaml"))?;
    let text = text.replace("duration: 20s", "duration: 6s");
    let results = simulated(&text, 2, &["full_scan", "oracle", "weir"])?;
    let p99 = |arm: &str| median(&results, arm, "all", "p99");
    assert!(p99("weir")? <= 1.1 * p99("oracle")?, "{}", results.text());
    assert!(p99("weir")? <= 0.85 * p99("full_scan")?, "{}", results.text());
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

#[test]
fn endpoints_that_die_in_turn_are_back_before_the_others_have_more_than_they_can_do() -> Result<()>
{
    let text = std::fs::read_to_string(folder().join("kill-cycles.yaml"))?;
    let text = text
        .replace("duration: 101s", "duration: 16s")
        .replace("proxies:", "proxies:\n  workers: 2");
    let results = simulated(&text, 1, &["round_robin", "weir"])?;
    assert!(median(&results, "weir", "all", "errors")? < 0.5, "{}", results.text());
    let p99 = |arm: &str| median(&results, arm, "all", "p99");
    assert!(p99("weir")? <= 1.4 * p99("round_robin")?, "{}", results.text());
    Ok(())
}

#[test]
fn many_proxies_that_see_a_slice_each_go_by_reports_and_share_out_well() -> Result<()> {
    let text = std::fs::read_to_string(folder().join("mesh.yaml"))?;
    // A fifth of the size, and still a quarter of the endpoints is slow at any time. The proxies know
    // their share before the warm-up ends; reports that come too late for picks cost a second more.
    let text = text.replace("count: 100", "count: 20").replace("every: 80ms", "every: 400ms");
    let text = text.replace("warmup: 3s", "warmup: 2s").replace("duration: 5s", "duration: 1s");
    let results = simulated(&text, 1, &["peak_ewma", "oracle", "weir"])?;
    let p99 = |arm: &str| median(&results, arm, "all", "p99");
    assert!(p99("weir")? <= 0.8 * p99("peak_ewma")?, "{}", results.text());
    assert!(p99("weir")? <= 1.8 * p99("oracle")?, "{}", results.text());
    Ok(())
}
