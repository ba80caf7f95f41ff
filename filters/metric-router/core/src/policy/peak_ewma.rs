//! Finagle's and Linkerd's policy: the latency as its latest peaks have it, times what waits.
//!
//! `cost = peak * (requests in flight + 1)`. The peak follows a slow answer at once and a fast one
//! with the time constant, and fades while nothing is sent. That is nervous by intention, and
//! forgiven by a sampler of two; a full scan would follow every peak, so it is left to clusters in
//! which a sample of two is nearly all. Three differences from the originals: requests in flight are
//! those of all workers, and an error costs, and a weight brings, what it does everywhere here.

use super::{Choice, Scene};
use crate::rank::cheapest;
use crate::{Policy, Why};

pub(super) fn choose(scene: &Scene<'_>) -> Choice {
    let rules = &scene.config.peak_ewma;
    let candidates = scene.candidates.len();
    let sample = if candidates <= rules.full_scan_max { candidates } else { rules.choice_count };
    let cost = |candidate: &crate::Candidate| {
        let row = scene.table.rows().get(candidate.row);
        let peak = row.and_then(|row| row.peak.value(scene.now, rules.decay_time));
        let peak = peak.unwrap_or(rules.default_rtt.as_secs_f64());
        peak * (scene.waiting(candidate) + 1.0) * candidate.penalty / candidate.weight
    };
    let (list, considered) = cheapest(scene, sample, &cost);
    Choice { policy: Policy::PeakEwma, why: Why::Cheapest, considered, list }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Stage, candidate};
    use core::time::Duration;

    #[test]
    fn the_slower_one_bears_less() {
        let mut stage = Stage::of(2, candidate);
        stage.peak(0, Duration::from_millis(10));
        stage.peak(1, Duration::from_millis(30));
        stage.fly(0, 1);
        assert_eq!(stage.list(1, choose), [0, 1], "20 ms against 30");
        stage.fly(0, 2);
        assert_eq!(stage.list(1, choose), [1, 0], "40 ms against 30");
    }

    #[test]
    fn an_endpoint_that_never_answered_is_as_slow_as_is_configured() {
        let mut stage = Stage::of(2, candidate);
        stage.peak(0, Duration::from_millis(31));
        assert_eq!(stage.list(1, choose), [1, 0]);
        stage.peak(0, Duration::from_millis(40));
        stage.fly(1, 1);
        assert_eq!(stage.list(1, choose), [0, 1]);
    }

    #[test]
    fn half_the_weight_bears_half_the_load() {
        let mut stage = Stage::of(2, |row| crate::Candidate {
            weight: if row == 0 { 0.5 } else { 1.0 },
            ..candidate(row)
        });
        stage.fly(1, 2);
        assert_eq!(
            stage.list(1, choose),
            [0, 1],
            "2 for the one that would be first, 3 for the other"
        );
        stage.fly(0, 1);
        assert_eq!(stage.list(1, choose), [1, 0], "4 against 3");
    }

    #[test]
    fn of_many_two_are_compared() {
        let stage = Stage::of(20, candidate);
        assert_eq!(choose(&stage.scene(1)).considered, 3, "the list names three");
        assert_eq!(choose(&crate::policy::Scene { most: 1, ..stage.scene(1) }).considered, 2);
    }
}
