//! Where the request is expected to be done first.
//!
//! `cost = (requests in flight + 1) / rate`: the time until this request would be done, if the
//! endpoint serves at `rate`. All candidates are looked at while there are few: a sample of two
//! often misses the best, and a look is some ten nanoseconds. Among many a sample of `log2(n) + 1`
//! comes so close that the rest is not worth its price.

use super::{Choice, Scene};
use crate::rank::cheapest;
use crate::{LeastCost, Policy, Why};

pub(super) fn choose(scene: &Scene<'_>) -> Choice {
    let considered = sample_size(scene.candidates.len(), &scene.config.least_cost);
    let cost = |candidate: &crate::Candidate| (scene.waiting(candidate) + 1.0) / candidate.rate;
    let (list, considered) = cheapest(scene, considered, &cost);
    Choice { policy: Policy::LeastCost, why: Why::Cheapest, considered, list }
}

/// How many of `candidates` are looked at.
fn sample_size(candidates: usize, rules: &LeastCost) -> usize {
    if candidates <= rules.full_scan_max {
        return candidates;
    }
    match rules.choice_count {
        0 => ceil_log2(candidates) + 1,
        count => count,
    }
}

fn ceil_log2(number: usize) -> usize {
    (usize::BITS - number.saturating_sub(1).leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Stage, candidate};
    use crate::{Candidate, Config};

    #[test]
    fn the_load_of_this_and_of_other_workers_both_count() {
        let mut stage = Stage::of(3, |row| Candidate {
            elsewhere: if row == 0 { 2.0 } else { 0.0 },
            ..candidate(row)
        });
        stage.fly(1, 1);
        assert_eq!(stage.list(7, choose), [2, 1, 0]);
    }

    #[test]
    fn twice_the_rate_bears_twice_the_load() {
        let stage = |waiting| {
            Stage::of(2, move |row| match row {
                0 => Candidate { rate: 2.0, elsewhere: waiting, ..candidate(0) },
                row => Candidate { elsewhere: 1.0, ..candidate(row) },
            })
        };
        assert_eq!(stage(2.9).list(0, choose)[0], 0);
        assert_eq!(stage(3.1).list(0, choose)[0], 1);
    }

    #[test]
    fn a_few_are_all_looked_at_and_of_many_a_sample() {
        let rules = |json: &str| {
            let json = format!(r#"{{"clusters":[{{"name":"a","least_cost":{json}}}]}}"#);
            Config::from_json(json.as_bytes()).unwrap().value.clusters[0].least_cost
        };
        let default = rules("{}");
        let sizes = [1, 2, 64, 65, 128, 129, 1000].map(|n| sample_size(n, &default));
        assert_eq!(sizes, [1, 2, 64, 8, 8, 9, 11]);
        assert_eq!(sample_size(9, &rules(r#"{"full_scan_max":8,"choice_count":2}"#)), 2);
    }

    #[test]
    fn a_sample_of_many_finds_an_idle_endpoint_where_the_others_are_busy() {
        // 9 of 10 are busy: 11 looks miss all idle ones in 0.9^11, less than a third of the picks.
        let mut stage = Stage::of(1000, candidate);
        (0..1000).filter(|row| row % 10 != 0).for_each(|row| stage.fly(row, 5));
        let idle =
            |draw: &u32| stage.list(draw.wrapping_mul(0x9e37_79b9), choose)[0].is_multiple_of(10);
        let found = (0..1000).filter(idle).count();
        assert!((600..800).contains(&found), "{found}");
    }
}
