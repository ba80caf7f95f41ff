//! The corpora of fuzzers, replayed without a fuzzer, and as many inputs of chance as fit.

use std::panic::catch_unwind;
use std::path::Path;

/// Gives `target` each file of `folder`, and changes of them by chance, as many as `WEIR_FUZZ` says
/// or 2000.
///
/// # Panics
/// With the first input over which `target` does, and if the folder holds nothing.
pub fn survives(folder: &Path, target: fn(&[u8])) {
    let corpus = corpus(folder);
    assert!(!corpus.is_empty(), "nothing in {}", folder.display());
    let wanted = std::env::var("WEIR_FUZZ").ok().and_then(|text| text.parse().ok());
    let chance = (0..wanted.unwrap_or(2000)).map(|seed| Chance(seed).input(&corpus));
    for input in corpus.iter().cloned().chain(chance) {
        let told = String::from_utf8_lossy(&input);
        let survived = catch_unwind(|| target(&input)).is_ok();
        assert!(survived, "{}: {told:?} {input:?}", folder.display());
    }
}

fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
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
        let chosen = self.below(corpus.len());
        let mut input = corpus.get(chosen).cloned().unwrap_or_default();
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
