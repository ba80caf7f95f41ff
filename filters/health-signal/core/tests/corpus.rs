//! The fuzzers' corpora, replayed without a fuzzer, and as many inputs of chance as fit.
//!
//! `WEIR_FUZZ` is the number of inputs of chance for each target.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own, for cargo-fuzz")]
mod fuzz;

use std::panic::catch_unwind;
use std::path::Path;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    /// An entry of the corpus with some bytes changed, cut, doubled; or nothing but chance.
    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if self.below(5) == 0 {
            let len = self.below(300);
            return (0..len).map(|_| self.below(256) as u8).collect();
        }
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(8) {
            let at = self.below(input.len());
            let end = at + self.below(input.len() - at);
            match self.below(4) {
                0 => input.truncate(end),
                1 => {
                    let part = input.get(at..end).unwrap_or_default().to_vec();
                    input.splice(at..at, part);
                }
                2 => drop(input.splice(at..end, [])),
                _ => {
                    let byte = self.below(256) as u8;
                    if let Some(own) = input.get_mut(at) {
                        *own = byte;
                    }
                }
            }
        }
        input.truncate(1 << 16);
        input
    }
}

fn survives(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let wanted = std::env::var("WEIR_FUZZ").ok().and_then(|text| text.parse().ok());
    let chance = (0..wanted.unwrap_or(2000)).map(|seed| Chance(seed).input(&corpus));
    for input in corpus.iter().cloned().chain(chance) {
        let told = String::from_utf8_lossy(&input).into_owned();
        assert!(catch_unwind(|| target(&input)).is_ok(), "{name}: {told:?} {input:?}");
    }
}

#[test]
fn no_load_report_harms() {
    survives("orca", fuzz::orca);
}

#[test]
fn no_page_of_metrics_harms() {
    survives("prometheus", fuzz::prometheus);
}

#[test]
fn no_agent_harms() {
    survives("agent", fuzz::agent);
}

#[test]
fn no_health_page_harms() {
    survives("health_page", fuzz::health_page);
}

#[test]
fn no_answer_to_a_query_harms() {
    survives("query", fuzz::query);
}
