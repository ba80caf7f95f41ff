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
fn no_answer_of_a_registry_harms() {
    survives(&corpora().join("registry"), fuzz::registry);
}
