//! Anyone, each with the same chance, or with that of its weight. What Envoy calls `random`: the
//! yardstick, and a way to find out whether another policy is to blame.

use super::{Choice, Scene};
use crate::rank::{cheapest, lot};
use crate::{Policy, Why};

/// How many are drawn first, each with the same chance; among them the weights decide.
const SAMPLE: usize = 10;

/// What a failing endpoint's penalty outweighs: every draw.
const HEAVIEST: f64 = 1e6;

pub(super) fn choose(scene: &Scene<'_>) -> Choice {
    // Who has the least of exponentially distributed numbers, each divided by the weight, is drawn
    // in proportion to the weights; equal ones are merely shuffled.
    let score = |candidate: &crate::Candidate| {
        let drawn = exponential(!lot(scene.draw, candidate.row));
        candidate.penalty * HEAVIEST + drawn / candidate.weight
    };
    let (list, considered) = cheapest(scene, SAMPLE, &score);
    Choice { policy: Policy::Random, why: Why::Drawn, considered, list }
}

/// Nearly `-log2` of the number as a fraction: each octave is taken for a straight line.
fn exponential(lot: u32) -> f64 {
    let octave = lot.leading_zeros();
    let within = f64::from(lot.checked_shl(octave).unwrap_or(0)) / f64::from(1u32 << 31);
    f64::from(octave) + 2.0 - within
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Stage, candidate};

    #[test]
    fn everyone_gets_the_same_share_whatever_is_in_flight() {
        let mut stage = Stage::of(5, candidate);
        stage.fly(1, 100);
        let counts = stage.counts(10_000, choose);
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    }

    #[test]
    fn weights_are_chances() {
        for (weights, expected) in [
            ([1.0, 0.5, 1.0, 0.5], [3333, 1667, 3333, 1667]),
            ([0.1, 1.0, 1.0, 1.0], [323, 3226, 3226, 3226]),
        ] {
            let stage =
                Stage::of(4, |row| crate::Candidate { weight: weights[row], ..candidate(row) });
            let counts = stage.counts(10_000, choose);
            for (count, expected) in counts.iter().zip(expected) {
                assert!(count.abs_diff(expected) < 250, "{counts:?}");
            }
        }
    }

    #[test]
    fn an_endpoint_that_fails_is_listed_behind_the_others() {
        let stage = Stage::of(3, |row| crate::Candidate {
            penalty: if row == 0 { 4.0 } else { 1.0 },
            ..candidate(row)
        });
        assert_eq!(stage.counts(100, choose)[0], 0);
    }
}
