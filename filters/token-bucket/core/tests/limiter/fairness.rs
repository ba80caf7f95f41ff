//! Many clients, one bucket, several workers: who gets how much.
//!
//! Time is virtual and arrivals are drawn (exponential gaps, from a fixed seed), so each run is the
//! same everywhere. The workers share a store that never fails; each request goes to a worker that
//! is drawn anew, which is the worst case for what workers know of a client.

use crate::client::Client;
use shared_state::{HashSeed, MemoryStore, UnixNanos};
use token_bucket_core::{Config, Limiter, Outcome};

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A gap between two arrivals at this rate, in seconds.
    fn gap(&mut self, rate: f64) -> f64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        -(1.0 - uniform).ln() / rate
    }
}

/// 500 requests a second for all, a fifth of it at once.
const SHARED: &str = r#"{"policies":[
    {"name":"all","gcra":{"rate":500,"burst":100}},
    {"name":"fair","key":"header:x-client","fair_share":{"of":"all","weights":{"header":"x-weight"}}}]}"#;

/// The same without fairness.
const UNFAIR: &str = r#"{"policies":[{"name":"all","gcra":{"rate":500,"burst":100}}]}"#;

/// Lets clients of these rates and weights ask for twelve seconds. Gives what each got a second over
/// the last ten.
fn play(workers: usize, clients: &[(f64, u32)]) -> Vec<f64> {
    play_by(SHARED, workers, clients).into_iter().map(|(_, got)| got).collect()
}

/// As [`play`], and what each asked for.
fn play_by(json: &str, workers: usize, clients: &[(f64, u32)]) -> Vec<(f64, f64)> {
    let store = MemoryStore::default();
    let config = || Config::from_json(json.as_bytes()).unwrap().value;
    let mut limiters: Vec<_> =
        (0..workers as u64).map(|worker| Limiter::new(config(), HashSeed([worker, 7]))).collect();
    let mut draws = Draws(42);
    let mut next: Vec<f64> = clients.iter().map(|(rate, _)| draws.gap(*rate)).collect();
    let mut counts = vec![(0.0, 0.0); clients.len()];
    loop {
        let (client, now) = next
            .iter()
            .copied()
            .enumerate()
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .expect("there are clients");
        if now >= 12.0 {
            return counts.iter().map(|(asked, got)| (asked / 10.0, got / 10.0)).collect();
        }
        let (rate, weight) = clients[client];
        next[client] = now + draws.gap(rate);
        let worker = draws.next() as usize % workers;
        let at = UnixNanos::from_nanos(1_700_000_000_000_000_000 + (now * 1e9) as u64);
        let verdict = limiters[worker].decide(&store, &Client(client as u64, weight), at);
        let passed = verdict.refusal.is_none();
        assert_eq!(passed, verdict.tally.outcomes.contains(&(0, Outcome::Allowed)));
        if now >= 2.0 {
            counts[client].0 += 1.0;
            counts[client].1 += f64::from(u8::from(passed));
        }
    }
}

/// Jain's index: 1 if all have the same.
fn jain(got: &[f64]) -> f64 {
    let sum: f64 = got.iter().sum();
    let squares: f64 = got.iter().map(|one| one * one).sum();
    sum * sum / (got.len() as f64 * squares)
}

/// Forty-nine clients with 20 requests a second each, and one with twenty times that.
fn one_floods() -> Vec<(f64, u32)> {
    let mut clients = vec![(20.0, 1); 50];
    clients[0].0 = 400.0;
    clients
}

#[test]
fn who_floods_gets_its_share_and_the_others_get_theirs_whatever_the_number_of_workers() {
    for workers in [1, 2, 4] {
        let got = play(workers, &one_floods());
        let (flood, rest) = (got[0], &got[1..]);
        let told = format!("{workers} workers: {got:?}");
        assert!(jain(rest) >= 0.97, "{told}");
        // 500 among 50 is 10 for each.
        assert!(rest.iter().all(|one| *one >= 8.0), "{told}");
        assert!(flood <= 15.0, "{told}");
        let total: f64 = got.iter().sum();
        assert!((475.0..=501.0).contains(&total), "{total} in {told}");
    }
}

#[test]
fn without_a_fair_share_the_flood_takes_more_than_a_quarter() {
    let counts = play_by(UNFAIR, 2, &one_floods());
    assert!(counts[0].1 >= 125.0, "{counts:?}");
}

#[test]
fn what_light_clients_leave_goes_to_who_asks_for_more() {
    for workers in [1, 4] {
        let mut clients = vec![(4.0, 1); 50];
        clients[0].0 = 1_000.0;
        clients[1].0 = 1_000.0;
        let counts = play_by(SHARED, workers, &clients);
        let told = format!("{workers} workers: {counts:?}");
        let light = &counts[2..];
        let (asked, got) = light.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        assert!(got >= 0.97 * asked, "{told}");
        // They leave some 308 for two.
        assert!(counts[..2].iter().all(|(_, got)| (130.0..=175.0).contains(got)), "{told}");
        assert!(counts.iter().map(|(_, got)| got).sum::<f64>() >= 475.0, "{told}");
    }
}

#[test]
fn a_lone_key_may_use_all() {
    for workers in [1, 2, 4] {
        let got = play(workers, &[(2_000.0, 1)]);
        assert!((490.0..=501.0).contains(&got[0]), "{workers} workers: {got:?}");
    }
}

#[test]
fn weights_divide_what_there_is() {
    let got = play(2, &[(1_000.0, 1), (1_000.0, 3), (1_000.0, 6)]);
    for (got, share) in got.iter().zip([50.0, 150.0, 300.0]) {
        assert!((got - share).abs() <= 0.15 * share, "{got} for {share}");
    }
}

#[test]
fn while_there_is_enough_nobody_is_held_to_anything() {
    let got = play(2, &[(50.0, 1); 5]);
    assert!(got.iter().all(|one| (40.0..=60.0).contains(one)), "{got:?}");
}
