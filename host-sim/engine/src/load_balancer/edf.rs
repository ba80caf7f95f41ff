//! Earliest deadline first: the scheduler behind Envoy's weighted policies.
//!
//! Every host has a deadline, 1 / weight after its last turn; the earliest goes next. Shares converge
//! to the weights, turns interleave as evenly as they can, and a weight may change at every turn,
//! which is how least request bends it by the requests in flight.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A scheduler over positions `0..count`.
#[derive(Debug, Default)]
pub struct Edf {
    now: f64,
    turns: u64,
    queue: BinaryHeap<Entry>,
}

#[derive(Debug)]
struct Entry {
    deadline: f64,
    /// Equal deadlines: first come, first served.
    turn: u64,
    at: usize,
}

impl Edf {
    /// A scheduler that has made `seed` turns modulo the number of hosts already, as Envoy's: else
    /// every rebuild, on every worker, would favour the first host.
    pub fn new(weights: impl Iterator<Item = f64>, seed: u64) -> Self {
        let mut edf = Self::default();
        let weights: Vec<f64> = weights.collect();
        for (at, weight) in weights.iter().enumerate() {
            edf.add(at, *weight);
        }
        let count = u64::try_from(weights.len()).unwrap_or(1).max(1);
        for _ in 0..seed % count {
            edf.pick(|at| weights.get(at).copied().unwrap_or(1.0));
        }
        edf
    }

    /// The next position; `weight` says its weight for the turn after.
    pub fn pick(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let Entry { deadline, at, .. } = self.queue.pop()?;
        self.now = deadline;
        self.add(at, weight(at));
        Some(at)
    }

    fn add(&mut self, at: usize, weight: f64) {
        // A weight that underflows to nothing still has a finite deadline.
        let deadline = self.now + 1.0 / weight.max(f64::MIN_POSITIVE);
        self.queue.push(Entry { deadline, turn: self.turns, at });
        self.turns += 1;
    }
}

/// `BinaryHeap` gives the greatest: the earliest deadline is the greatest.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.turn.cmp(&self.turn))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
