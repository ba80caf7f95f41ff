//! The limiter as it is, under orders that nobody would think of, against exact books.
//!
//! Several workers share one store. Whenever one of them reads or writes, others may act in between:
//! ask, settle, give back, die, or let time pass. Each admitted request is written down with the
//! moment at which its tokens were spent and what it cost in the end. The books are then a bucket in
//! exact arithmetic, replayed from the first spending on, that knows everything; whatever the workers
//! did, it must never be asked for more than it holds, nor may the record say less than it does.
//!
//! `WEIR_SOAK_STEPS` says how many steps; `make soak` runs a hundred million.

use super::*;
use crate::admission::Held;
use crate::testing::{Request, config};
use crate::{Limit, Settlement};
use shared_state::{Cas, Expected, SetError, SlotTable, StoreError, Versioned, decode};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Steps of one world, before another with other limits begins.
const EPISODE: u64 = 300;

/// Where the table of the policy without a key is.
const ALL: &str = "weir/2/bucket/token_bucket/all/0";

/// Tokens that were spent for one request at a moment.
#[derive(Clone, Copy, Debug)]
struct Spending {
    request: u64,
    at: u64,
    tokens: u32,
    /// Charged whether they were there or not.
    owed: bool,
}

/// One bucket's exact history.
#[derive(Debug, Default)]
struct Book(Vec<Spending>);

impl Book {
    fn add(&mut self, spending: Spending) {
        let place = self.0.partition_point(|other| other.at <= spending.at);
        self.0.insert(place, spending);
    }

    /// When the bucket is full, by what was spent and when. Panics if it did not hold what was spent;
    /// debts aside, which may have come a moment after what they would have refused.
    fn full_at(&self, token_ns: u64, max: u64) -> u64 {
        let (mut full_at, mut without_debts) = (0, 0);
        for spending in self.0.iter().filter(|spending| spending.tokens > 0) {
            let price = u64::from(spending.tokens) * token_ns;
            full_at = spending.at.max(full_at) + price;
            if !spending.owed {
                without_debts = spending.at.max(without_debts) + price;
                let holds = without_debts <= spending.at + max * token_ns;
                assert!(holds, "{spending:?} of {self:?}");
            }
        }
        full_at
    }
}

/// A request under way.
struct Open {
    worker: usize,
    request: u64,
    client: u64,
    costs: [u32; 2],
    admission: Admission,
}

struct World {
    values: RefCell<BTreeMap<String, Versioned>>,
    workers: Vec<RefCell<Limiter>>,
    json: String,
    limits: [Limit; 2],
    open: RefCell<Vec<Open>>,
    books: RefCell<BTreeMap<(usize, u64), Book>>,
    /// When a worker's last write to a table says that it was made.
    written: RefCell<BTreeMap<(usize, String), u64>>,
    random: Cell<u64>,
    clock: Cell<u64>,
    depth: Cell<u32>,
    steps: Cell<u64>,
    requests: Cell<u64>,
    admitted: Cell<u64>,
    local: Cell<u64>,
}

struct Seat<'a>(&'a World, usize);

impl SharedStore for Seat<'_> {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.0.others_act();
        Ok(self.0.values.borrow().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError> {
        self.0.others_act();
        let mut values = self.0.values.borrow_mut();
        let present = values.get(key).map(|found| found.cas);
        let holds = match (expected, present) {
            (Expected::Any, _) | (_, None) => true,
            (Expected::Absent, Some(_)) => false,
            (Expected::Version(cas), Some(found)) => cas == found,
        };
        if !holds {
            return Err(SetError::Conflict);
        }
        let cas = Cas(present.map_or(0, |cas| cas.0) + 1);
        values.insert(key.to_owned(), Versioned { bytes: value.to_vec(), cas });
        self.0.written.borrow_mut().insert((self.1, key.to_owned()), written_at(value));
        Ok(())
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let draw = |below| draw(&random, below);
        let policy = |name: &str, key: &str| {
            let token_us = [1_000, 3_000, 20_000, 250_000][draw(4) as usize];
            let max = [1, 5, 40, 400][draw(4) as usize];
            format!(
                r#"{{"name":"{name}","key":"{key}","cost":{{"header":"x-cost","min":0,"max":{max}}},
                "settle":{{"response_header":"x","max_debt":1000000}},
                "gcra":{{"rate":1,"per":"0.{token_us:06}s","burst":{max}}}}}"#
            )
        };
        let lease = ["0s", "0.05s", "0.2s"][draw(3) as usize];
        let json = format!(
            r#"{{"store":{{"shards":1,"slots_per_shard":4,"lease_time":"{lease}"}},
            "policies":[{},{}]}}"#,
            policy("all", "none"),
            policy("each", "header:x-client")
        );
        let mut limits = [0, 1].map(|at| config(&json).policies[at].limit.clone());
        for limit in &mut limits {
            let wait = Duration::from_millis([0, 0, 30, 400][draw(4) as usize]);
            if let Limit::Bucket(bucket) = limit {
                *bucket = bucket.with_max_wait(wait).unwrap();
            }
        }
        let workers = 1 + draw(4) as usize;
        let world = Self {
            values: RefCell::default(),
            workers: Vec::new(),
            json,
            limits,
            open: RefCell::default(),
            books: RefCell::default(),
            written: RefCell::default(),
            clock: Cell::new(1_000_000_000_000),
            depth: Cell::new(0),
            steps: Cell::new(0),
            requests: Cell::new(0),
            admitted: Cell::new(0),
            local: Cell::new(0),
            random,
        };
        let workers = (0..workers).map(|_| RefCell::new(world.worker())).collect();
        Self { workers, ..world }
    }

    fn worker(&self) -> Limiter {
        let mut config = config(&self.json);
        for (policy, limit) in config.policies.iter_mut().zip(self.limits.clone()) {
            policy.limit = limit;
        }
        Limiter::new(config, HashSeed([3, 4]))
    }

    fn draw(&self, below: u64) -> u64 {
        draw(&self.random, below)
    }

    /// Between a worker's calls anything may happen.
    fn others_act(&self) {
        if self.depth.get() < 3 && self.draw(6) == 0 {
            self.depth.set(self.depth.get() + 1);
            self.step();
            self.depth.set(self.depth.get() - 1);
        }
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
        match self.draw(20) {
            0..=12 => self.ask(),
            13..=15 => self.end(),
            16 if self.draw(5) == 0 => self.die(),
            17 if self.depth.get() == 0 => self.pass(400_000_000),
            _ => self.pass(3_000_000),
        }
    }

    fn pass(&self, longest: u64) {
        self.clock.set(self.clock.get() + self.draw(longest));
    }

    fn die(&self) {
        let worker = self.draw(self.workers.len() as u64) as usize;
        if let Ok(mut limiter) = self.workers[worker].try_borrow_mut() {
            *limiter = self.worker();
            // Its streams are gone with it, and what they held is never given back.
            self.open.borrow_mut().retain(|open| open.worker != worker);
        }
    }

    fn ask(&self) {
        let worker = self.draw(self.workers.len() as u64) as usize;
        let Ok(mut limiter) = self.workers[worker].try_borrow_mut() else { return };
        let client = self.draw(6);
        let cost = if self.draw(3) == 0 { self.draw(6) } else { 1 };
        let request = Request::default()
            .with("x-client", &client.to_string())
            .with("x-cost", &cost.to_string());
        let now = self.clock.get();
        self.written.borrow_mut().retain(|(who, _), _| *who != worker);
        let verdict = limiter.decide(&Seat(self, worker), &request, UnixNanos::from_nanos(now));
        assert_eq!(verdict.refusal.is_some(), verdict.admission.held.is_empty());
        if verdict.refusal.is_some() {
            return;
        }
        let id = self.requests.get();
        self.requests.set(id + 1);
        self.admitted.set(self.admitted.get() + 1);
        let mut costs = [0; 2];
        for (target, held) in &verdict.admission.held {
            let Held::Tokens(receipt) = held else { panic!("{held:?}") };
            let table = ["all", "each"][target.policy];
            let table = format!("weir/2/bucket/token_bucket/{table}/0");
            let written = self.written.borrow().get(&(worker, table)).copied();
            // Held ones go on when their receipts say; of the others, those that took a write were
            // decided at the table's time, and those from a lease at the worker's own.
            let at = match (verdict.hold, written) {
                (Some(_), _) => receipt.at.as_nanos(),
                (None, Some(written)) => written,
                (None, None) => now,
            };
            self.local.set(self.local.get() + u64::from(written.is_none()));
            costs[target.policy] = target.cost;
            let spending = Spending { request: id, at, tokens: target.cost, owed: false };
            self.write_down(target.policy, client, spending);
        }
        let admission = verdict.admission;
        self.open.borrow_mut().push(Open { worker, request: id, client, costs, admission });
    }

    /// Ends a request: it was never carried out, or has cost something else.
    fn end(&self) {
        let Some(count @ 1..) = Some(self.open.borrow().len() as u64) else { return };
        let at = self.draw(count) as usize;
        let worker = self.open.borrow()[at].worker;
        let Ok(mut limiter) = self.workers[worker].try_borrow_mut() else { return };
        let open = self.open.borrow_mut().swap_remove(at);
        let now = UnixNanos::from_nanos(self.clock.get());
        let costs = [0, 1].map(|policy| (policy, self.draw(8) as u32));
        let undone = self.draw(2) == 0;
        let settlement = if undone { Settlement::Undone } else { Settlement::Served(&costs) };
        let final_cost = |cost: u32| if undone { 0 } else { cost };
        // What is given back is, as soon as it is being written; what is owed, once it has been.
        for (policy, cost) in costs {
            self.book_of(policy, open.client, |book| {
                let own = |spending: &&mut Spending| spending.request == open.request;
                for spending in book.0.iter_mut().filter(own) {
                    spending.tokens = spending.tokens.min(final_cost(cost));
                }
            });
        }
        let _ = limiter.end(&Seat(self, worker), open.admission, settlement, now);
        for (policy, cost) in costs {
            let more = final_cost(cost).saturating_sub(open.costs[policy]);
            let (request, at) = (open.request, now.as_nanos());
            if more > 0 {
                let spending = Spending { request, at, tokens: more, owed: true };
                self.book_of(policy, open.client, |book| book.add(spending));
            }
        }
    }

    fn book_of<T>(&self, policy: usize, client: u64, write: impl FnOnce(&mut Book) -> T) -> T {
        let owner = if policy == 0 { 0 } else { client };
        write(self.books.borrow_mut().entry((policy, owner)).or_default())
    }

    fn write_down(&self, policy: usize, client: u64, spending: Spending) {
        let Limit::Bucket(bucket) = self.limits[policy] else { return };
        let token_ns = bucket.token_time().as_nanos() as u64;
        let max = bucket.refill_time().as_nanos() as u64 / token_ns;
        let full_at = self.book_of(policy, client, |book| {
            book.add(spending);
            book.full_at(token_ns, max)
        });
        if policy == 0 && spending.tokens > 0 {
            let values = self.values.borrow();
            let bytes = &values[ALL].bytes;
            let table = decode::<SlotTable>(bytes).unwrap();
            // A bucket that is not there was full when the table was written.
            let recorded = table.find(0).map_or(0, UnixNanos::as_nanos).max(written_at(bytes));
            assert!(recorded >= full_at, "{full_at} is more than {recorded}");
        }
    }
}

/// The time of a table, from behind the frame of its record.
fn written_at(table: &[u8]) -> u64 {
    u64::from_le_bytes(table[4..12].try_into().unwrap())
}

fn draw(random: &Cell<u64>, below: u64) -> u64 {
    let mut x = random.get();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    random.set(x);
    (x >> 11) % below
}

#[test]
fn no_order_of_workers_makes_a_token() {
    let steps = std::env::var("WEIR_SOAK_STEPS").ok();
    let steps = steps.map_or(60_000, |steps| steps.parse().expect("a number of steps"));
    let first = std::env::var("WEIR_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
    let (mut done, mut seed, mut admitted, mut local) = (0, first.unwrap_or(1_u64), 0, 0);
    while done < steps {
        let world = World::new(seed);
        let run = || {
            while world.steps.get() < EPISODE {
                world.step();
            }
        };
        let run = std::panic::AssertUnwindSafe(run);
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("with WEIR_SOAK_SEED={seed}: {}", world.json);
            std::panic::resume_unwind(panic);
        }
        done += world.steps.get();
        admitted += world.admitted.get();
        local += world.local.get();
        seed += 1;
    }
    println!("{done} steps: {admitted} admitted, {local} charges from leases");
    assert!(admitted > done / 10 && local > done / 100, "{admitted} of {done}, {local} leased");
}
