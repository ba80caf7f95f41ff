//! A table of token buckets.
//!
//! A bucket is one number, its theoretical arrival time (TAT): the moment at which it is full
//! again. That makes forgetting exact: **a slot whose TAT has passed is the same as no slot**, so
//! such slots are dropped at every write, and a record holds the buckets in use and nothing else. A
//! policy without a key takes 58 bytes.
//!
//! Forgetting is exact only if time does not run backwards, and between workers it does, by as long
//! as one of them is suspended between reading the clock and writing the record: it would find a
//! bucket absent that was forgotten at a later time than its own, take it as full at its own, and
//! have the time between refilled twice. So the table keeps the latest time at which it was
//! written, and no decision on it is made at an earlier one.
//!
//! It also keeps the time of one token. A TAT is tokens, told as the time in which they come back; a
//! table that is met with another rate than it was written with is told again in the new one, so a
//! bucket holds after a change of the rate what it held before.
//!
//! And it keeps how much was ever taken back off its TATs. Who gives back tokens that it has spent
//! earlier must know how much of the TAT since then is still made of charges, and that is what a TAT
//! alone cannot say once somebody else has given back too.
//!
//! The table is bounded, and full when every slot is in use. It is searched as a whole, not in sets
//! of ways: the record is read and written as a whole in any case, so full associativity costs
//! nothing and wastes no slot. Keys that find no room share one bucket more, the *overflow*. A key
//! that later gets a slot of its own starts from the overflow's TAT if that is still in use,
//! because it may have spent from there: sharing never gives a key more than a slot would have.

use crate::{
    DecodeError, Key, Reader, Record, SharedStore, Transition, UnixNanos, UpdateError, Updated,
    Writer, update,
};
use core::time::Duration;

/// Most slots of one table: 4 KB, which the host copies twice for a request.
pub const MAX_SLOTS: u16 = 256;

/// Longest time that a worker may be suspended between reading the clock and writing a table, where
/// that is longer than an empty bucket takes to fill. Who is further behind is taken for a clock
/// that stepped back.
const MAX_LAG: Duration = Duration::from_secs(1);

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Keyed hash of what the bucket counts.
    fingerprint: u64,
    /// When it is full again.
    tat: UnixNanos,
}

/// The buckets in use of one shard of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotTable {
    /// In order of fingerprint.
    slots: Vec<Slot>,
    overflow: UnixNanos,
    /// Latest time at which it was written.
    written_at: UnixNanos,
    /// Time of one token in these TATs, in ns; 0 before first use.
    token_ns: u64,
    /// All time that was ever taken off these TATs, in ns. Goes round.
    credited_ns: u64,
}

/// What counts as taken off where TATs no longer mean what they did. More than anybody gives back
/// while one request lasts: two years.
const VOID_NS: u64 = 1 << 56;

/// How the buckets of a table fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time of one token.
    pub token: Duration,
    /// Furthest that a TAT may lie ahead.
    pub longest: Duration,
    /// Furthest ahead of its charge that a token may be spent.
    pub ahead: Duration,
}

/// A table's own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The moment to decide at: the caller's, or a later one at which the table was written.
    pub now: UnixNanos,
    /// The table was written before the clock stepped back, or for a slower bucket than it now is,
    /// and has been mended. It must be stored even by a refusal, or each refusal would find it as
    /// it was.
    pub mended: bool,
}

impl SlotTable {
    /// Where a shard is kept. Plugins of one name share their buckets.
    pub fn key(plugin: &str, policy: &str, shard: u16) -> Key<Self> {
        Key::new("bucket", &[plugin, policy, &shard.to_string()])
    }

    /// Forgets what is full again, and gives the moment to decide at.
    ///
    /// If the clock stepped back by less than `longest` or a second, time stands still until it has
    /// caught up: what was refilled in that time is not refilled twice. If it stepped back by more,
    /// the table follows it, with buckets that are at worst empty. Either way a key waits no longer
    /// than so long, and for one token.
    pub fn settle(&mut self, now: UnixNanos, pace: &Pace) -> Settled {
        let mut mended = self.written_at.is_stale_deadline(now, pace.longest.max(MAX_LAG));
        let now = if mended { now } else { now.max(self.written_at) };
        self.written_at = now;
        let token_ns = u64::try_from(pace.token.as_nanos()).unwrap_or(u64::MAX);
        let told_in = core::mem::replace(&mut self.token_ns, token_ns);
        if told_in != 0 && told_in != token_ns {
            let retold = |tat| retell(tat, now, told_in, token_ns, pace.ahead);
            self.overflow = retold(self.overflow);
            self.slots.iter_mut().for_each(|slot| slot.tat = retold(slot.tat));
            mended = true;
        }
        let limit = now.plus(pace.longest);
        let mut mend = |tat: UnixNanos| {
            mended |= tat > limit;
            tat.min(limit)
        };
        self.overflow = if self.overflow > now { mend(self.overflow) } else { UnixNanos::ZERO };
        // Nearly always all of them stay as they are, and to see that is cheaper than to sort them out.
        if !self.slots.iter().all(|slot| slot.tat > now && slot.tat <= limit) {
            self.slots.retain_mut(|slot| {
                slot.tat = mend(slot.tat);
                slot.tat > now
            });
        }
        if mended {
            self.credited_ns = self.credited_ns.wrapping_add(VOID_NS);
        }
        Settled { now, mended }
    }

    /// A mark to measure from with [`SlotTable::credited_since`].
    pub fn credit_mark(&self) -> u64 {
        self.credited_ns
    }

    /// How much was taken off TATs since `mark`; `None` if TATs of then mean nothing any more: the
    /// rate has changed, or the clock has stepped back.
    pub fn credited_since(&self, mark: u64) -> Option<Duration> {
        let since = self.credited_ns.wrapping_sub(mark);
        (since < VOID_NS).then(|| Duration::from_nanos(since))
    }

    /// Notes that this much was taken off a TAT.
    pub fn credit(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.credited_ns = self.credited_ns.wrapping_add(nanos.min(VOID_NS));
    }

    /// TAT of the bucket with this fingerprint, if it has a slot.
    pub fn find(&self, fingerprint: u64) -> Option<UnixNanos> {
        let at = self.position(fingerprint).ok()?;
        self.slots.get(at).map(|slot| slot.tat)
    }

    /// Sets the TAT of a bucket, in its slot or a new one. Answers false, and changes nothing, if
    /// a new one would be more than [`MAX_SLOTS`].
    pub fn put(&mut self, fingerprint: u64, tat: UnixNanos) -> bool {
        match self.position(fingerprint) {
            Ok(at) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.tat = tat;
                }
                true
            }
            Err(at) if self.slots.len() < usize::from(MAX_SLOTS) => {
                self.slots.insert(at, Slot { fingerprint, tat });
                true
            }
            Err(_) => false,
        }
    }

    /// TAT of the bucket that keys without a slot share. [`UnixNanos::ZERO`]: none does.
    pub fn overflow(&self) -> UnixNanos {
        self.overflow
    }

    /// Sets the TAT of the shared bucket.
    pub fn put_overflow(&mut self, tat: UnixNanos) {
        self.overflow = tat;
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// When the next slot comes free.
    pub fn next_free_at(&self) -> Option<UnixNanos> {
        self.slots.iter().map(|slot| slot.tat).min()
    }

    fn position(&self, fingerprint: u64) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&fingerprint, |slot| slot.fingerprint)
    }
}

/// A TAT in tokens of another time. What is still to come is so many tokens, whatever their time.
/// Tokens that may be spent up to `ahead` from now are charged as of then, and stay so.
fn retell(tat: UnixNanos, now: UnixNanos, from_ns: u64, to_ns: u64, ahead: Duration) -> UnixNanos {
    let used = tat.since(now).as_nanos();
    if used == 0 {
        return tat;
    }
    let scale = |nanos: u128| {
        let scaled = nanos.saturating_mul(to_ns.into()).div_ceil(u128::from(from_ns).max(1));
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
    };
    let kept = ahead.saturating_sub(scale(ahead.as_nanos()));
    now.plus(scale(used)).plus(kept)
}

impl Record for SlotTable {
    const TAG: u8 = 6;

    fn write(&self, out: &mut Writer) {
        out.u64(self.written_at.as_nanos());
        out.u64(self.overflow.as_nanos());
        out.u64(self.token_ns);
        out.u64(self.credited_ns);
        // In pieces: most of what a request costs in a large table is here.
        out.pieces(&self.slots, MAX_SLOTS, |slot| {
            let both = u128::from(slot.fingerprint) | u128::from(slot.tat.as_nanos()) << 64;
            both.to_le_bytes()
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let written_at = UnixNanos::from_nanos(input.u64()?);
        let overflow = UnixNanos::from_nanos(input.u64()?);
        let (token_ns, credited_ns) = (input.u64()?, input.u64()?);
        let slots = input.pieces(MAX_SLOTS, |bytes| {
            let both = u128::from_le_bytes(*bytes);
            Slot { fingerprint: both as u64, tat: UnixNanos::from_nanos((both >> 64) as u64) }
        })?;
        // The search relies on the order, and a fingerprint that stands twice would be two buckets.
        if slots.is_sorted_by(|a, b| a.fingerprint < b.fingerprint) {
            Ok(Self { slots, overflow, written_at, token_ns, credited_ns })
        } else {
            Err(DecodeError::Field)
        }
    }
}

/// The key of the hash that turns what a client sent into a fingerprint. Drawn once for a process,
/// by whichever VM needs it first, so that all workers name a bucket alike and no client can aim
/// at another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed(pub [u64; 2]);

impl HashSeed {
    /// Where the seed is kept.
    pub fn key() -> Key<Self> {
        Key::new("bucket", &["seed"])
    }

    /// The seed of all workers: the one that is kept, or else `drawn`, which is kept from now on.
    pub fn agreed(store: &impl SharedStore, drawn: Self) -> Result<Updated<Self>, UpdateError> {
        update(store, &Self::key(), |prior| match prior {
            Some(seed) => Transition::Keep(seed),
            None => Transition::Store(drawn, drawn),
        })
    }
}

impl Record for HashSeed {
    const TAG: u8 = 8;

    fn write(&self, out: &mut Writer) {
        for half in self.0 {
            out.u64(half);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self([input.u64()?, input.u64()?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};
    use proptest::prelude::*;

    const LONGEST: Pace = Pace {
        token: Duration::from_secs(1),
        longest: Duration::from_secs(10),
        ahead: Duration::ZERO,
    };

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn table(slots: &[(u64, u64)]) -> SlotTable {
        let mut table = SlotTable::default();
        for (fingerprint, secs) in slots {
            assert!(table.put(*fingerprint, at(*secs)));
        }
        table
    }

    #[test]
    fn a_bucket_that_is_full_again_is_forgotten() {
        let mut table = table(&[(3, 105), (1, 100), (2, 101)]);
        assert_eq!(table.settle(at(101), &LONGEST), Settled { now: at(101), mended: false });
        assert_eq!((table.find(1), table.find(2), table.find(3)), (None, None, Some(at(105))));
        assert_eq!(table.next_free_at(), Some(at(105)));
    }

    #[test]
    fn whoever_read_the_clock_before_the_last_writer_decides_at_the_last_writers_time() {
        let mut table = table(&[(1, 105)]);
        table.settle(at(101), &LONGEST);
        assert_eq!(table.settle(at(91), &LONGEST), Settled { now: at(101), mended: false });
        assert_eq!(table.find(1), Some(at(105)));
    }

    #[test]
    fn a_clock_that_stepped_back_further_than_a_refill_is_followed() {
        let mut table = table(&[(1, 105)]);
        table.put_overflow(at(107));
        table.settle(at(101), &LONGEST);
        assert_eq!(table.settle(at(50), &LONGEST), Settled { now: at(50), mended: true });
        assert_eq!((table.find(1), table.overflow()), (Some(at(60)), at(60)));
        assert_eq!(table.settle(at(50), &LONGEST), Settled { now: at(50), mended: false });
    }

    #[test]
    fn a_worker_may_lag_for_a_second_even_where_a_bucket_fills_faster() {
        let mut table = SlotTable::default();
        let fast = Pace { longest: Duration::from_millis(1), ..LONGEST };
        table.settle(at(101), &fast);
        let settled = table.settle(at(100), &fast);
        assert_eq!(settled, Settled { now: at(101), mended: false });
    }

    #[test]
    fn a_time_beyond_a_refill_is_brought_into_range() {
        let mut table = table(&[(1, 1_000_000)]);
        assert!(table.settle(at(50), &LONGEST).mended);
        assert_eq!(table.find(1), Some(at(60)));
        assert!(!table.settle(at(50), &LONGEST).mended);
    }

    #[test]
    fn another_rate_keeps_the_tokens_that_a_bucket_holds() {
        let mut table = table(&[(1, 106), (2, 99)]);
        table.put_overflow(at(104));
        table.settle(at(100), &LONGEST);
        let faster = Pace { token: Duration::from_millis(500), ..LONGEST };
        assert!(table.settle(at(100), &faster).mended);
        assert_eq!((table.find(1), table.find(2)), (Some(at(103)), None), "six tokens");
        assert_eq!(table.overflow(), at(102));
        assert!(!table.settle(at(100), &faster).mended);
        assert!(table.settle(at(101), &LONGEST).mended);
        assert_eq!(table.find(1), Some(at(105)), "four tokens");
    }

    #[test]
    fn another_rate_leaves_room_for_tokens_that_are_out() {
        let mut table = table(&[(1, 106)]);
        table.settle(at(100), &LONGEST);
        let ahead = Duration::from_secs(2);
        let faster = Pace { token: Duration::from_millis(500), ahead, ..LONGEST };
        table.settle(at(100), &faster);
        // Four tokens to be spent by 102 are now due at 104.
        assert_eq!(table.find(1), Some(at(104)));
    }

    #[test]
    fn what_was_taken_off_is_told_until_it_means_nothing_any_more() {
        let mut table = table(&[(1, 105)]);
        table.settle(at(100), &LONGEST);
        let mark = table.credit_mark();
        table.credit(Duration::from_secs(1));
        table.credit(Duration::from_secs(2));
        assert_eq!(table.credited_since(mark), Some(Duration::from_secs(3)));
        table.settle(at(50), &LONGEST);
        assert_eq!(table.credited_since(mark), None, "the clock has stepped back");
        assert_eq!(table.credited_since(table.credit_mark()), Some(Duration::ZERO));
    }

    #[test]
    fn an_overflow_that_is_full_again_is_forgotten() {
        let mut table = SlotTable::default();
        table.put_overflow(at(100));
        table.settle(at(100), &LONGEST);
        assert_eq!(table.overflow(), UnixNanos::ZERO);
    }

    #[test]
    fn a_table_is_bounded() {
        let mut table = SlotTable::default();
        for fingerprint in 0..u64::from(MAX_SLOTS) {
            assert!(table.put(fingerprint, at(1)));
        }
        assert!(!table.put(u64::MAX, at(1)));
        assert!(table.put(0, at(2)), "a slot that exists can be changed");
        assert_eq!(decode::<SlotTable>(&encode(&table)), Ok(table));
    }

    #[test]
    fn the_layout_is_pinned() {
        let mut table = table(&[(0x0102, 1)]);
        table.settle(UnixNanos::from_nanos(5), &LONGEST);
        table.put_overflow(UnixNanos::from_nanos(7));
        table.credit(Duration::from_nanos(9));
        let body = [
            5, 0, 0, 0, 0, 0, 0, 0, // written at
            7, 0, 0, 0, 0, 0, 0, 0, // overflow
            0x00, 0xca, 0x9a, 0x3b, 0, 0, 0, 0, // time of a token
            9, 0, 0, 0, 0, 0, 0, 0, // taken off
            1, 0, // count
            2, 1, 0, 0, 0, 0, 0, 0, // fingerprint
            0x00, 0xca, 0x9a, 0x3b, 0, 0, 0, 0, // TAT
        ];
        let bytes = encode(&table);
        assert_eq!(&bytes[..4], b"WR\x06\x02");
        assert_eq!(&bytes[4..bytes.len() - 4], body);
    }

    #[test]
    fn one_fingerprint_twice_or_out_of_order_does_not_decode() {
        for slots in [[(1, 5), (1, 5)], [(2, 5), (1, 5)]] {
            let slots = slots.map(|(fingerprint, secs)| Slot { fingerprint, tat: at(secs) });
            let wrong = SlotTable { slots: slots.to_vec(), ..SlotTable::default() };
            assert_eq!(decode::<SlotTable>(&encode(&wrong)), Err(DecodeError::Field));
        }
    }

    #[test]
    fn a_count_beyond_the_bound_does_not_decode() {
        let slots = (0..=u64::from(MAX_SLOTS)).map(|n| Slot { fingerprint: n, tat: at(1) });
        let mut bytes = encode(&SlotTable { slots: slots.collect(), ..SlotTable::default() });
        bytes[36..38].copy_from_slice(&(MAX_SLOTS + 1).to_le_bytes());
        let end = bytes.len() - 4;
        let checksum = crate::record::checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(decode::<SlotTable>(&bytes), Err(DecodeError::Field));
    }

    #[test]
    fn a_seed_survives_the_round_trip_and_is_no_table() {
        let bytes = encode(&HashSeed([1, u64::MAX]));
        assert_eq!(decode(&bytes), Ok(HashSeed([1, u64::MAX])));
        assert_eq!(decode::<SlotTable>(&bytes), Err(DecodeError::Tag));
    }

    proptest! {
        #[test]
        fn any_table_survives_the_round_trip(
            slots in proptest::collection::btree_map(any::<u64>(), any::<u64>(), 0..64),
            overflow in any::<u64>(),
        ) {
            let mut table = SlotTable::default();
            for (fingerprint, tat) in slots {
                table.put(fingerprint, UnixNanos::from_nanos(tat));
            }
            table.put_overflow(UnixNanos::from_nanos(overflow));
            prop_assert_eq!(decode::<SlotTable>(&encode(&table)), Ok(table));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<SlotTable>(&bytes);
        }
    }
}
