//! Requests in flight, as leases.
//!
//! A limit of concurrency counts what is under way, over all workers. A plain counter would be
//! wrong for ever after the first VM that died between adding and subtracting. So the count is a
//! sum of *holdings*: for each key, and each worker that has requests of it in flight, how many
//! these are and until when the worker's word for it counts. Only that worker writes its holding,
//! always with the true number and never with a difference, so that a write that was lost is made
//! good by the next one. It renews in time; who has died does not, and its permits come back when
//! the lease has run out. One deadline a holding is enough: what is in doubt is the life of the
//! VM, and all of its requests share it.
//!
//! A holding and not a permit is the row, so a table's size depends on keys and workers and not on
//! how many requests a limit allows. As in [`crate::SlotTable`], rows that say nothing any more are
//! dropped at every write, the table keeps its own time, which never runs backwards by less than a
//! lease, and nothing that a client sent is stored.

use crate::{DecodeError, Key, Reader, Record, Settled, UnixNanos, Writer};
use core::time::Duration;

/// Most holdings of one table: as many keys as a table of buckets has, and one row for each worker
/// of the largest machine beside them.
pub const MAX_HOLDINGS: u16 = 512;

/// Longest time that a worker may be suspended between reading the clock and writing a table, where
/// that is longer than a lease.
const MAX_LAG: Duration = Duration::from_secs(1);

/// What one worker has in flight of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Keyed hash of what is limited.
    pub fingerprint: u64,
    /// Number that no other VM has.
    pub owner: u64,
    /// Requests in flight; not 0.
    pub count: u32,
    /// When the worker's word ends.
    pub expires_at: UnixNanos,
}

/// The requests in flight of one shard of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermitTable {
    /// In order of fingerprint and owner.
    holdings: Vec<Holding>,
    /// Latest time at which it was written.
    written_at: UnixNanos,
}

impl PermitTable {
    /// Where a shard is kept. Plugins of one name share their permits.
    pub fn key(plugin: &str, policy: &str, shard: u16) -> Key<Self> {
        Key::new("permit", &[plugin, policy, &shard.to_string()])
    }

    /// Drops what has expired, and gives the moment to decide at. No holding is ever made for
    /// longer than `lease`.
    ///
    /// If the clock stepped back by less than a lease or a second, time stands still until it has
    /// caught up. If it stepped back by more, the table follows it, and what is in flight counts
    /// for a lease from there.
    pub fn settle(&mut self, now: UnixNanos, lease: Duration) -> Settled {
        let mut mended = self.written_at.is_stale_deadline(now, lease.max(MAX_LAG));
        let now = if mended { now } else { now.max(self.written_at) };
        self.written_at = now;
        let limit = now.plus(lease);
        self.holdings.retain_mut(|holding| {
            mended |= holding.expires_at > limit;
            holding.expires_at = holding.expires_at.min(limit);
            holding.expires_at > now
        });
        Settled { now, mended }
    }

    /// Requests of this key in flight, over all workers.
    pub fn in_flight(&self, fingerprint: u64) -> u32 {
        self.of(fingerprint).fold(0, |sum, holding| sum.saturating_add(holding.count))
    }

    /// True if any worker has a holding of this key.
    pub fn holds(&self, fingerprint: u64) -> bool {
        self.of(fingerprint).next().is_some()
    }

    /// What `owner` has of this key; 0 if nothing, or if its lease has run out.
    pub fn held_by(&self, fingerprint: u64, owner: u64) -> u32 {
        let found = self.position(fingerprint, owner).ok().and_then(|at| self.holdings.get(at));
        found.map_or(0, |holding| holding.count)
    }

    /// Sets what its owner has; 0 takes the row away. Answers false, and changes nothing, if a new
    /// row would be more than [`MAX_HOLDINGS`].
    pub fn put(&mut self, holding: Holding) -> bool {
        match self.position(holding.fingerprint, holding.owner) {
            Ok(at) if holding.count == 0 => {
                self.holdings.remove(at);
            }
            Ok(at) => {
                if let Some(row) = self.holdings.get_mut(at) {
                    *row = holding;
                }
            }
            Err(_) if holding.count == 0 => {}
            Err(at) if self.holdings.len() < usize::from(MAX_HOLDINGS) => {
                self.holdings.insert(at, holding);
            }
            Err(_) => return false,
        }
        true
    }

    /// Rows in use.
    pub fn len(&self) -> usize {
        self.holdings.len()
    }

    /// True if nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.holdings.is_empty()
    }

    fn of(&self, fingerprint: u64) -> impl Iterator<Item = &Holding> {
        let first = self.holdings.partition_point(|row| row.fingerprint < fingerprint);
        let rest = self.holdings.get(first..).unwrap_or_default();
        rest.iter().take_while(move |row| row.fingerprint == fingerprint)
    }

    fn position(&self, fingerprint: u64, owner: u64) -> Result<usize, usize> {
        let wanted = (fingerprint, owner);
        self.holdings.binary_search_by_key(&wanted, |row| (row.fingerprint, row.owner))
    }
}

impl Record for PermitTable {
    const TAG: u8 = 9;

    fn write(&self, out: &mut Writer) {
        out.u64(self.written_at.as_nanos());
        out.list(&self.holdings, MAX_HOLDINGS, |out, holding| {
            out.u64(holding.fingerprint);
            out.u64(holding.owner);
            out.u32(holding.count);
            out.u64(holding.expires_at.as_nanos());
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let written_at = UnixNanos::from_nanos(input.u64()?);
        let holdings = input.list(MAX_HOLDINGS, |input| {
            Ok(Holding {
                fingerprint: input.u64()?,
                owner: input.u64()?,
                count: input.u32()?,
                expires_at: UnixNanos::from_nanos(input.u64()?),
            })
        })?;
        // The search relies on the order, and a row of nothing would keep a key's place.
        let in_order = holdings
            .is_sorted_by(|a, b| (a.fingerprint, a.owner) < (b.fingerprint, b.owner))
            && holdings.iter().all(|holding| holding.count > 0);
        if in_order { Ok(Self { holdings, written_at }) } else { Err(DecodeError::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn holding(fingerprint: u64, owner: u64, count: u32, secs: u64) -> Holding {
        Holding { fingerprint, owner, count, expires_at: at(secs) }
    }

    fn table(holdings: &[Holding]) -> PermitTable {
        let mut table = PermitTable::default();
        for holding in holdings {
            assert!(table.put(*holding));
        }
        table
    }

    #[test]
    fn a_key_has_in_flight_what_all_workers_have_of_it() {
        let table = table(&[holding(7, 2, 3, 9), holding(7, 1, 2, 9), holding(8, 1, 5, 9)]);
        assert_eq!((table.in_flight(7), table.in_flight(8), table.in_flight(9)), (5, 5, 0));
        assert_eq!((table.held_by(7, 1), table.held_by(7, 3)), (2, 0));
    }

    #[test]
    fn nothing_in_flight_takes_no_row() {
        let mut table = table(&[holding(7, 1, 2, 9)]);
        assert!(table.put(holding(7, 1, 0, 9)) && table.put(holding(8, 1, 0, 9)));
        assert!(table.is_empty() && !table.holds(7));
    }

    #[test]
    fn a_worker_that_does_not_renew_gives_its_permits_back() {
        let mut table = table(&[holding(7, 1, 2, 105), holding(7, 2, 1, 107)]);
        assert_eq!(table.settle(at(105), LEASE), Settled { now: at(105), mended: false });
        assert_eq!((table.in_flight(7), table.held_by(7, 1)), (1, 0));
    }

    #[test]
    fn whoever_read_the_clock_before_the_last_writer_decides_at_the_last_writers_time() {
        let mut table = PermitTable::default();
        table.settle(at(101), LEASE);
        assert_eq!(table.settle(at(92), LEASE), Settled { now: at(101), mended: false });
    }

    #[test]
    fn a_clock_that_stepped_back_further_than_a_lease_freezes_no_permit_for_longer_than_one() {
        let mut table = table(&[holding(7, 1, 2, 111)]);
        table.settle(at(101), LEASE);
        assert_eq!(table.settle(at(50), LEASE), Settled { now: at(50), mended: true });
        assert_eq!(table.in_flight(7), 2);
        table.settle(at(60), LEASE);
        assert!(table.is_empty());
    }

    #[test]
    fn a_table_is_bounded() {
        let mut table = PermitTable::default();
        for owner in 0..u64::from(MAX_HOLDINGS) {
            assert!(table.put(holding(7, owner, 1, 9)));
        }
        assert!(!table.put(holding(7, u64::MAX, 1, 9)));
        assert!(table.put(holding(7, 0, 2, 9)), "a row that exists can be changed");
        assert_eq!(decode::<PermitTable>(&encode(&table)), Ok(table));
    }

    #[test]
    fn rows_out_of_order_twice_or_of_nothing_do_not_decode() {
        for rows in [
            [holding(1, 5, 1, 9), holding(1, 5, 1, 9)],
            [holding(2, 5, 1, 9), holding(1, 5, 1, 9)],
            [holding(1, 5, 1, 9), holding(1, 6, 0, 9)],
        ] {
            let wrong = PermitTable { holdings: rows.to_vec(), ..PermitTable::default() };
            assert_eq!(decode::<PermitTable>(&encode(&wrong)), Err(DecodeError::Field));
        }
    }

    proptest! {
        #[test]
        fn any_table_survives_the_round_trip(
            rows in proptest::collection::vec((0u64..9, any::<u64>(), 1u32.., any::<u64>()), 0..64),
            written_at in any::<u64>(),
        ) {
            let mut table = PermitTable { written_at: UnixNanos::from_nanos(written_at), ..PermitTable::default() };
            for (fingerprint, owner, count, nanos) in rows {
                let expires_at = UnixNanos::from_nanos(nanos);
                table.put(Holding { fingerprint, owner, count, expires_at });
            }
            prop_assert_eq!(decode::<PermitTable>(&encode(&table)), Ok(table));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<PermitTable>(&bytes);
        }
    }
}
