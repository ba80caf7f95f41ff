//! Who asks for a share of a limit, and for how much.
//!
//! A fair share depends on what everybody wants, so the workers add up their demand: one record a
//! policy, in which time is cut into rounds. Each worker counts what it is asked for and adds that
//! some times a round; the round before the current one is complete but for what was under way when
//! it ended. A key that asked for nothing in a whole round is forgotten, so the table holds the
//! active keys and nothing else.
//!
//! The table is bounded. The demand of keys that find no room is added up in the row of fingerprint
//! 0: in the division they count together, as one key more.

use crate::{DecodeError, Key, Reader, Record, UnixNanos, Writer};
use core::time::Duration;

/// Most keys of one table: 20 KB, written some times a second.
pub const MAX_ACTIVE: u16 = 1024;

/// What one key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Keyed hash of who asks.
    pub fingerprint: u64,
    /// Its weight, as it last was; not 0.
    pub weight: u32,
    /// Tokens asked for in this round, refused ones included.
    pub current: u32,
    /// And in the round before.
    pub previous: u32,
}

/// The active keys of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveKeys {
    /// Number of the current round: time divided by its length.
    round: u64,
    /// In order of fingerprint.
    demands: Vec<Demand>,
}

impl ActiveKeys {
    /// Where the active keys of a policy are kept.
    pub fn key(plugin: &str, policy: &str) -> Key<Self> {
        Key::new("active", &[plugin, policy])
    }

    /// Goes on to the round of `now`. Who read the clock before the last writer counts for the
    /// round that the table is in; a clock that stepped back by more than a round is followed.
    pub fn roll(&mut self, now: UnixNanos, length: Duration) {
        let length = length.as_nanos().max(1);
        let round = u64::try_from(u128::from(now.as_nanos()) / length).unwrap_or(u64::MAX);
        match round.checked_sub(self.round) {
            Some(0) => {}
            Some(1) => {
                self.demands.retain_mut(|demand| {
                    demand.previous = demand.current;
                    demand.current = 0;
                    demand.previous > 0
                });
                self.round = round;
            }
            None if self.round.saturating_sub(round) == 1 => {}
            _ => {
                self.demands.clear();
                self.round = round;
            }
        }
    }

    /// Adds demand to the current round. Without room for a new key it is added to the row of all
    /// such keys, which is that of fingerprint 0.
    pub fn add(&mut self, fingerprint: u64, weight: u32, tokens: u32) {
        let weight = weight.max(1);
        let own = self.row(fingerprint, weight, MAX_ACTIVE - 1).is_some();
        let row = self.row(if own { fingerprint } else { 0 }, weight, MAX_ACTIVE);
        if let Some(row) = row {
            row.weight = weight;
            row.current = row.current.saturating_add(tokens);
        }
    }

    /// The active keys, in order of fingerprint.
    pub fn demands(&self) -> &[Demand] {
        &self.demands
    }

    fn row(&mut self, fingerprint: u64, weight: u32, most: u16) -> Option<&mut Demand> {
        let at = match self.position(fingerprint) {
            Ok(at) => at,
            Err(at) if self.demands.len() < usize::from(most) => {
                let row = Demand { fingerprint, weight, current: 0, previous: 0 };
                self.demands.insert(at, row);
                at
            }
            Err(_) => return None,
        };
        self.demands.get_mut(at)
    }

    fn position(&self, fingerprint: u64) -> Result<usize, usize> {
        self.demands.binary_search_by_key(&fingerprint, |demand| demand.fingerprint)
    }
}

impl Record for ActiveKeys {
    const TAG: u8 = 10;

    fn write(&self, out: &mut Writer) {
        out.u64(self.round);
        out.list(&self.demands, MAX_ACTIVE, |out, demand| {
            out.u64(demand.fingerprint);
            out.u32(demand.weight);
            out.u32(demand.current);
            out.u32(demand.previous);
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let round = input.u64()?;
        let demands = input.list(MAX_ACTIVE, |input| {
            Ok(Demand {
                fingerprint: input.u64()?,
                weight: input.u32()?,
                current: input.u32()?,
                previous: input.u32()?,
            })
        })?;
        // The search relies on the order, and a share is divided by weights.
        let in_order = demands.is_sorted_by(|a, b| a.fingerprint < b.fingerprint)
            && demands.iter().all(|demand| demand.weight > 0);
        if in_order { Ok(Self { round, demands }) } else { Err(DecodeError::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};
    use proptest::prelude::*;

    const ROUND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(1_000_000 + millis)
    }

    /// Fingerprint, demand of this round, demand of the round before.
    fn told(keys: &ActiveKeys) -> Vec<(u64, u32, u32)> {
        keys.demands().iter().map(|row| (row.fingerprint, row.current, row.previous)).collect()
    }

    #[test]
    fn demand_of_a_round_is_that_of_the_round_before_in_the_next() {
        let mut keys = ActiveKeys::default();
        keys.roll(at(0), ROUND);
        keys.add(7, 1, 3);
        keys.add(7, 1, 2);
        keys.roll(at(999), ROUND);
        assert_eq!(told(&keys), [(7, 5, 0)]);
        keys.roll(at(1_000), ROUND);
        keys.add(8, 1, 1);
        assert_eq!(told(&keys), [(7, 0, 5), (8, 1, 0)]);
    }

    #[test]
    fn a_key_that_was_silent_for_a_round_is_forgotten() {
        let mut keys = ActiveKeys::default();
        keys.roll(at(0), ROUND);
        keys.add(7, 1, 3);
        keys.roll(at(1_000), ROUND);
        keys.roll(at(2_000), ROUND);
        assert!(told(&keys).is_empty());
    }

    #[test]
    fn a_gap_of_several_rounds_forgets_all() {
        let mut keys = ActiveKeys::default();
        keys.roll(at(0), ROUND);
        keys.add(7, 1, 3);
        keys.roll(at(2_000), ROUND);
        assert!(told(&keys).is_empty());
    }

    #[test]
    fn who_read_the_clock_a_moment_ago_counts_for_the_round_that_has_begun() {
        let mut keys = ActiveKeys::default();
        keys.roll(at(1_000), ROUND);
        keys.add(7, 1, 3);
        keys.roll(at(999), ROUND);
        assert_eq!(told(&keys), [(7, 3, 0)]);
    }

    #[test]
    fn a_clock_that_stepped_back_is_followed() {
        let mut keys = ActiveKeys::default();
        keys.roll(at(900_000), ROUND);
        keys.add(7, 1, 3);
        keys.roll(at(0), ROUND);
        assert!(told(&keys).is_empty());
        keys.add(7, 1, 3);
        keys.roll(at(1_000), ROUND);
        assert_eq!(told(&keys), [(7, 0, 3)]);
    }

    #[test]
    fn a_table_is_bounded_and_counts_together_what_it_has_no_room_for() {
        let mut keys = ActiveKeys::default();
        for fingerprint in 1..=2 * u64::from(MAX_ACTIVE) {
            keys.add(fingerprint, 1, 1);
        }
        assert_eq!(keys.demands().len(), usize::from(MAX_ACTIVE));
        assert_eq!(told(&keys)[0], (0, u32::from(MAX_ACTIVE) + 1, 0));
        assert_eq!(decode::<ActiveKeys>(&encode(&keys)), Ok(keys));
    }

    #[test]
    fn rows_out_of_order_or_without_weight_do_not_decode() {
        let row = |fingerprint, weight| Demand { fingerprint, weight, current: 1, previous: 1 };
        for demands in [[row(2, 1), row(1, 1)], [row(1, 1), row(1, 1)], [row(1, 0), row(2, 1)]] {
            let wrong = ActiveKeys { round: 1, demands: demands.to_vec() };
            assert_eq!(decode::<ActiveKeys>(&encode(&wrong)), Err(DecodeError::Field));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<ActiveKeys>(&bytes);
        }
    }
}
