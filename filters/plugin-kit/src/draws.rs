//! Random numbers for the cores, which take them as values.

use core::hash::{BuildHasher, Hasher};
use shared_state::{HashSeed, UnixNanos};
use std::hash::RandomState;

/// A seed that no client can guess. [`Draws`] would give one that follows from the time of start;
/// the standard library keys its maps with the host's `random_get`, which does not.
pub fn draw_seed() -> HashSeed {
    let draw = |half: u8| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u8(half);
        hasher.finish()
    };
    HashSeed([draw(0), draw(1)])
}

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, equidistributed, good enough to break
/// ties and spread polls. Not for secrets.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// Seeded by what differs between VMs: the moment, and a number such as the context's or a
    /// [`shared_state::WorkerSlot`]'s owner. Workers with equal seeds would pick in step.
    pub fn new(now: UnixNanos, salt: u64) -> Self {
        let mut draws = Self(now.as_nanos() ^ salt.rotate_left(32) ^ 0x5745_4952);
        draws.next_u64();
        draws
    }

    /// The next number, uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
