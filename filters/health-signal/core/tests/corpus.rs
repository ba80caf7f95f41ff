//! The fuzzers' corpora, replayed without a fuzzer, and as many inputs of chance as fit.
//!
//! `WEIR_FUZZ` is the number of inputs of chance for each target.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own, for cargo-fuzz")]
mod fuzz;

use shared_state::corpus::survives;
use std::path::Path;

fn corpora() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"))
}

#[test]
fn no_load_report_harms() {
    survives(&corpora().join("orca"), fuzz::orca);
}

#[test]
fn no_page_of_metrics_harms() {
    survives(&corpora().join("prometheus"), fuzz::prometheus);
}

#[test]
fn no_agent_harms() {
    survives(&corpora().join("agent"), fuzz::agent);
}

#[test]
fn no_health_page_harms() {
    survives(&corpora().join("health_page"), fuzz::health_page);
}

#[test]
fn no_answer_to_a_query_harms() {
    survives(&corpora().join("query"), fuzz::query);
}
