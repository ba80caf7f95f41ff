//! Several workers, every order of their reads and writes.
//!
//! Each worker runs in a thread of its own, and a store that all of them share lets one call
//! through at a time, in an order that the test draws. So the interleaving is arbitrary, and yet
//! the same for the same draws.

use crate::client::Client;
use proptest::prelude::*;
use shared_state::{Cas, Expected, HashSeed, SetError, SharedStore, StoreError};
use shared_state::{UnixNanos, Versioned};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use token_bucket_core::{Config, Limiter};

const WORKERS: usize = 4;

/// Whose turn it is, and the values.
#[derive(Default)]
struct State {
    values: BTreeMap<String, Versioned>,
    last_cas: u32,
    /// The order, last first. When it is used up, workers take turns by number.
    order: Vec<usize>,
    /// Workers that are at a call, or done.
    waiting: [bool; WORKERS],
    done: [bool; WORKERS],
    turn: Option<usize>,
    /// The one clock, in ms, and how far it moves at the next calls, last first.
    clock: u64,
    steps: Vec<u64>,
}

impl State {
    /// Once every worker is at a call or done, gives the turn to the next in order.
    fn give_turn(&mut self) {
        let idle = (0..WORKERS).all(|worker| self.waiting[worker] || self.done[worker]);
        while self.turn.is_none() && idle {
            let first = (0..WORKERS).find(|worker| self.waiting[*worker]);
            let Some(next) = self.order.pop().or(first) else { return };
            if self.waiting[next] {
                self.turn = Some(next);
            }
        }
    }
}

#[derive(Default)]
struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

impl Stage {
    /// Runs `call` when it is this worker's turn.
    fn call<T>(&self, worker: usize, call: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        state.waiting[worker] = true;
        state.give_turn();
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.turn != Some(worker)).unwrap();
        let result = call(&mut state);
        let step = state.steps.pop().unwrap_or(0);
        state.clock += step;
        state.waiting[worker] = false;
        state.turn = None;
        result
    }

    fn done(&self, worker: usize) {
        let mut state = self.state.lock().unwrap();
        state.done[worker] = true;
        state.give_turn();
        self.changed.notify_all();
    }
}

/// The store as one worker sees it.
struct Seat<'a>(&'a Stage, usize);

impl SharedStore for Seat<'_> {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.0.call(self.1, |state| state.values.get(key).cloned()))
    }

    fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError> {
        self.0.call(self.1, |state| {
            let present = state.values.get(key).map(|found| found.cas);
            let holds = match (expected, present) {
                (Expected::Any, _) | (_, None) => true,
                (Expected::Absent, Some(_)) => false,
                (Expected::Version(cas), Some(found)) => cas == found,
            };
            if !holds {
                return Err(SetError::Conflict);
            }
            state.last_cas += 1;
            let value = Versioned { bytes: value.to_vec(), cas: Cas(state.last_cas) };
            state.values.insert(key.to_owned(), value);
            Ok(())
        })
    }
}

/// Lets each worker ask for its clients. Gives the admitted clients, and how long it took, in ms.
fn play(json: &str, asks: &[Vec<u64>; WORKERS], order: &[usize], steps: &[u64]) -> (Vec<u64>, u64) {
    let stage = Stage::default();
    {
        let mut state = stage.state.lock().unwrap();
        state.order = order.to_vec();
        state.steps = steps.to_vec();
    }
    let run = |worker: usize| {
        let config = Config::from_json(json.as_bytes()).unwrap().value;
        let seat = Seat(&stage, worker);
        let mut limiter = Limiter::new(config, HashSeed([worker as u64, 7]));
        let mut admitted = Vec::new();
        for client in &asks[worker] {
            // A turn of its own, so that a worker may fall asleep between the clock and the store.
            let now = stage.call(worker, |state| state.clock);
            let now = UnixNanos::from_millis(1_000_000 + now);
            if limiter.decide(&seat, &Client(*client, 1), now).refusal.is_none() {
                admitted.push(*client);
            }
        }
        stage.done(worker);
        admitted
    };
    let admitted = std::thread::scope(|scope| {
        let run = &run;
        let workers: [_; WORKERS] = core::array::from_fn(|worker| scope.spawn(move || run(worker)));
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    (admitted, stage.state.into_inner().unwrap().clock)
}

/// A limit of 4 over all and of 2 for each client, one token a second each, in one small table.
const TWO_LEVELS: &str = r#"{"store":{"shards":1,"slots_per_shard":4},"policies":[
    {"name":"all","token_bucket":{"max_tokens":4,"fill_interval":"1s"}},
    {"name":"each","key":"header:x-client","token_bucket":{"max_tokens":2,"fill_interval":"1s"}}]}"#;

const EACH: &str = r#"{"store":{"shards":1,"slots_per_shard":4},"policies":[
    {"name":"each","key":"header:x-client","token_bucket":{"max_tokens":2,"fill_interval":"1s"}}]}"#;

const ONE: &str =
    r#"{"policies":[{"name":"all","token_bucket":{"max_tokens":5,"fill_interval":"1s"}}]}"#;

fn orders() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..WORKERS, 0..200)
}

fn asks() -> impl Strategy<Value = [Vec<u64>; WORKERS]> {
    let asks = || proptest::collection::vec(0u64..6, 0..8);
    [asks(), asks(), asks(), asks()]
}

/// Steps of the clock that add up to less than a bucket takes to fill: a worker that sleeps for
/// longer cannot be told from a clock that stepped back.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    let steps = proptest::collection::vec(prop_oneof![4 => Just(0u64), 1 => 0u64..1_200], 0..200);
    steps.prop_map(|mut steps| {
        let mut left = 2_000u64;
        for step in &mut steps {
            *step = (*step).min(left);
            left -= *step;
        }
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn four_workers_in_any_order_give_the_burst_exactly(order in orders()) {
        let asks = core::array::from_fn(|_| vec![0; 3]);
        let (admitted, _) = play(ONE, &asks, &order, &[]);
        prop_assert_eq!(admitted.len(), 5);
    }

    #[test]
    fn four_workers_in_any_order_give_no_client_a_token_too_many(
        order in orders(), asks in asks(), steps in steps(),
    ) {
        let (admitted, took) = play(EACH, &asks, &order, &steps);
        for client in 0..6 {
            let count = admitted.iter().filter(|who| **who == client).count() as u64;
            prop_assert!(count <= 2 + took / 1_000, "client {client}: {count} in {took} ms");
        }
    }

    #[test]
    fn four_workers_in_any_order_keep_two_limits_at_once(
        order in orders(), asks in asks(), steps in steps(),
    ) {
        let (admitted, took) = play(TWO_LEVELS, &asks, &order, &steps);
        prop_assert!(admitted.len() as u64 <= 4 + took / 1_000);
        for client in 0..6 {
            let count = admitted.iter().filter(|who| **who == client).count() as u64;
            prop_assert!(count <= 2 + took / 1_000, "client {client}: {count} in {took} ms");
        }
    }
}
