//! Anyone, each with the same chance. What Envoy calls `random`: the yardstick, and a way to find
//! out whether another policy is to blame.

use super::{Choice, Scene};
use crate::rank::cheapest;
use crate::{Policy, Why};

pub(super) fn choose(scene: &Scene<'_>) -> Choice {
    // Equal scores are decided by the draw; a failing endpoint's penalty is all that tells them
    // apart.
    let (list, considered) = cheapest(scene, scene.most, &|candidate| candidate.penalty);
    Choice { policy: Policy::Random, why: Why::Drawn, considered, list }
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
    fn an_endpoint_that_fails_is_listed_behind_the_others() {
        let stage = Stage::of(3, |row| crate::Candidate {
            penalty: if row == 0 { 4.0 } else { 1.0 },
            ..candidate(row)
        });
        assert_eq!(stage.counts(100, choose)[0], 0);
    }
}
