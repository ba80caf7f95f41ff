//! Every random choice of a worker, from one seed: SplitMix64.
//!
//! Not a cryptographic generator, on purpose: a simulation must replay. What plugins get from
//! `random_get` is this stream too.

/// A seeded stream of uniform 64-bit numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Streams of one seed and different `stream` numbers are unrelated.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(stream);
        let offset = mixed.next();
        Self(seed ^ offset)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams_and_workers_differ() {
        let draw = |seed, stream| Rng::new(seed, stream).next();
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn fill_covers_lengths_that_are_no_multiple_of_eight() {
        let mut bytes = [0; 13];
        Rng::new(1, 1).fill(&mut bytes);
        assert!(bytes[8..].iter().any(|b| *b != 0));
    }
}
