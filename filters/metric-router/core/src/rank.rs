//! The cheapest candidates, in order.
//!
//! A full scan and not a sample of two: with few endpoints a sample often misses the best, and the
//! scan is some ten nanoseconds an endpoint. `cost = (requests in flight + 1) / rate`: the time
//! until this request would be done, if the endpoint serves at `rate`.

use crate::Candidate;

/// Places in a snapshot of the cheapest candidates, at most `most` of them. `in_flight` gives this
/// worker's own requests at a candidate, which change between snapshots. Equal costs are decided by
/// `draw`, each candidate with the same chance. A candidate that is being ramped up is considered in
/// its share of the draws; in the others it comes after all that are, as a place to retry.
pub(crate) fn cheapest(
    candidates: &[Candidate],
    most: usize,
    draw: u32,
    in_flight: impl Fn(&Candidate) -> u32,
) -> Vec<usize> {
    let mut best: Vec<Ranked> = Vec::with_capacity(most.saturating_add(1));
    for (place, candidate) in candidates.iter().enumerate() {
        let waiting = f64::from(in_flight(candidate)) + candidate.elsewhere + 1.0;
        let held_back = candidate.admission < 1.0
            && f64::from(lot(!draw, place)) >= candidate.admission * f64::from(u32::MAX);
        let cost = waiting / candidate.rate;
        let ranked = Ranked { held_back, cost, lot: lot(draw, place), place };
        let at = best.partition_point(|other| other.is_before(&ranked));
        if at < most {
            best.insert(at, ranked);
            best.truncate(most);
        }
    }
    best.into_iter().map(|ranked| ranked.place).collect()
}

#[derive(Clone, Copy)]
struct Ranked {
    held_back: bool,
    cost: f64,
    lot: u32,
    place: usize,
}

impl Ranked {
    fn is_before(&self, other: &Self) -> bool {
        let by_cost = || self.cost.total_cmp(&other.cost).then(self.lot.cmp(&other.lot));
        self.held_back.cmp(&other.held_back).then_with(by_cost).is_lt()
    }
}

/// A number for each place that is different with each draw (finaliser of MurmurHash3).
fn lot(draw: u32, place: usize) -> u32 {
    let mut lot = draw ^ (place as u32).wrapping_mul(0x9e37_79b9);
    lot = (lot ^ (lot >> 16)).wrapping_mul(0x85eb_ca6b);
    lot = (lot ^ (lot >> 13)).wrapping_mul(0xc2b2_ae35);
    lot ^ (lot >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(row: usize, rate: f64, elsewhere: f64) -> Candidate {
        let endpoint = format!("127.0.0.1:{}", row + 1).parse().unwrap();
        Candidate { endpoint, row, elsewhere, rate, admission: 1.0 }
    }

    #[test]
    fn the_load_of_this_and_of_other_workers_both_count() {
        let candidates = [candidate(0, 1.0, 2.0), candidate(1, 1.0, 0.0), candidate(2, 1.0, 0.0)];
        let own = |candidate: &Candidate| u32::from(candidate.row == 1);
        assert_eq!(cheapest(&candidates, 3, 7, own), [2, 1, 0]);
    }

    #[test]
    fn a_ramp_gives_its_share_of_the_picks_also_when_nothing_is_in_flight() {
        let ramping = Candidate { admission: 0.25, ..candidate(0, 1.0, 0.0) };
        let candidates = [ramping, candidate(1, 1.0, 0.0)];
        let first = |draw: u32| {
            let spread = draw.wrapping_mul(0x9e37_79b9);
            usize::from(cheapest(&candidates, 2, spread, |_| 0)[0] == 0)
        };
        // A quarter of the draws consider it, and it wins half of those.
        let share = (0..20_000).map(first).sum::<usize>() as f64 / 20_000.0;
        assert!((share - 0.125).abs() < 0.01, "{share}");
        // Held back, it is still a place to retry.
        assert!((0..100).all(|draw| cheapest(&candidates, 2, draw, |_| 0).len() == 2));
    }

    #[test]
    fn twice_the_rate_bears_twice_the_load() {
        let candidates = [candidate(0, 2.0, 2.9), candidate(1, 1.0, 1.0)];
        assert_eq!(cheapest(&candidates, 1, 0, |_| 0), [0]);
        let candidates = [candidate(0, 2.0, 3.1), candidate(1, 1.0, 1.0)];
        assert_eq!(cheapest(&candidates, 1, 0, |_| 0), [1]);
    }

    #[test]
    fn equal_costs_are_decided_by_the_draw_evenly() {
        let candidates: Vec<_> = (0..5).map(|row| candidate(row, 1.0, 0.0)).collect();
        let mut counts = [0u32; 5];
        for draw in 0..10_000u32 {
            counts[cheapest(&candidates, 1, draw.wrapping_mul(0x61c8_8647), |_| 0)[0]] += 1;
        }
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn the_list_is_what_a_sort_would_give(
            rates in proptest::collection::vec((0.1f64..10.0, 0u32..5), 0..40),
            most in 1usize..8,
            draw in any::<u32>(),
        ) {
            let candidates: Vec<_> =
                rates.iter().enumerate().map(|(row, (rate, _))| candidate(row, *rate, 0.0)).collect();
            let load = |candidate: &Candidate| rates[candidate.row].1;
            let list = cheapest(&candidates, most, draw, load);
            let cost = |row: usize| (f64::from(rates[row].1) + 1.0) / rates[row].0;
            prop_assert_eq!(list.len(), most.min(rates.len()));
            prop_assert!(list.is_sorted_by(|a, b| cost(*a) <= cost(*b)));
            let worst = list.last().map(|row| cost(*row));
            let left = (0..rates.len()).filter(|row| !list.contains(row));
            prop_assert!(left.into_iter().all(|row| worst.is_some_and(|worst| cost(row) >= worst)));
        }
    }
}
