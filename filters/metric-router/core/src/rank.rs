//! The cheapest candidates, in order: of all of them, or of a sample.

use crate::Candidate;
use crate::membership::falls_within;
use crate::policy::{Ranked, Scene};

/// The candidates of the least `score`, best first, and how many of them were looked at: `sample`
/// of them, drawn, or all if there are no more, and never fewer than the list is to have.
///
/// Equal scores are decided by the draw, each candidate with the same chance. A candidate that is
/// being ramped up is considered in its share of the draws, and while it has no more in flight than
/// that share of the average; else its score is divided by that share, so that it is a place to retry,
/// and is taken up sooner where the others have more to do than they can. The smaller share alone
/// would not do: at a low load no other has to wait, and it would never be picked. One that is on trial
/// comes first of all when it may be tried: for what its failures cost, it never would.
pub(crate) fn cheapest(
    scene: &Scene<'_>,
    sample: usize,
    score: &dyn Fn(&Candidate) -> f64,
) -> (Vec<Ranked>, usize) {
    let most = scene.most;
    let mut best: Vec<Contender> = Vec::with_capacity(most);
    let consider = |place: usize| {
        let Some(candidate) = scene.candidates.get(place) else { return };
        let is_held_back = candidate.admission < 1.0 && is_held_back(scene, candidate, place);
        let share = if is_held_back { candidate.admission } else { 1.0 };
        let is_tried = candidate.is_on_trial && scene.may_be_tried(candidate);
        let score = if is_tried { 0.0 } else { score(candidate) / share };
        let contender = Contender { score, lot: lot(scene.draw, place), place };
        if best.len() >= most {
            // Most are worse than all that the list has.
            if best.last().is_none_or(|last| last.is_before(&contender)) {
                return;
            }
            best.pop();
        }
        let at = best.iter().take_while(|other| other.is_before(&contender)).count();
        best.insert(at, contender);
    };
    let candidates = scene.candidates.len();
    let sample = sample.max(most);
    let considered = if sample >= candidates {
        (0..candidates).for_each(consider);
        candidates
    } else {
        drawn(candidates, sample, scene.draw).for_each(consider);
        sample
    };
    let ranked = |contender: Contender| Ranked { place: contender.place, score: contender.score };
    (best.into_iter().map(ranked).collect(), considered)
}

#[derive(Clone, Copy)]
struct Contender {
    score: f64,
    lot: u32,
    place: usize,
}

impl Contender {
    fn is_before(&self, other: &Self) -> bool {
        self.score.total_cmp(&other.score).then(self.lot.cmp(&other.lot)).is_lt()
    }
}

fn is_held_back(scene: &Scene<'_>, candidate: &Candidate, place: usize) -> bool {
    let allowed = (candidate.admission * scene.mean_load()).ceil().max(1.0);
    !falls_within(lot(!scene.draw, place), candidate.admission)
        || scene.waiting(candidate) + 1.0 > allowed
}

/// `count` different places below `places`, which must be more: every so many, from anywhere.
fn drawn(places: usize, count: usize, draw: u32) -> impl Iterator<Item = usize> {
    let below = |end: usize, salt| ((u64::from(lot(draw, salt)) * end as u64) >> 32) as usize;
    let stride = 1 + below((places / count.max(1)).max(1), places);
    let begin = below(places, places.wrapping_add(1));
    (0..count).map(move |number| {
        let place = begin + number * stride;
        // It wraps once at most: the strides add up to no more than all places.
        if place < places { place } else { place - places }
    })
}

/// A number for each place that is different with each draw (finaliser of MurmurHash3).
pub(crate) fn lot(draw: u32, place: usize) -> u32 {
    let mut lot = draw ^ (place as u32).wrapping_mul(0x9e37_79b9);
    lot = (lot ^ (lot >> 16)).wrapping_mul(0x85eb_ca6b);
    lot = (lot ^ (lot >> 13)).wrapping_mul(0xc2b2_ae35);
    lot ^ (lot >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Stage, candidate};
    use proptest::prelude::*;

    /// A ramp of 0.25, and one endpoint that needs none.
    fn ramp() -> Stage {
        Stage::of(2, |row| Candidate {
            admission: if row == 0 { 0.25 } else { 1.0 },
            ..candidate(row)
        })
    }

    fn idle(scene: &Scene<'_>) -> Vec<usize> {
        cheapest(scene, 9, &|_| 1.0).0.iter().map(|ranked| ranked.place).collect()
    }

    #[test]
    fn a_ramp_gives_its_share_of_the_picks_also_when_nothing_is_in_flight() {
        let stage = ramp();
        let first =
            |draw: u32| usize::from(idle(&stage.scene(draw.wrapping_mul(0x9e37_79b9)))[0] == 0);
        // A quarter of the draws consider it, and it wins half of those.
        let share = (0..20_000).map(first).sum::<usize>() as f64 / 20_000.0;
        assert!((share - 0.125).abs() < 0.01, "{share}");
        // Held back, it is still a place to retry.
        assert!((0..100).all(|draw| idle(&stage.scene(draw)).len() == 2));
    }

    #[test]
    fn a_ramp_bears_its_share_of_what_the_others_have_in_flight() {
        let mut stage = ramp();
        stage.load = 16.0;
        let taken = |stage: &Stage| (0..1000).any(|draw| idle(&stage.scene(draw))[0] == 0);
        // A quarter of 8 is 2.
        stage.fly(0, 1);
        assert!(taken(&stage));
        stage.fly(0, 2);
        assert!(!taken(&stage));
    }

    #[test]
    fn an_endpoint_on_trial_gets_one_request_and_the_next_a_second_after_it_failed() {
        let mut stage = Stage::of(2, |row| Candidate {
            is_on_trial: row == 0,
            rate: if row == 0 { 0.01 } else { 1.0 },
            ..candidate(row)
        });
        let first = |stage: &Stage| cheapest(&stage.scene(1), 9, &|own| 1.0 / own.rate).0[0].place;
        assert_eq!(first(&stage), 0);
        stage.fly(0, 1);
        assert_eq!(first(&stage), 1, "one at a time");
        stage.fly(0, 0);
        stage.fail(0, crate::Outcome::Unreachable);
        stage.settle(0);
        stage.pass(core::time::Duration::from_millis(999));
        assert_eq!(first(&stage), 1);
        stage.pass(core::time::Duration::from_millis(1));
        assert_eq!(first(&stage), 0);
    }

    #[test]
    fn equal_scores_are_decided_by_the_draw_evenly() {
        let stage = Stage::of(5, candidate);
        let mut counts = [0u32; 5];
        for draw in 0..10_000u32 {
            counts[idle(&stage.scene(draw.wrapping_mul(0x61c8_8647)))[0]] += 1;
        }
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_sample_is_drawn_from_all_evenly() {
        let mut counts = [0u32; 100];
        for draw in 0..10_000u32 {
            let places = drawn(100, 8, draw.wrapping_mul(0x61c8_8647));
            places.for_each(|place| counts[place] += 1);
        }
        assert!(counts.iter().all(|count| (680..920).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn the_list_is_what_a_sort_would_give(
            scores in proptest::collection::vec(0u32..5, 0..40),
            most in 1usize..8,
            draw in any::<u32>(),
        ) {
            let stage = Stage::of(scores.len(), candidate);
            let scene = Scene { most, ..stage.scene(draw) };
            let (list, _) = cheapest(&scene, 64, &|candidate| f64::from(scores[candidate.row]));
            prop_assert_eq!(list.len(), most.min(scores.len()));
            prop_assert!(list.is_sorted_by(|a, b| a.score <= b.score));
            let worst = list.last().map(|ranked| ranked.score);
            let listed = |place| list.iter().any(|ranked| ranked.place == place);
            let left = (0..scores.len()).filter(|place| !listed(*place));
            prop_assert!(left.into_iter().all(|place| worst <= Some(f64::from(scores[place]))));
        }

        #[test]
        fn a_sample_holds_no_place_twice(
            places in 2usize..2000, count in 1usize..16, draw in any::<u32>(),
        ) {
            prop_assume!(count < places);
            let mut found: Vec<_> = drawn(places, count, draw).collect();
            prop_assert!(found.len() == count && found.iter().all(|place| *place < places));
            found.sort_unstable();
            prop_assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
