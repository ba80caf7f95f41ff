//! What a request costs: writes of shared data, tokens that leases lose, memory.

use crate::client::Client;
use core::cell::Cell;
use core::time::Duration;
use shared_state::{Expected, HashSeed, MemoryStore, SetError, SharedStore, StoreError};
use shared_state::{UnixNanos, Versioned};
use token_bucket_core::{Config, Limiter};

/// Counts what it is asked.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    gets: Cell<u64>,
    sets: Cell<u64>,
}

impl SharedStore for Counting {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.gets.set(self.gets.get() + 1);
        self.store.get(key)
    }

    fn set(&self, key: &str, value: &[u8], expected: Expected) -> Result<(), SetError> {
        self.sets.set(self.sets.get() + 1);
        self.store.set(key, value, expected)
    }
}

fn limiter(json: &str) -> Limiter {
    Limiter::new(Config::from_json(json.as_bytes()).unwrap().value, HashSeed([1, 2]))
}

fn at(micros: u64) -> UnixNanos {
    UnixNanos::from_secs(1_000_000).plus(Duration::from_micros(micros))
}

fn passes(limiter: &mut Limiter, store: &impl SharedStore, client: u64, micros: u64) -> bool {
    limiter.decide(store, &Client(client, 1), at(micros)).refusal.is_none()
}

/// A key that is asked for every half of a millisecond by one worker, well below its limit.
#[test]
fn a_busy_key_below_its_limit_takes_one_write_for_sixteen_requests_or_more() {
    let store = Counting::default();
    let mut worker = limiter(
        r#"{"policies":[
            {"name":"all","gcra":{"rate":50000}},
            {"name":"each","key":"header:x-client","gcra":{"rate":10000}}]}"#,
    );
    let admitted = (0..10_000).filter(|turn| passes(&mut worker, &store, 7, turn * 500)).count();
    assert_eq!(admitted, 10_000);
    // Two policies, so two writes where there was one.
    let (gets, sets) = (store.gets.get(), store.sets.get());
    println!("{gets} reads and {sets} writes for {admitted} requests of two policies");
    assert!(sets <= 2 * 10_000 / 16, "{sets} writes");
    assert!(gets <= 3 * 10_000 / 16, "{gets} reads");
}

/// Sixteen workers, each of which asks every half of a millisecond: three times the limit.
#[test]
fn sixteen_workers_that_ask_for_more_than_there_is_get_all_but_a_hundredth_of_it() {
    let store = Counting::default();
    let json = r#"{"policies":[{"name":"all","gcra":{"rate":10000,"burst":1000}}]}"#;
    let mut workers: Vec<_> = (0..16).map(|_| limiter(json)).collect();
    let (mut admitted, mut micros) = (0_u64, 0);
    for _turn in 0..2_000 {
        for worker in &mut workers {
            admitted += u64::from(passes(worker, &store, 0, micros));
            micros += 31;
        }
    }
    let most = 1_000 + micros * 10_000 / 1_000_000;
    println!("{admitted} of {most}");
    assert!(admitted <= most && admitted * 100 >= most * 99, "{admitted} of {most}");
}

/// A part of the tables that a million clients need, with the part of the clients that they hold.
#[test]
fn a_million_clients_fit_into_32_mib_and_none_is_evicted() {
    const PART: u64 = 32;
    let store = MemoryStore::default();
    let shards = 32_768 / PART;
    let mut worker = limiter(&format!(
        r#"{{"store":{{"shards":{shards},"slots_per_shard":64}},"policies":[
            {{"name":"each","key":"header:x-client","gcra":{{"rate":1,"per":"3600s","burst":2}}}}]}}"#
    ));
    let mut overflows = 0;
    for client in 0..1_000_000 / PART {
        let verdict = worker.decide(&store, &Client(client, 1), at(0));
        assert_eq!(verdict.refusal, None);
        overflows += verdict.tally.overflows.len();
    }
    assert_eq!(overflows, 0);
    let size = |key: &String| key.len() + store.get(key).unwrap().unwrap().bytes.len();
    let bytes: usize = store.keys().iter().map(size).sum();
    println!("{bytes} bytes for {} clients", 1_000_000 / PART);
    assert!(bytes as u64 * PART <= 32 << 20, "{bytes}");
    // Each is still known: the second token is the last.
    for client in [0, 1, 1_000_000 / PART - 1] {
        assert!(passes(&mut worker, &store, client, 0) && !passes(&mut worker, &store, client, 0));
    }
}
