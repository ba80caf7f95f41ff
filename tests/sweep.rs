//! Every hostcall of each module once answered wrongly: no trap, no hung request, none lost.
//!
//! Here a sample of the faults; `make sweep` tries all of them.

use anyhow::{Result, anyhow};
use host_sim::RunOptions;
use host_sim::sweep::{SweepOptions, sweep};
use std::num::NonZeroUsize;
use std::path::Path;

/// Faults tried for a module; `WEIR_SWEEP` is another number, 0 stands for all.
const SAMPLE: usize = 60;

fn most() -> Option<NonZeroUsize> {
    let wanted = std::env::var("WEIR_SWEEP").ok().and_then(|text| text.parse().ok());
    NonZeroUsize::new(wanted.unwrap_or(SAMPLE))
}

fn survives(module: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("sweep/{module}.yaml"));
    // The SDK makes this one itself, before it calls the plugin back, and unwraps what it gets.
    let except = vec!["proxy_set_effective_context".to_owned()];
    let options = SweepOptions { most: most(), except, ..SweepOptions::default() };
    let sweep = sweep(&file, &options).map_err(|error| anyhow!(error))?;
    println!("{module}: {sweep}");
    assert!(sweep.hostcalls > 50 && sweep.runs > 0, "{sweep}");
    assert!(sweep.findings.is_empty(), "{sweep}");
    Ok(())
}

#[test]
fn every_scenario_here_holds_without_a_fault() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweep");
    let report = host_sim::run(&[folder], &RunOptions::default(), |_| {})?;
    assert!(report.exit_code() == 0 && report.outcomes.len() == 6, "{}", report.summary());
    Ok(())
}

#[test]
fn token_bucket_survives_every_single_fault() -> Result<()> {
    survives("token_bucket")
}

#[test]
fn token_bucket_survives_every_single_fault_with_permits() -> Result<()> {
    survives("token_bucket_permits")
}

#[test]
fn token_bucket_survives_every_single_fault_with_a_rate_limit_service() -> Result<()> {
    survives("token_bucket_global")
}

#[test]
fn metric_router_survives_every_single_fault() -> Result<()> {
    survives("metric_router")
}

#[test]
fn circuit_breaker_survives_every_single_fault() -> Result<()> {
    survives("circuit_breaker")
}

#[test]
fn health_signal_survives_every_single_fault() -> Result<()> {
    survives("health_signal")
}
