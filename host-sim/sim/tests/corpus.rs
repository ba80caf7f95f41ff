//! The fuzzers' corpora, replayed without a fuzzer, and as many inputs of chance as fit.
//!
//! `HOST_SIM_FUZZ` is the number of inputs of chance for each target.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own, for cargo-fuzz")]
mod fuzz;

use host_sim_engine::rng::{GAMMA, mix};
use std::panic::catch_unwind;
use std::path::Path;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut entries: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries.into_iter().map(|p| (p.display().to_string(), std::fs::read(p).unwrap())).collect()
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// An entry of the corpus with some bytes changed, cut, doubled; or nothing but chance.
    fn input(&mut self, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
        if corpus.is_empty() || self.below(4) == 0 {
            let len = self.below(600);
            return (0..len).map(|_| self.next() as u8).collect();
        }
        let mut input = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..=self.below(8) {
            let at = self.below(input.len());
            let end = at + self.below(input.len() - at.min(input.len()));
            match self.below(4) {
                0 => input.truncate(at),
                1 => {
                    let part = input.get(at..end).unwrap_or_default().to_vec();
                    input.splice(at..at, part);
                }
                2 => drop(input.splice(at..end, [])),
                _ => {
                    let byte = self.next() as u8;
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

fn survives(name: &str, target: fn(&[u8]), usual: u64) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (file, input) in &corpus {
        assert!(catch_unwind(|| target(input)).is_ok(), "{file} panics");
    }
    let wanted = std::env::var("HOST_SIM_FUZZ").ok().and_then(|text| text.parse().ok());
    for seed in 0..wanted.unwrap_or(usual) {
        let input = Chance(seed).input(&corpus);
        if catch_unwind(|| target(&input)).is_err() {
            let path = std::env::temp_dir().join(format!("{name}-{seed}"));
            std::fs::write(&path, &input).unwrap();
            panic!("{name}: seed {seed} panics, its input is {}", path.display());
        }
    }
}

#[test]
fn no_header_map_harms_the_codec() {
    survives("pairs", fuzz::pairs, 2000);
}

#[test]
fn no_bootstrap_harms_its_reader() {
    survives("bootstrap", fuzz::bootstrap, 200);
}

#[test]
fn no_scenario_harms_its_reader() {
    survives("scenario", fuzz::scenario, 200);
}

#[test]
fn no_suite_harms_its_reader() {
    survives("textpb", fuzz::textpb, 500);
}

#[test]
fn no_guest_harms_its_host() {
    survives("hostile", fuzz::hostile, 150);
}

/// Or else the fuzzers would prove nothing.
#[test]
fn the_guest_makes_the_hostcalls_that_it_is_told() {
    let corpus = corpus("hostile");
    let hosts: Vec<_> = corpus.iter().filter_map(|(_, input)| fuzz::served(input)).collect();
    let hostcalls: u64 = hosts.iter().map(host_sim::Host::hostcall_count).sum();
    assert!(hosts.len() > 3 && hostcalls > 200, "{} hosts, {hostcalls} hostcalls", hosts.len());
}
