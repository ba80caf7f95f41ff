//! The shipped modules under other orders of workers: what they promise holds under all of them.
//!
//! In full (10 000 orders of each scenario) it is `make explore`; here is a sample of it. That the
//! search finds what is there is shown beside it, on races planted for the purpose.

use anyhow::Result;
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
