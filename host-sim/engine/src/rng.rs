//! Every random choice of a worker, from one seed: SplitMix64.
//!
//! Not a cryptographic generator, on purpose: a simulation must replay. What plugins get from
//! `random_get` is this stream too.
//!
//! Step and finalizer are public: whoever draws beside the engine does it alike.

use crate::Observer;
use std::sync::Arc;

/// A seeded stream of uniform 64-bit numbers, of one worker or (`None`) the main thread.
pub(crate) struct Rng {
    state: u64,
    worker: Option<u32>,
    observer: Option<Arc<dyn Observer>>,
}

impl Rng {
    /// Streams of one seed and different workers are unrelated. The observer sees every number.
    pub(crate) fn new(seed: u64, worker: Option<u32>, observer: Option<Arc<dyn Observer>>) -> Self {
        let stream = worker.map_or(0, |index| u64::from(index) + 1);
        Self { state: seed ^ mix(stream.wrapping_add(GAMMA)), worker, observer }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let value = mix(self.state);
        if let Some(observer) = &self.observer {
            observer.draw(self.worker, value);
        }
        value
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
    }
}

/// The golden ratio's fraction: the step of SplitMix64.
pub const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: numbers that differ in a bit come out unlike each other.
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams_and_workers_differ() {
        let draw = |seed, worker| Rng::new(seed, worker, None).next();
        assert_eq!(draw(7, Some(0)), draw(7, Some(0)));
        assert_ne!(draw(7, Some(0)), draw(7, Some(1)));
        assert_ne!(draw(7, Some(0)), draw(7, None));
        assert_ne!(draw(7, Some(0)), draw(8, Some(0)));
    }

    #[test]
    fn fill_covers_lengths_that_are_no_multiple_of_eight() {
        let mut bytes = [0; 13];
        Rng::new(1, Some(0), None).fill(&mut bytes);
        assert!(bytes[8..].iter().any(|b| *b != 0));
    }
}
