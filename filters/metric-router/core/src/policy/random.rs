//! Anyone, each with the chance of its weight, and whatever it has in flight. What Envoy calls
//! `random`: the yardstick, and a way to find out whether another policy is to blame. So how fast an
//! endpoint is does not count.
//!
//! The chances are added up at the tick; a pick finds in which of the sums its number lies, in as many
//! steps as the number of endpoints has binary digits. An endpoint that fails has its chance divided
//! by its penalty, and none at all from a penalty of 2 on while another is there: failing fast is no
//! way to get more, and here not to get the same. One that is ramped up has its share of the chance.

use super::{Choice, Ranked, Scene};
use crate::rank::lot;
use crate::{Candidate, Policy, Why};

/// Penalty from which an endpoint has no chance.
const MOST_PENALTY: f64 = 2.0;

/// Draws for one place of a list. Who was drawn before is not listed twice.
const DRAWS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Chances {
    /// The chances of all candidates up to each, itself included.
    sums: Vec<f64>,
}

impl Chances {
    pub(super) fn update(&mut self, scene: &Scene<'_>) {
        let fails = |candidate: &Candidate| candidate.penalty >= MOST_PENALTY;
        let all_fail = scene.candidates.iter().all(fails);
        let mut sum = 0.0;
        self.sums.clear();
        self.sums.extend(scene.candidates.iter().map(|candidate| {
            if all_fail || !fails(candidate) {
                sum += candidate.weight * candidate.admission / candidate.penalty;
            }
            sum
        }));
    }

    pub(super) fn choose(&self, scene: &Scene<'_>) -> Choice {
        let candidates = scene.candidates.len();
        let most = scene.most.min(candidates);
        let mut list: Vec<Ranked> = Vec::with_capacity(most);
        let mut add = |place: usize| {
            let is_listed = list.iter().any(|other| other.place == place);
            if let Some(candidate) = scene.candidates.get(place).filter(|_| !is_listed) {
                list.push(Ranked { place, score: candidate.penalty / candidate.weight });
            }
            list.len() >= most
        };
        let mut last = 0;
        let mut drawn = (0..most * DRAWS).map(|number| {
            last = self.drawn(lot(scene.draw, number));
            last
        });
        // Few are left, or one has nearly all of the chances: those that stand next to it.
        if !drawn.any(&mut add) {
            (0..candidates).map(|step| (last + step) % candidates).any(add);
        }
        Choice { policy: Policy::Random, why: Why::Drawn, considered: list.len(), list }
    }

    /// The place in whose part of the chances this number lies.
    fn drawn(&self, lot: u32) -> usize {
        let all = self.sums.last().copied().unwrap_or(0.0);
        let at = all * (f64::from(lot) / 4_294_967_296.0);
        self.sums.partition_point(|sum| *sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Stage, candidate};
    use proptest::prelude::*;

    fn chances(stage: &Stage) -> Chances {
        let mut chances = Chances::default();
        chances.update(&stage.scene(0));
        chances
    }

    fn counts(stage: &Stage, picks: u32) -> Vec<usize> {
        let chances = chances(stage);
        stage.counts(picks, |scene| chances.choose(scene))
    }

    #[test]
    fn everyone_gets_the_same_share_whatever_is_in_flight() {
        let mut stage = Stage::of(5, candidate);
        stage.fly(1, 100);
        let counts = counts(&stage, 10_000);
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_rate_is_no_chance() {
        let stage = Stage::of(2, |row| Candidate { rate: 1.0 + row as f64, ..candidate(row) });
        let counts = counts(&stage, 10_000);
        assert!(counts.iter().all(|count| (4800..5200).contains(count)), "{counts:?}");
    }

    #[test]
    fn an_endpoint_that_fails_is_listed_behind_the_others() {
        let failing = |row| Candidate { penalty: 4.0, ..candidate(row) };
        let stage = Stage::of(3, |row| if row == 0 { failing(row) } else { candidate(row) });
        let chances = chances(&stage);
        for draw in 0..100 {
            let list = stage.list(draw, |scene| chances.choose(scene));
            assert!(list.len() == 3 && list[2] == 0, "{list:?}");
        }
        // It is one of those that are left, where all fail.
        let all = counts(&Stage::of(3, failing), 3_000);
        assert!(all.iter().all(|count| (900..1100).contains(count)), "{all:?}");
    }

    #[test]
    fn a_ramp_gives_its_share_and_a_few_errors_take_theirs() {
        let stage = Stage::of(3, |row| match row {
            0 => Candidate { admission: 0.25, ..candidate(row) },
            1 => Candidate { penalty: 4.0 / 3.0, ..candidate(row) },
            row => candidate(row),
        });
        for (count, expected) in counts(&stage, 10_000).iter().zip([1250, 3750, 5000]) {
            assert!(count.abs_diff(expected) < 200, "{count} for {expected}");
        }
    }

    #[test]
    fn nobody_is_nobody() {
        let stage = Stage::of(0, candidate);
        assert!(chances(&stage).choose(&stage.scene(1)).list.is_empty());
    }

    proptest! {
        #[test]
        fn weights_are_chances_exactly_however_many_there_are(
            weights in proptest::collection::vec(0.01f64..1000.0, 1..200),
        ) {
            let stage = Stage::of(weights.len(), |row| {
                Candidate { weight: weights[row], ..candidate(row) }
            });
            let chances = chances(&stage);
            // All numbers that can be drawn, one in 2^20 of them.
            let mut counts = vec![0.0; weights.len()];
            (0..4096u32).for_each(|number| counts[chances.drawn(number << 20)] += 1.0);
            let all: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = weight / all * 4096.0;
                prop_assert!((count - expected).abs() <= 1.0 + 1e-6, "{count} for {expected}");
            }
        }

        #[test]
        fn a_list_has_as_many_as_there_are_and_nobody_twice(
            weights in proptest::collection::vec(0.001f64..1000.0, 1..9), draw in any::<u32>(),
        ) {
            let stage = Stage::of(weights.len(), |row| {
                Candidate { weight: weights[row], ..candidate(row) }
            });
            let mut list = stage.list(draw, |scene| chances(&stage).choose(scene));
            prop_assert_eq!(list.len(), weights.len().min(3));
            list.sort_unstable();
            prop_assert!(list.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
