//! The shipped modules under other orders of workers: what they promise holds under all of them.
//!
//! In full (10 000 orders of each scenario) it is `make explore`; here is a sample of it. That the
//! search finds what is there is shown beside it, on races planted for the purpose.

use anyhow::{Context, Result};
use host_sim::{ExploreOptions, explore, scenario_files};
use std::path::Path;

#[test]
fn no_order_of_four_workers_breaks_a_module() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("explore");
    let files = scenario_files(&[folder])?;
    for name in ["token_bucket", "circuit_breaker", "health_signal", "metric_router"] {
        let named = |file: &std::path::PathBuf| file.file_stem().is_some_and(|stem| stem == name);
        assert!(files.iter().any(named), "nothing explores {name}");
    }
    for file in files {
        let options = ExploreOptions { schedules: 200, jobs: 2, ..ExploreOptions::default() };
        let explored = explore(&file, &options, |_| {});
        assert!(explored.passed(), "{explored}");
        assert_eq!((explored.workers, explored.schedules), (4, 200));
        assert!(explored.steps >= 8, "there is nothing to interleave: {explored}");
    }
    Ok(())
}

#[test]
fn what_does_not_hold_of_a_module_in_every_order_is_found_and_made_small() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("planted/race.yaml");
    let explored = explore(&file, &ExploreOptions::default(), |_| {});
    let told = explored.to_string();
    let finding = explored.finding.context(told.clone())?;
    assert!(finding.schedule.found_by > 0, "it holds when nothing interleaves: {told}");
    assert!(told.contains("smallest: 2 workers, 2 requests, 1 turns taken"), "{told}");
    let lost = finding.steps.iter().filter(|step| step.to_string().ends_with("-> CasMismatch"));
    assert_eq!(lost.count(), 1, "{told}");
    Ok(())
}
