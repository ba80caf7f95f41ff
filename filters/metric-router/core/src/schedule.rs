//! Whose turn it is, in proportion to weight: earliest eligible deadline first.
//!
//! The scheduler that Envoy and gRPC use, plain earliest deadline first, lets a heavy endpoint take
//! several turns before the light ones have their first. Here an endpoint must be owed its turn
//! before it is eligible: of `picks * share` turns it has had fewer. Among the eligible the earliest
//! deadline wins. No endpoint is then ever a whole turn ahead or behind its share (Stoica and
//! Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995, with unit requests), so weights
//! hold over short runs too.
//!
//! Time is counted in turns. An endpoint with share `s` that is due at `start` has its deadline at
//! `start + 1 / s`, where its next turn starts. Two heaps, those that wait for their start and those
//! that are eligible, make a turn cost the logarithm of the number of endpoints. Debts survive a
//! change of weights, so an update loses no turn.

use core::cmp::Reverse;
use shared_state::Endpoint;
use sorting::{sort_by, sort_by_key};
use std::collections::BinaryHeap;

/// The turns of one worker.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    turns: Vec<Turn>,
    /// Turns taken since the last update.
    taken: f64,
    /// By start, those that have had their turn.
    waiting: BinaryHeap<Entry>,
    /// By deadline, those that are owed a turn.
    eligible: BinaryHeap<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Turn {
    endpoint: Endpoint,
    /// Share of all turns; the shares add up to 1.
    share: f64,
    /// When it is eligible for its next turn.
    start: f64,
}

impl Turn {
    fn deadline(&self) -> f64 {
        self.start + 1.0 / self.share
    }
}

/// A place in a heap: the earliest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// In parts of a turn: integers are compared at once.
    at: Reverse<i64>,
    turn: Reverse<usize>,
}

impl Entry {
    fn new(at: f64, turn: usize) -> Self {
        Self { at: Reverse(parts(at)), turn: Reverse(turn) }
    }
}

/// A turn has so many parts: time lasts for two thousand million turns between two updates.
const PARTS: f64 = 4_294_967_296.0;

fn parts(turns: f64) -> i64 {
    // Beyond its range a float becomes the end of it.
    (turns * PARTS) as i64
}

impl Schedule {
    /// Takes over new weights, which must be positive. Who stays keeps the turns it is owed. A
    /// schedule that begins starts at a place given by `draw`: workers that start together would
    /// otherwise all send their first requests to the same endpoint.
    pub fn update(&mut self, weights: impl IntoIterator<Item = (Endpoint, f64)>, draw: u64) {
        let begins = self.turns.is_empty();
        let mut before = core::mem::take(&mut self.turns);
        sort_by_key(&mut before, |turn| turn.endpoint);
        // `start` holds the turns owed, until the shares are known.
        let owed = |endpoint: Endpoint| -> f64 {
            let at = before.binary_search_by_key(&endpoint, |turn| turn.endpoint);
            let turn = at.ok().and_then(|at| before.get(at));
            turn.map_or(0.0, |turn| (self.taken - turn.start) * turn.share)
        };
        self.turns.extend(
            weights
                .into_iter()
                .filter(|(_, weight)| weight.is_finite() && *weight > 0.0)
                .map(|(endpoint, share)| Turn { endpoint, share, start: owed(endpoint) }),
        );
        let total: f64 = self.turns.iter().map(|turn| turn.share).sum();
        let debts: f64 = self.turns.iter().map(|turn| turn.start).sum();
        for turn in &mut self.turns {
            turn.share /= total;
            // The debts of those who left are shared out, so that debts add up to nothing.
            turn.start = (debts * turn.share - turn.start) / turn.share;
        }
        self.taken = 0.0;
        self.eligible.clear();
        self.waiting.clear();
        let starts = self.turns.iter().enumerate();
        self.waiting.extend(starts.map(|(turn, Turn { start, .. })| Entry::new(*start, turn)));
        if begins && !self.turns.is_empty() {
            for _ in 0..draw % self.turns.len() as u64 {
                self.advance();
            }
        }
    }

    /// The endpoint whose turn it is, and after it some of those whose turn comes soon, in order. At
    /// most `most`, and as many if there are.
    pub fn next(&mut self, most: usize) -> Vec<Endpoint> {
        self.next_numbered(most).into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    /// As [`Schedule::next`], each with its number in the last update.
    pub(crate) fn next_numbered(&mut self, most: usize) -> Vec<(Endpoint, usize)> {
        let Some(first) = self.advance() else { return Vec::new() };
        self.admit();
        let mut list = vec![first];
        for heap in [&self.eligible, &self.waiting] {
            if list.len() >= most {
                break;
            }
            // The top of a heap is near the front of its list: the order of what is looked at is
            // right, and what is not looked at comes later, or nearly. Taking them out to see would
            // cost more.
            let mut near: Vec<Entry> = heap.iter().take(most + 1).copied().collect();
            sort_by(&mut near, |a, b| b.cmp(a));
            for entry in near {
                let number = entry.turn.0;
                let turn = self.turns.get(number).map(|turn| (turn.endpoint, number));
                list.extend(turn.filter(|turn| *turn != first));
            }
        }
        list.truncate(most);
        list
    }

    fn advance(&mut self) -> Option<(Endpoint, usize)> {
        self.admit();
        // Debts add up to nothing, so somebody is owed a turn, but for rounding.
        let entry = self.eligible.pop().or_else(|| self.waiting.pop())?;
        let number = entry.turn.0;
        let turn = self.turns.get_mut(number)?;
        self.taken += 1.0;
        turn.start = turn.deadline();
        self.waiting.push(Entry::new(turn.start, number));
        Some((turn.endpoint, number))
    }

    /// Moves those whose start has come.
    fn admit(&mut self) {
        let taken = parts(self.taken + ROUNDING);
        while let Some(entry) = self.waiting.peek()
            && entry.at.0 <= taken
            && let Some(entry) = self.waiting.pop()
            && let Some(turn) = self.turns.get(entry.turn.0)
        {
            self.eligible.push(Entry::new(turn.deadline(), entry.turn.0));
        }
    }
}

/// Within this of its start a turn has come.
const ROUNDING: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn schedule(weights: &[f64]) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.update((1u16..).map(endpoint).zip(weights.iter().copied()), 0);
        schedule
    }

    fn turns(schedule: &mut Schedule, count: usize) -> Vec<u16> {
        (0..count).map(|_| schedule.next(1)[0].address().port()).collect()
    }

    #[test]
    fn a_heavy_endpoint_takes_its_turns_between_the_others() {
        assert_eq!(turns(&mut schedule(&[2.0, 1.0, 1.0]), 8), [1, 2, 1, 3, 1, 2, 1, 3]);
    }

    #[test]
    fn equal_weights_go_round() {
        assert_eq!(turns(&mut schedule(&[1.0; 3]), 6), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn the_rest_of_the_list_is_who_comes_next() {
        let list = schedule(&[1.0, 1.0, 1.0]).next(8);
        assert_eq!(list, [endpoint(1), endpoint(2), endpoint(3)]);
    }

    #[test]
    fn an_empty_schedule_picks_nothing() {
        assert!(Schedule::default().next(3).is_empty());
    }

    #[test]
    fn schedules_that_begin_with_different_draws_begin_at_different_places() {
        let mut other = Schedule::default();
        other.update([1, 2, 3].map(|port| (endpoint(port), 1.0)), 1);
        assert_eq!(turns(&mut other, 3), [2, 3, 1]);
    }

    #[test]
    fn a_change_of_weights_forgets_no_turn() {
        let mut schedule = schedule(&[1.0; 3]);
        turns(&mut schedule, 1);
        schedule.update([1, 2, 3].map(|port| (endpoint(port), 1.0)), 0);
        assert_eq!(turns(&mut schedule, 2), [2, 3]);
    }

    proptest! {
        #[test]
        fn nobody_is_ever_more_than_a_turn_from_its_share(
            weights in proptest::collection::vec(0.01f64..100.0, 1..20),
        ) {
            let total: f64 = weights.iter().sum();
            let mut schedule = schedule(&weights);
            let mut counts = vec![0.0; weights.len()];
            for picks in 1..=500 {
                let port = schedule.next(1)[0].address().port();
                counts[usize::from(port) - 1] += 1.0;
                for (count, weight) in counts.iter().zip(&weights) {
                    let ideal = f64::from(picks) * weight / total;
                    prop_assert!((count - ideal).abs() <= 1.0 + 1e-6, "{count} for {ideal}");
                }
            }
        }

        #[test]
        fn no_change_of_members_leaves_nobody_eligible(
            changes in proptest::collection::vec(
                proptest::collection::btree_map(1u16..30, 1e-6f64..1e6, 1..20), 1..20),
        ) {
            let mut schedule = Schedule::default();
            for weights in changes {
                schedule.update(weights.iter().map(|(port, w)| (endpoint(*port), *w)), 7);
                for _ in 0..10 {
                    prop_assert_eq!(schedule.next(2).len(), weights.len().min(2));
                }
            }
        }
    }
}
