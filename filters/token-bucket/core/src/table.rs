//! Spending from a table of buckets, and giving back.
//!
//! Both are decisions on one record, for the compare-and-swap loop of `shared_state::update`: they
//! may run again on what another worker left, and have no effect but their result.

use crate::gcra::LATEST;
use crate::{Decision, Gcra, Level, OnFull};
use core::time::Duration;
use shared_state::{Settled, SlotTable, Transition, UnixNanos};

/// What is asked of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// Which bucket.
    pub(crate) fingerprint: u64,
    /// Its rate and burst.
    pub(crate) bucket: &'a Gcra,
    /// Tokens wanted.
    pub(crate) cost: u32,
    /// The moment.
    pub(crate) now: UnixNanos,
    /// Slots that may be in use.
    pub(crate) room: usize,
    /// When there is no free one.
    pub(crate) on_full: OnFull,
}

/// What a table answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The tokens are spent.
    Admitted(Receipt, Level),
    /// The key found no slot, and such keys pass uncounted.
    Uncounted,
    /// The tokens are not there. They are after this wait, if nobody else spends.
    Refused(Duration, Place),
    /// The key found no slot, and such keys are refused; one comes free after this wait.
    Full(Duration),
    /// The bucket never holds so many.
    TooCostly,
}

/// Which bucket of the table answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The key's own.
    Slot,
    /// The one that all keys without a slot share.
    Overflow,
}

/// Proof of a spending, to give it back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Which bucket.
    pub(crate) place: Place,
    /// Its TAT before.
    before: UnixNanos,
    /// Its TAT after.
    after: UnixNanos,
}

/// Spends, if the tokens are there. A refusal changes nothing, and therefore stores nothing, unless
/// the clock has stepped back.
pub(crate) fn spend(prior: Option<SlotTable>, ask: &Ask<'_>) -> Transition<SlotTable, Answer> {
    let mut table = prior.unwrap_or_default();
    let Settled { now, mended } = table.settle(ask.now.min(LATEST), ask.bucket.refill_time());
    // The table's time may be ahead of the asker's, who is told how long to wait by its own.
    let from_asked = |wait: Duration| now.plus(wait).since(ask.now);
    let (place, before) = match table.find(ask.fingerprint) {
        Some(tat) => (Place::Slot, tat),
        // Forgotten, so full; but it may have spent from the overflow while that was in use.
        None if table.len() < ask.room => (Place::Slot, table.overflow()),
        None => match ask.on_full {
            OnFull::Share => (Place::Overflow, table.overflow()),
            OnFull::Allow => return keep_or_store(mended, table, Answer::Uncounted),
            OnFull::Deny => {
                let wait = table.next_free_at().map_or(Duration::ZERO, |at| at.since(now));
                return keep_or_store(mended, table, Answer::Full(from_asked(wait)));
            }
        },
    };
    let (after, level) = match ask.bucket.spend(before, now, ask.cost) {
        Decision::Admit(after, level) => (after, level),
        Decision::Refuse(wait) => {
            return keep_or_store(mended, table, Answer::Refused(from_asked(wait), place));
        }
        Decision::TooCostly => return keep_or_store(mended, table, Answer::TooCostly),
    };
    match place {
        Place::Slot => {
            // There is room: it was counted above, and `room` is at most the table's bound.
            let _ = table.put(ask.fingerprint, after);
        }
        Place::Overflow => table.put_overflow(after),
    }
    Transition::Store(table, Answer::Admitted(Receipt { place, before, after }, level))
}

/// Gives back what `receipt` says was spent, and tells whether that was possible.
///
/// It is if nobody has spent from the bucket since: then the time before is restored, which is
/// exact at any moment. If somebody has, the token stays spent. To subtract its price instead would
/// be too much by whatever a full bucket had missed meanwhile, and a limit that is exceeded by an
/// instant is exceeded.
pub(crate) fn give_back(
    prior: Option<SlotTable>,
    fingerprint: u64,
    receipt: &Receipt,
) -> Transition<SlotTable, bool> {
    let Some(mut table) = prior else { return Transition::Keep(false) };
    let untouched = match receipt.place {
        Place::Slot => table.find(fingerprint) == Some(receipt.after),
        Place::Overflow => table.overflow() == receipt.after,
    };
    if !untouched {
        return Transition::Keep(false);
    }
    match receipt.place {
        Place::Slot => {
            let _ = table.put(fingerprint, receipt.before);
        }
        Place::Overflow => table.put_overflow(receipt.before),
    }
    Transition::Store(table, true)
}

fn keep_or_store(store: bool, table: SlotTable, answer: Answer) -> Transition<SlotTable, Answer> {
    if store { Transition::Store(table, answer) } else { Transition::Keep(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn bucket() -> Gcra {
        Gcra::new(2, 1, Duration::from_secs(1)).unwrap()
    }

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    /// A table, and the questions of a test.
    struct Shard {
        table: Option<SlotTable>,
        room: usize,
        on_full: OnFull,
        stored: u32,
    }

    impl Shard {
        fn new(room: usize, on_full: OnFull) -> Self {
            Self { table: None, room, on_full, stored: 0 }
        }

        fn ask(&mut self, fingerprint: u64, now: UnixNanos) -> Answer {
            let (room, on_full) = (self.room, self.on_full);
            let ask = Ask { fingerprint, bucket: &bucket(), cost: 1, now, room, on_full };
            match spend(self.table.clone(), &ask) {
                Transition::Keep(answer) => answer,
                Transition::Store(table, answer) => {
                    self.table = Some(table);
                    self.stored += 1;
                    answer
                }
            }
        }

        fn give_back(&mut self, fingerprint: u64, receipt: &Receipt) -> bool {
            match give_back(self.table.clone(), fingerprint, receipt) {
                Transition::Keep(done) => done,
                Transition::Store(table, done) => {
                    self.table = Some(table);
                    done
                }
            }
        }
    }

    fn admitted(answer: Answer) -> bool {
        matches!(answer, Answer::Admitted(..))
    }

    fn receipt(answer: Answer) -> Receipt {
        match answer {
            Answer::Admitted(receipt, _) => receipt,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_key_has_its_own_burst() {
        let mut shard = Shard::new(4, OnFull::Share);
        let taken: Vec<_> = [1, 1, 1, 2].map(|key| admitted(shard.ask(key, at(100)))).into();
        assert_eq!(taken, [true, true, false, true]);
    }

    #[test]
    fn a_refusal_stores_nothing() {
        let mut shard = Shard::new(4, OnFull::Share);
        for _ in 0..5 {
            shard.ask(1, at(100));
        }
        assert_eq!(shard.stored, 2);
    }

    #[test]
    fn a_refusal_after_the_clock_stepped_back_stores_once_and_the_key_comes_back_in_time() {
        let mut shard = Shard::new(4, OnFull::Share);
        shard.ask(1, at(1_000));
        shard.ask(1, at(1_000));
        let second = Duration::from_secs(1);
        assert_eq!(shard.ask(1, at(10)), Answer::Refused(second, Place::Slot));
        assert_eq!(shard.ask(1, at(10)), Answer::Refused(second, Place::Slot));
        assert_eq!(shard.stored, 3);
        assert!(admitted(shard.ask(1, at(11))), "and not in the year the clock came from");
    }

    #[test]
    fn keys_without_a_slot_share_one_bucket() {
        let mut shard = Shard::new(4, OnFull::Share);
        for key in 1..=4 {
            shard.ask(key, at(100));
            shard.ask(key, at(100));
        }
        assert_eq!(receipt(shard.ask(5, at(100))).place, Place::Overflow);
        assert!(admitted(shard.ask(6, at(100))));
        let wait = Duration::from_secs(1);
        assert_eq!(shard.ask(7, at(100)), Answer::Refused(wait, Place::Overflow));
        assert!(!admitted(shard.ask(1, at(100))), "nobody's live bucket was given away");
    }

    #[test]
    fn a_slot_that_comes_free_starts_from_what_was_shared() {
        let mut shard = Shard::new(1, OnFull::Share);
        shard.ask(1, at(100)); // Until 101.
        shard.ask(2, at(100));
        shard.ask(2, at(100)); // The overflow is empty until 101, full at 102.
        let taken: Vec<_> = (0..3).map(|_| admitted(shard.ask(2, at(101)))).collect();
        assert_eq!(taken, [true, false, false], "one token since, not a fresh burst");
    }

    #[test]
    fn a_full_table_refuses_or_lets_pass_where_so_configured() {
        let mut deny = Shard::new(1, OnFull::Deny);
        deny.ask(1, at(100));
        assert_eq!(deny.ask(2, at(100)), Answer::Full(Duration::from_secs(1)));
        assert!(admitted(deny.ask(2, at(101))));
        let mut allow = Shard::new(1, OnFull::Allow);
        allow.ask(1, at(100));
        assert_eq!(allow.ask(2, at(100)), Answer::Uncounted);
        assert_eq!((deny.stored, allow.stored), (2, 1));
    }

    #[test]
    fn a_table_made_smaller_keeps_its_buckets() {
        let mut shard = Shard::new(4, OnFull::Deny);
        for key in 1..=4 {
            shard.ask(key, at(100));
        }
        shard.room = 1;
        assert!(admitted(shard.ask(4, at(100))));
        assert!(!admitted(shard.ask(5, at(100))));
    }

    #[test]
    fn what_nobody_touched_is_given_back_whole() {
        let mut shard = Shard::new(4, OnFull::Share);
        shard.ask(1, at(100));
        let receipt = receipt(shard.ask(1, at(100)));
        assert!(!admitted(shard.ask(1, at(100))));
        assert!(shard.give_back(1, &receipt));
        assert!(admitted(shard.ask(1, at(100))));
        assert!(!admitted(shard.ask(1, at(100))));
    }

    #[test]
    fn what_others_have_spent_on_is_not_given_back() {
        let mut shard = Shard::new(4, OnFull::Share);
        let first = receipt(shard.ask(1, at(100)));
        shard.ask(1, at(100));
        assert!(!shard.give_back(1, &first));
        assert!(!admitted(shard.ask(1, at(100))));
    }

    #[test]
    fn a_shared_token_is_given_back_to_all() {
        let mut shard = Shard::new(1, OnFull::Share);
        shard.ask(1, at(100));
        shard.ask(2, at(100));
        let receipt = receipt(shard.ask(3, at(100)));
        assert!(shard.give_back(3, &receipt));
        assert!(admitted(shard.ask(4, at(100))));
    }

    #[test]
    fn nothing_is_given_back_to_a_table_that_is_gone() {
        let receipt = Receipt { place: Place::Slot, before: at(100), after: at(101) };
        assert_eq!(give_back(None, 1, &receipt), Transition::Keep(false));
    }

    #[test]
    fn a_worker_that_read_the_clock_long_ago_finds_no_token_that_was_given_since() {
        let mut shard = Shard::new(4, OnFull::Share);
        shard.ask(1, at(100));
        shard.ask(1, at(100));
        shard.ask(2, at(102)); // Bucket 1 is full again, and forgotten.
        let late = [at(100), at(100), at(100), at(102)].map(|now| admitted(shard.ask(1, now)));
        assert_eq!(late, [true, true, false, false], "two tokens at 102, whoever asks");
    }

    proptest! {
        /// Full tables, shared buckets, slots that come free, tokens that are given back: no key
        /// passes more often than its burst and the tokens of the time.
        #[test]
        fn no_key_ever_passes_more_often_than_its_own_bucket_would_let_it(
            steps in proptest::collection::vec((0u64..8, 0u64..1_500, any::<bool>()), 1..200),
            room in 1usize..6,
        ) {
            let mut shard = Shard::new(room, OnFull::Share);
            let mut passes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            let mut millis = 1_000_000;
            for (key, step, returned) in steps {
                millis += step;
                if let Answer::Admitted(receipt, _) = shard.ask(key, UnixNanos::from_millis(millis)) {
                    if returned && shard.give_back(key, &receipt) {
                        continue;
                    }
                    passes.entry(key).or_default().push(millis);
                }
            }
            for times in passes.values() {
                for (from, start) in times.iter().enumerate() {
                    for (to, end) in times.iter().enumerate().skip(from) {
                        prop_assert!((to - from + 1) as u64 <= 2 + (end - start) / 1_000);
                    }
                }
            }
        }
    }
}
