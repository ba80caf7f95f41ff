//! Every order, not many of them: three workers and a bucket of four tokens.
//!
//! A worker reads the table, and later writes what the real decision made of it, unless somebody else
//! has written since. It may take a token, draw two (one for now, one to be spent until the lease is
//! over), spend what it has drawn, give back what it took, or die with all that it holds. Between any
//! two of these steps time may pass. The search visits every state that such steps lead to, within
//! bounds on their number, and checks in each that a bucket in exact arithmetic holds what was spent,
//! and that the record says no less than that bucket. `make soak` searches within wider bounds.

use super::*;
use core::hash::{Hash, Hasher};
use shared_state::encode;
use std::collections::BTreeSet;
use std::hash::DefaultHasher;

const TOKENS: u32 = 4;
const TOKEN: Duration = Duration::from_secs(1);
/// Half a token.
const TICK: Duration = Duration::from_millis(500);
const BEGIN: UnixNanos = UnixNanos::from_secs(100);
const WORKERS: usize = 3;

/// What happens at most.
struct Bounds {
    ticks: u32,
    admitted: usize,
    deaths: u32,
    returns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    Take,
    Draw,
    Return(Receipt),
}

#[derive(Clone, Debug, Default, Hash)]
struct Worker {
    /// What it is about to write, and when it read which version of the table.
    reading: Option<(Op, UnixNanos, u32)>,
    lease: Option<Lease>,
    /// Its last request, and when that was spent.
    last: Option<(Receipt, UnixNanos)>,
}

#[derive(Clone, Debug)]
struct State {
    table: Option<SlotTable>,
    version: u32,
    now: UnixNanos,
    workers: [Worker; WORKERS],
    /// When tokens were spent, in order.
    spent: Vec<UnixNanos>,
    admitted: usize,
    ticks: u32,
    deaths: u32,
    returns: u32,
}

impl State {
    fn fingerprint(&self) -> u64 {
        let hash_of = |worker: &Worker| {
            let mut hasher = DefaultHasher::new();
            worker.hash(&mut hasher);
            // Versions count only as whether the table is still the one that was read.
            worker.reading.map(|(_, _, version)| version == self.version).hash(&mut hasher);
            hasher.finish()
        };
        // Which worker is which makes no difference.
        let mut workers: Vec<u64> = self.workers.iter().map(hash_of).collect();
        workers.sort_unstable();
        let mut hasher = DefaultHasher::new();
        workers.hash(&mut hasher);
        self.table.as_ref().map(encode).hash(&mut hasher);
        (self.now, &self.spent, self.admitted, self.ticks, self.deaths, self.returns)
            .hash(&mut hasher);
        hasher.finish()
    }

    /// All states that one step leads to.
    fn next(&self, bounds: &Bounds) -> Vec<Self> {
        let mut all = Vec::new();
        if self.ticks < bounds.ticks {
            let (now, ticks) = (self.now.plus(TICK), self.ticks + 1);
            all.push(Self { now, ticks, ..self.clone() });
        }
        for at in 0..WORKERS {
            let with = |change: &dyn Fn(&mut Self, usize)| {
                let mut next = self.clone();
                change(&mut next, at);
                next
            };
            let worker = &self.workers[at];
            if self.deaths < bounds.deaths && (worker.lease.is_some() || worker.reading.is_some()) {
                all.push(with(&|next, at| {
                    next.workers[at] = Worker::default();
                    next.deaths += 1;
                }));
            }
            if worker.reading.is_some() {
                all.push(with(&Self::write));
                continue;
            }
            if let Some((receipt, when)) = worker.last.filter(|_| self.returns < bounds.returns) {
                all.push(with(&|next, at| {
                    let place = next.spent.iter().position(|spent| *spent == when).unwrap();
                    next.spent.remove(place);
                    next.workers[at].last = None;
                    next.returns += 1;
                    next.workers[at].reading = Some((Op::Return(receipt), next.now, next.version));
                }));
            }
            if self.admitted == bounds.admitted {
                continue;
            }
            if worker.lease.is_some_and(|lease| lease.left > 0 && lease.is_live(self.now)) {
                all.push(with(&|next, at| {
                    let lease = next.workers[at].lease.as_mut().unwrap();
                    lease.left -= 1;
                    let receipt = lease.receipt_for(1);
                    next.admit(at, receipt, next.now);
                }));
            }
            for op in [Op::Take, Op::Draw] {
                all.push(with(&|next, at| {
                    next.workers[at].reading = Some((op, next.now, next.version));
                }));
            }
        }
        all
    }

    /// Writes what was decided on, if nobody else has written since.
    fn write(&mut self, at: usize) {
        let Some((op, now, version)) = self.workers[at].reading.take() else { return };
        if version != self.version {
            return;
        }
        let bucket = Gcra::new(TOKENS, 1, TOKEN).unwrap();
        let (longest_hold, longest_lease) = (Duration::ZERO, TOKEN);
        let terms = Terms { room: 4, on_full: OnFull::Share, longest_hold, longest_lease };
        let (fingerprint, bucket) = (7, &bucket);
        if let Op::Return(receipt) = op {
            let (receipt, tokens) = (&receipt, 1);
            let fix = Correction { fingerprint, bucket, receipt, tokens, now, terms };
            if let Transition::Store(table, _) = give_back(self.table.clone(), &fix) {
                self.store(table);
            }
            return;
        }
        let wish = (op == Op::Draw).then_some(Wish { tokens: 1, time: TOKEN, keep: 0 });
        let unspent = self.workers[at].lease.filter(|lease| lease.left > 0);
        let unspent = unspent.map(|lease| lease.receipt_for(lease.left));
        let ask = Ask { fingerprint, bucket, cost: 1, now, at: now, wish, unspent, terms };
        let (table, answer) = match spend(self.table.clone(), &ask) {
            Transition::Keep(answer) => (None, answer),
            Transition::Store(table, answer) => (Some(table), answer),
        };
        if let Some(table) = table {
            self.store(table);
        }
        self.workers[at].lease = None;
        if let Answer::Admitted(grant) = answer {
            self.workers[at].lease = grant.lease;
            let when = grant.lease.map_or(grant.receipt.at, |lease| lease.from);
            self.admit(at, grant.receipt, when);
        }
    }

    fn store(&mut self, table: SlotTable) {
        self.table = Some(table);
        self.version += 1;
    }

    fn admit(&mut self, at: usize, receipt: Receipt, when: UnixNanos) {
        self.workers[at].last = Some((receipt, when));
        self.admitted += 1;
        let place = self.spent.partition_point(|other| *other <= when);
        self.spent.insert(place, when);
        let mut full_at = UnixNanos::ZERO;
        for spent in &self.spent {
            full_at = full_at.max(*spent).plus(TOKEN);
            assert!(full_at <= spent.plus(TOKEN * TOKENS), "{self:#?}");
        }
        let recorded = self.table.as_ref().and_then(|table| table.find(7)).unwrap_or_default();
        assert!(full_at <= recorded.max(self.now), "{full_at:?} {self:#?}");
    }
}

#[test]
fn no_order_of_three_workers_makes_a_token() {
    let bounds = match std::env::var("WEIR_MODEL").as_deref() {
        Ok("large") => Bounds { ticks: 1, admitted: 5, deaths: 1, returns: 1 },
        _ => Bounds { ticks: 1, admitted: 5, deaths: 0, returns: 0 },
    };
    let begin = State {
        table: None,
        version: 0,
        now: BEGIN,
        workers: Default::default(),
        spent: Vec::new(),
        admitted: 0,
        ticks: 0,
        deaths: 0,
        returns: 0,
    };
    let (mut seen, mut left, mut full) = (BTreeSet::from([begin.fingerprint()]), vec![begin], 0);
    while let Some(state) = left.pop() {
        full += usize::from(state.spent.len() >= TOKENS as usize);
        let fresh = |next: &State| seen.insert(next.fingerprint());
        left.extend(state.next(&bounds).into_iter().filter(fresh));
    }
    println!("{} states, {full} with as many spent as there are tokens", seen.len());
    assert!(seen.len() > 10_000 && full > 1_000);
}
