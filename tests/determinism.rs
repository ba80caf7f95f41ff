//! One scenario, run again and again: one trace.
//!
//! In full (1000 runs of 10 000 requests) it is `make determinism`; here is a sample of it.

use anyhow::Result;
use host_sim::{RunOptions, Trace, repeat, replay};
use std::path::{Path, PathBuf};

/// The scenario of the full run with a twentieth of its requests, beside a module folder of its own.
fn sample(folder: &Path) -> Result<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("determinism/four_workers.yaml");
    let text = std::fs::read_to_string(full)?;
    assert_eq!(text.matches("count: 2500").count(), 4, "10 000 requests");
    let file = folder.join("sample.yaml");
    // The suite's modules are looked for in `dist` above the scenario.
    let dist = weir_tests::module("token_bucket");
    let dist = dist.parent().unwrap_or(Path::new("."));
    let text = text.replace("count: 2500", "count: 125");
    let text = ["token_bucket", "metric_router", "circuit_breaker", "health_signal"].iter().fold(
        text,
        |text, name| {
            let path = dist.join(format!("{name}.wasm"));
            text.replace(&format!("module: {name},"), &format!("module: {},", path.display()))
                .replace(&format!("module: {name}\n"), &format!("module: {}\n", path.display()))
        },
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

#[test]
fn five_runs_of_five_hundred_requests_on_four_workers_give_one_digest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = sample(folder.path())?;
    let repeated = repeat(&[file], &RunOptions::default(), 5, 2, |_| {})?;
    let text: String = repeated.report.outcomes.iter().map(|outcome| outcome.text()).collect();
    assert_eq!(repeated.report.exit_code(), 0, "{text}");
    assert_eq!((repeated.same, repeated.others), (5, vec![]));
    // Requests, hostcalls of four modules, polls: it is no empty trace that is the same.
    assert!(repeated.trace.lines > 50_000, "{} lines", repeated.trace.lines);
    Ok(())
}

#[test]
fn a_recorded_run_of_the_chain_replays() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = sample(folder.path())?;
    let path = folder.path().join("trace.jsonl");
    let trace = Trace::to_file(&path)?;
    let options = RunOptions { trace: Some(trace.clone()), ..RunOptions::default() };
    host_sim::run(&[file], &options, |_| {})?;
    let lines = trace.finish()?.lines;
    let replayed = replay(&path)?;
    assert_eq!((replayed.runs, replayed.lines, replayed.difference), (1, lines, None));
    Ok(())
}
