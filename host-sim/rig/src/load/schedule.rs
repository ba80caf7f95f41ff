//! When each request is due and whom it comes from. Pure: the seed and the phases fix everything
//! before the first byte is sent, so nothing the target does can move a request.

use std::time::Duration;

use super::options::{Arrivals, Phase};
use crate::draw::SplitMix64;

/// A request to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    /// Since the start of the load.
    pub(super) at: Duration,
    /// Index of the client.
    pub(super) client: usize,
    /// From 0 on.
    pub(super) number: u64,
}

/// Requests in order of time.
#[derive(Debug)]
pub(super) struct Schedule {
    phases: std::vec::IntoIter<Phase>,
    /// Start, end in seconds and rate of the phase under way.
    current: Option<(f64, f64, f64)>,
    /// Where the next gap starts, in seconds.
    at: f64,
    arrivals: Arrivals,
    gaps: SplitMix64,
    clients: ClientDraw,
    number: u64,
}

impl Schedule {
    pub(super) fn new(
        phases: Vec<Phase>,
        arrivals: Arrivals,
        weights: impl Iterator<Item = f64>,
        seed: u64,
    ) -> Self {
        let mut phases = phases.into_iter();
        let current = phases.next().map(|phase| window(0.0, phase));
        // Separate streams: other weights must not move the arrivals.
        let gaps = SplitMix64::named(seed, "arrivals");
        let clients = ClientDraw::new(weights, SplitMix64::named(seed, "clients"));
        Self { phases, current, at: 0.0, arrivals, gaps, clients, number: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        loop {
            let (_, end, rate) = self.current?;
            if rate > 0.0 {
                self.at += match self.arrivals {
                    Arrivals::Poisson => self.gaps.exponential(1.0 / rate),
                    Arrivals::Constant => 1.0 / rate,
                };
                if self.at < end {
                    let at = Duration::try_from_secs_f64(self.at).ok()?;
                    let number = self.number;
                    self.number += 1;
                    return Some(Due { at, client: self.clients.next(), number });
                }
            }
            // The gap that crossed the end is dropped: exponential gaps have no memory, and a
            // metronome starts anew with its new rate.
            self.at = end;
            self.current = self.phases.next().map(|phase| window(end, phase));
        }
    }
}

fn window(start: f64, phase: Phase) -> (f64, f64, f64) {
    (start, start + phase.duration.as_secs_f64(), phase.rate)
}

/// Clients by weight.
#[derive(Debug)]
struct ClientDraw {
    cumulative: Vec<f64>,
    draws: SplitMix64,
}

impl ClientDraw {
    fn new(weights: impl Iterator<Item = f64>, draws: SplitMix64) -> Self {
        let mut total = 0.0;
        let cumulative = weights
            .map(|weight| {
                total += weight.max(0.0);
                total
            })
            .collect();
        Self { cumulative, draws }
    }

    fn next(&mut self) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let draw = self.draws.unit() * total;
        self.cumulative.partition_point(|&bound| bound <= draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(phases: &[(f64, u64)], arrivals: Arrivals, weights: &[f64], seed: u64) -> Vec<Due> {
        let phases: Vec<Phase> = phases
            .iter()
            .map(|&(rate, seconds)| Phase { rate, duration: Duration::from_secs(seconds) })
            .collect();
        Schedule::new(phases, arrivals, weights.iter().copied(), seed).collect()
    }

    #[test]
    fn the_seed_fixes_the_arrivals_and_the_weights_do_not() {
        let times = |weights: &[f64], seed| -> Vec<Duration> {
            let due = schedule(&[(100.0, 1)], Arrivals::Poisson, weights, seed);
            due.into_iter().map(|due| due.at).collect()
        };
        assert_eq!(times(&[1.0], 1), times(&[3.0, 1.0], 1));
        assert_ne!(times(&[1.0], 1), times(&[1.0], 2));
    }

    #[test]
    fn poisson_gaps_vary_like_exponential_ones() {
        let due = schedule(&[(1000.0, 100)], Arrivals::Poisson, &[1.0], 1);
        assert!((due.len() as f64 / 100_000.0 - 1.0).abs() < 0.02, "{}", due.len());
        let gaps: Vec<f64> = due.windows(2).map(|w| (w[1].at - w[0].at).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03);
    }

    #[test]
    fn phases_follow_each_other_and_a_pause_sends_nothing() {
        let due = schedule(&[(10.0, 1), (0.0, 5), (20.0, 1)], Arrivals::Constant, &[1.0], 1);
        let in_second = |s: u64| due.iter().filter(|due| due.at.as_secs() == s).count();
        assert_eq!((in_second(0), in_second(3), in_second(6)), (9, 0, 19));
    }

    #[test]
    fn clients_come_by_weight() {
        let due = schedule(&[(10_000.0, 10)], Arrivals::Constant, &[1.0, 0.0, 3.0], 1);
        let share = |c| due.iter().filter(|d| d.client == c).count() as f64 / due.len() as f64;
        assert!((share(0) - 0.25).abs() < 0.01, "{}", share(0));
        assert_eq!(share(1), 0.0);
        assert!((share(2) - 0.75).abs() < 0.01);
    }
}
