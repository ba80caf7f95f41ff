use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn bucket() -> Gcra {
    Gcra::new(2, 1, Duration::from_secs(1)).unwrap()
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(secs)
}

fn terms(room: usize, on_full: OnFull) -> Terms {
    let (longest_hold, longest_lease) = (Duration::ZERO, Duration::ZERO);
    Terms { room, on_full, longest_hold, longest_lease }
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
        let terms = terms(room, on_full);
        let (bucket, wish, unspent) = (&bucket(), None, None);
        let ask = Ask { fingerprint, bucket, cost: 1, now, at: now, wish, unspent, terms };
        match spend(self.table.clone(), &ask) {
            Transition::Keep(answer) => answer,
            Transition::Store(table, answer) => {
                self.table = Some(table);
                self.stored += 1;
                answer
            }
        }
    }

    fn give_back(&mut self, fingerprint: u64, receipt: &Receipt, now: UnixNanos) -> bool {
        let terms = terms(self.room, self.on_full);
        let (bucket, tokens) = (&bucket(), 1);
        let fix = Correction { fingerprint, bucket, receipt, tokens, now, terms };
        match give_back(self.table.clone(), &fix) {
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
        Answer::Admitted(grant) => grant.receipt,
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
    assert!(shard.give_back(1, &receipt, at(100)));
    assert!(admitted(shard.ask(1, at(100))));
    assert!(!admitted(shard.ask(1, at(100))));
}

#[test]
fn what_others_have_spent_on_is_given_back_as_far_as_it_is_not_refilled() {
    for (millis, whole, full_at) in [(0, true, 1_000), (500, false, 1_500), (1_000, false, 2_000)] {
        let mut shard = Shard::new(4, OnFull::Share);
        let first = receipt(shard.ask(1, at(100)));
        shard.ask(1, at(100));
        let from = |millis| at(100).plus(Duration::from_millis(millis));
        assert_eq!(shard.give_back(1, &first, from(millis)), whole);
        assert_eq!(shard.table.unwrap().find(1), Some(from(full_at)));
    }
}

#[test]
fn a_part_of_a_draw_does_not_take_a_later_charge_for_the_other_part() {
    let millis = |millis| at(100).plus(Duration::from_millis(millis));
    let bucket = &Gcra::new(40, 1, Duration::from_millis(20)).unwrap();
    let terms = terms(4, OnFull::Share);
    let (fingerprint, now) = (7, at(100));
    let wish = Some(Wish { tokens: 1, time: Duration::from_millis(10), keep: 0 });
    let ask = Ask { fingerprint, bucket, cost: 4, now, at: now, wish, unspent: None, terms };
    let Transition::Store(table, Answer::Admitted(drawn)) = spend(None, &ask) else { panic!() };
    // What was not spent goes back, and a token is charged instead: the TAT is what it was.
    let unspent = drawn.lease.map(|lease| lease.receipt_for(lease.left));
    let now = millis(50);
    let ask = Ask { cost: 1, now, at: now, wish: None, unspent, ..ask };
    let Transition::Store(table, Answer::Admitted(_)) = spend(Some(table), &ask) else { panic!() };
    assert_eq!(table.find(fingerprint), Some(millis(110)));
    let (receipt, tokens) = (&drawn.receipt, 4);
    let fix = Correction { fingerprint, bucket, receipt, tokens, now, terms };
    let Transition::Store(table, _) = give_back(Some(table), &fix) else { panic!() };
    assert_eq!(table.find(fingerprint), Some(millis(70)), "one token, spent now");
}

#[test]
fn a_shared_token_is_given_back_to_all() {
    let mut shard = Shard::new(1, OnFull::Share);
    shard.ask(1, at(100));
    shard.ask(2, at(100));
    let receipt = receipt(shard.ask(3, at(100)));
    assert!(shard.give_back(3, &receipt, at(100)));
    assert!(admitted(shard.ask(4, at(100))));
}

#[test]
fn nothing_is_given_back_to_a_table_that_is_gone() {
    let mut shard = Shard::new(4, OnFull::Share);
    let receipt = receipt(shard.ask(1, at(100)));
    shard.table = None;
    assert!(!shard.give_back(1, &receipt, at(100)));
    assert_eq!(shard.table, None);
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
            let now = UnixNanos::from_millis(millis);
            if let Answer::Admitted(grant) = shard.ask(key, now) {
                if returned && shard.give_back(key, &grant.receipt, now) {
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
