//! Every order, not many of them: three workers and two permits.
//!
//! A worker reads the table, and later writes what the real decision made of it, unless somebody else
//! has written since. It may take a permit, draw another ahead with it, hand out what it has at hand,
//! end a request (which gives a permit back to itself or tells the table), give back what is idle, or
//! die with all that it holds. Between any two of these steps time may pass, as long as those who
//! live have renewed what would run out. The search visits every state that such steps lead to,
//! within bounds on their number, and checks in each that no more requests are in flight than
//! allowed, that the table says no less than what each worker has, and that all permits are there
//! again once all has ended. `make soak` searches within wider bounds.

use super::*;
use core::hash::{Hash, Hasher};
use shared_state::{MemoryStore, encode, read};
use std::collections::BTreeSet;
use std::hash::DefaultHasher;

const LEASE: Duration = Duration::from_secs(8);
const AHEAD: Duration = Duration::from_secs(1);
/// In one tick a lead is over, and in three a lease.
const TICK: Duration = Duration::from_secs(3);
const BEGIN: UnixNanos = UnixNanos::from_secs(100);
const WORKERS: usize = 3;
const KEY: u64 = 7;

/// What happens at most.
struct Bounds {
    max: u32,
    ticks: u32,
    taken: u32,
    deaths: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    Take,
    Draw,
    Tell,
}

#[derive(Clone, Debug)]
struct Worker {
    permits: Permits,
    /// What it is about to write, and when it read which version of the table.
    reading: Option<(Op, UnixNanos, u32)>,
}

#[derive(Clone, Debug)]
struct State {
    max: u32,
    table: Option<PermitTable>,
    version: u32,
    now: UnixNanos,
    workers: [Worker; WORKERS],
    taken: u32,
    ticks: u32,
    deaths: u32,
}

fn scope(max: u32) -> Scope<'static> {
    Scope {
        plugin: "p",
        policy: "in-flight",
        at: 0,
        shards: 1,
        limit: Concurrency { max, lease: LEASE },
        room: 8,
        on_full: OnFull::Share,
        ahead: AHEAD,
    }
}

fn permit() -> Permit {
    Permit::at((0, 0, KEY))
}

impl State {
    fn new(max: u32) -> Self {
        let worker = |owner| {
            let mut permits = Permits::new(owner);
            permits.wish = Wish::GREEDY;
            Worker { permits, reading: None }
        };
        let workers = [worker(1), worker(2), worker(3)];
        let (table, version, now) = (None, 0, BEGIN);
        Self { max, table, version, now, workers, taken: 0, ticks: 0, deaths: 0 }
    }

    fn fingerprint(&self) -> u64 {
        // Which worker is which makes no difference but to the table, where they are in this order.
        let mut hasher = DefaultHasher::new();
        for Worker { permits, reading } in &self.workers {
            let reading = reading.map(|(op, at, version)| (op, at, version == self.version));
            (permits.owner, &permits.rows, reading).hash(&mut hasher);
        }
        self.table.as_ref().map(encode).hash(&mut hasher);
        (self.now, self.taken, self.ticks, self.deaths).hash(&mut hasher);
        hasher.finish()
    }

    /// All states that one step leads to.
    fn next(&self, bounds: &Bounds) -> Vec<Self> {
        let mut all = Vec::new();
        if self.ticks < bounds.ticks && self.may_wait() {
            let (now, ticks) = (self.now.plus(TICK), self.ticks + 1);
            all.push(Self { now, ticks, ..self.clone() });
        }
        for at in 0..WORKERS {
            let mut with = |change: &dyn Fn(&mut Self, &mut Worker)| {
                let mut next = self.clone();
                let mut worker = next.workers[at].clone();
                change(&mut next, &mut worker);
                // What is drawn is not by demand here, and a state is small without.
                worker.permits.demands = Vec::new();
                next.workers[at] = worker;
                all.push(next);
            };
            let Worker { permits, reading } = &self.workers[at];
            if self.deaths < bounds.deaths && (reading.is_some() || !permits.rows.is_empty()) {
                with(&|next, worker| {
                    next.deaths += 1;
                    let owner = u64::from(10 * next.deaths) + worker.permits.owner;
                    worker.permits = Permits { owner, ..State::new(0).workers[0].permits.clone() };
                    worker.reading = None;
                });
            }
            if reading.is_some() {
                with(&Self::write);
                continue;
            }
            let read = |op| {
                move |next: &mut Self, worker: &mut Worker| {
                    worker.reading = Some((op, next.now, next.version));
                }
            };
            let row = permits.rows.first();
            if row.is_some_and(|row| row.count > 0) {
                with(&|next, worker| {
                    if worker.permits.released(&permit()).is_some() {
                        read(Op::Tell)(next, worker);
                    }
                });
            }
            if row.is_some() && permits.is_due(0, 1, &scope(self.max), self.now) {
                with(&read(Op::Tell));
            }
            if self.taken == bounds.taken {
                continue;
            }
            if permits.is_at_hand(&scope(self.max), KEY, self.now) {
                with(&|next, worker| {
                    let (store, scope) = (MemoryStore::default(), scope(next.max));
                    let taken = worker.permits.take(&store, &scope, KEY, next.now);
                    assert!(matches!(taken.unwrap().value, Taken::Granted { .. }));
                    next.taken += 1;
                });
            } else {
                with(&read(Op::Take));
                with(&read(Op::Draw));
            }
        }
        all
    }

    /// Whether those who live have renewed what would run out, and written what they have read.
    fn may_wait(&self) -> bool {
        let then = self.now.plus(TICK);
        self.workers.iter().all(|Worker { permits, reading }| {
            let renewed = permits.rows.iter().all(|row| row.expires_at > then);
            renewed && reading.is_none_or(|(_, at, _)| at.plus(LEASE) > then)
        })
    }

    /// Writes what was decided on, if nobody else has written since.
    fn write(&mut self, worker: &mut Worker) {
        let Some((op, now, version)) = worker.reading.take() else { return };
        let (permits, scope) = (&mut worker.permits, scope(self.max));
        if op == Op::Tell {
            let told: Vec<_> = permits.rows.iter().map(|row| row.told(permits.wish, now)).collect();
            let told = tell(self.table.clone(), permits.owner, &told, 0, &scope, now);
            let Transition::Store(table, heard) = told else { panic!("nothing to tell") };
            if version != self.version {
                return;
            }
            self.store(table);
            return permits.heard(0, permits.rows.len(), &heard);
        }
        if version != self.version {
            return;
        }
        let mut ask = permits.ask(&scope, KEY, now);
        ask.wish = permits.wish.of(u32::from(op == Op::Draw));
        let answer = match take(self.table.clone(), &ask) {
            Transition::Keep(answer) => answer,
            Transition::Store(table, answer) => {
                self.store(table);
                answer
            }
        };
        if let Taken::Granted { .. } = permits.answered(&ask, answer) {
            self.taken += 1;
        }
    }

    fn store(&mut self, table: PermitTable) {
        self.table = Some(table);
        self.version += 1;
    }

    fn in_flight(&self) -> u32 {
        self.workers.iter().map(|worker| worker.permits.in_flight()).sum()
    }

    fn check(&self) {
        assert!(self.in_flight() <= self.max, "{self:#?}");
        let table = self.table.clone().unwrap_or_default();
        for Worker { permits, .. } in &self.workers {
            let told = table.held_by(KEY, permits.owner);
            let at_hand = permits.rows.first().filter(|row| row.has_one_at_hand(self.now));
            let own = at_hand.map_or(permits.in_flight(), |row| row.held);
            assert!(told >= own, "{self:#?}");
        }
    }

    /// Ends all, and waits until the permits of the dead are back: then all are there, and no more.
    fn check_the_end(&self) {
        let (store, scope) = (MemoryStore::default(), scope(self.max));
        let key = Permits::key(&scope, KEY);
        if let Some(table) = &self.table {
            update(&store, &key, |_| Transition::Store(table.clone(), ())).unwrap();
        }
        let mut now = self.now;
        for mut worker in self.workers.clone() {
            while worker.permits.in_flight() > 0 {
                worker.permits.release(&store, &scope, &permit(), now);
            }
            now = now.plus(AHEAD);
            worker.permits.tick(&store, |_| Some(scope), now);
            assert!(worker.permits.rows.is_empty(), "{self:#?}");
        }
        if self.deaths == 0 {
            let left = read(&store, &key).unwrap().unwrap_or_default();
            assert!(left.is_empty(), "{self:#?}");
        }
        let mut last = Permits::new(100);
        let taken = (0..=self.max)
            .map(|_| last.take(&store, &scope, KEY, now.plus(LEASE)).unwrap().value)
            .filter(|taken| matches!(taken, Taken::Granted { .. }));
        assert_eq!(taken.count() as u32, self.max, "{self:#?}");
    }
}

fn search(bounds: &Bounds) -> (usize, usize, usize) {
    let begin = State::new(bounds.max);
    let mut seen = BTreeSet::from([begin.fingerprint()]);
    let (mut left, mut full, mut ahead) = (vec![begin], 0, 0);
    while let Some(state) = left.pop() {
        state.check();
        state.check_the_end();
        full += usize::from(state.in_flight() == state.max);
        let at_hand = |worker: &Worker| worker.permits.rows.iter().any(|row| row.idle() > 0);
        ahead += usize::from(state.workers.iter().any(at_hand));
        let fresh = |next: &State| seen.insert(next.fingerprint());
        left.extend(state.next(bounds).into_iter().filter(fresh));
    }
    (seen.len(), full, ahead)
}

#[test]
fn no_order_of_three_workers_makes_a_permit() {
    let large = std::env::var("WEIR_MODEL").as_deref() == Ok("large");
    let bounds = match large {
        true => vec![(2, 1, 4, 1), (2, 2, 3, 1)],
        false => vec![(2, 1, 2, 0), (2, 0, 2, 1), (2, 0, 3, 0)],
    };
    for (max, ticks, taken, deaths) in bounds {
        let (states, full, ahead) = search(&Bounds { max, ticks, taken, deaths });
        println!("{max} permits, {taken} taken, {ticks} ticks, {deaths} deaths: {states} states,");
        println!("  in {full} all in flight, in {ahead} some idle");
        assert!(states > 1_000 && full > 100 && ahead > 500, "{states}, {full}, {ahead}");
    }
}
