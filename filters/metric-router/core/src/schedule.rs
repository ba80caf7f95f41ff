//! Whose turn it is, in proportion to weight: earliest eligible deadline first.
//!
//! The scheduler that Envoy and gRPC use, plain earliest deadline first, lets a heavy endpoint take
//! several turns before the light ones have their first. Here each endpoint also has a lag: the
//! turns it is owed, `picks * share - own picks`. Only an endpoint that is owed something (lag not
//! negative) is eligible, and among those the earliest deadline wins. No endpoint is then ever a
//! whole turn ahead or behind its share (Stoica and Abdel-Wahab, "Earliest Eligible Virtual
//! Deadline First", 1995, with unit requests), so weights hold over short runs too.
//!
//! A scan of all endpoints a turn, no heap: lags change at each turn for everyone, and there are at
//! most a few hundred. Lags survive a change of weights, so a rebuild loses no turn.

use shared_state::Endpoint;

/// The turns of one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    turns: Vec<Turn>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Turn {
    endpoint: Endpoint,
    /// Share of all turns; the shares add up to 1.
    share: f64,
    /// Turns owed.
    lag: f64,
}

impl Turn {
    /// When its next turn is due, in turns from now.
    fn deadline(&self) -> f64 {
        (1.0 - self.lag) / self.share
    }
}

impl Schedule {
    /// Takes over new weights, which must be positive. Who stays keeps the turns it is owed. A
    /// schedule that begins starts at a place given by `draw`: workers that start together would
    /// otherwise all send their first requests to the same endpoint.
    pub fn update(&mut self, weights: impl IntoIterator<Item = (Endpoint, f64)>, draw: u64) {
        let begins = self.turns.is_empty();
        let before = core::mem::take(&mut self.turns);
        let lag = |endpoint| {
            let turn = before.iter().find(|turn| turn.endpoint == endpoint);
            turn.map_or(0.0, |turn| turn.lag)
        };
        self.turns.extend(
            weights
                .into_iter()
                .filter(|(_, weight)| weight.is_finite() && *weight > 0.0)
                .map(|(endpoint, share)| Turn { endpoint, share, lag: lag(endpoint) }),
        );
        let total: f64 = self.turns.iter().map(|turn| turn.share).sum();
        let owed: f64 = self.turns.iter().map(|turn| turn.lag).sum();
        for turn in &mut self.turns {
            turn.share /= total;
            // The debts of those who left are shared out, so that lags add up to nothing.
            turn.lag -= owed * turn.share;
        }
        if begins && !self.turns.is_empty() {
            for _ in 0..draw % self.turns.len() as u64 {
                self.advance();
            }
        }
    }

    /// The endpoints from the one whose turn it is, by deadline. At most `most`.
    pub fn next(&mut self, most: usize) -> Vec<Endpoint> {
        let Some(first) = self.advance() else { return Vec::new() };
        let mut rest: Vec<&Turn> = Vec::with_capacity(most.saturating_add(1));
        for turn in self.turns.iter().filter(|turn| turn.endpoint != first) {
            let at = rest.partition_point(|other| other.deadline() <= turn.deadline());
            if at < most {
                rest.insert(at, turn);
                rest.truncate(most);
            }
        }
        let rest = rest.into_iter().map(|turn| turn.endpoint);
        core::iter::once(first).chain(rest).take(most).collect()
    }

    fn advance(&mut self) -> Option<Endpoint> {
        let next = self
            .turns
            .iter()
            .enumerate()
            .filter(|(_, turn)| turn.lag >= -ROUNDING)
            .min_by(|(_, a), (_, b)| a.deadline().total_cmp(&b.deadline()))
            .map(|(at, _)| at)?;
        for turn in &mut self.turns {
            turn.lag += turn.share;
        }
        let turn = self.turns.get_mut(next)?;
        turn.lag -= 1.0;
        Some(turn.endpoint)
    }
}

/// Lags add up to zero, so one of them is not negative, but for rounding.
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
