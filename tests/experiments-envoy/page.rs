//! The page, from results.

use crate::record::Results;
use crate::{failures, latency};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use weir_tests::module;

/// The modules of the arms with them.
const MODULES: [&str; 3] = ["metric_router", "circuit_breaker", "health_signal"];

/// What tells these modules from others: the beginnings of their SHA-256.
pub(crate) fn modules() -> anyhow::Result<String> {
    let mut names = Vec::new();
    for name in MODULES {
        let digest = Sha256::digest(std::fs::read(module(name))?);
        let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        names.push(format!("{name} {digits}"));
    }
    Ok(names.join(", "))
}

/// All that was measured.
pub(crate) fn page(results: &Results) -> String {
    let mut page = String::from(PREFACE);
    let modules: BTreeSet<&str> = results.all().map(|own| own.modules.as_str()).collect();
    page.push_str("\nModules, by the beginnings of their SHA-256:\n\n");
    for own in &modules {
        let of = results.all().filter(|record| record.modules == **own);
        let of: BTreeSet<&str> = of.map(|record| record.run.experiment.as_str()).collect();
        let of: Vec<&str> = of.into_iter().collect();
        let _ = writeln!(page, "- {own}: {}", of.join(", "));
    }
    let workers: BTreeSet<u32> = results.all().map(|own| own.run.workers).collect();
    for workers in workers {
        page.push_str(&latency::section(results, workers));
        page.push_str(&failures::section(results, workers));
    }
    page
}

const PREFACE: &str = include_str!("preface.md");
