//! Where the request is expected to be done first.
//!
//! `cost = max(1, (requests in flight + 1) / comfortable) / rate`: the time until this request would
//! be done, if the endpoint serves at `rate` and has nobody wait before it has as many as are
//! [`comfortable`](crate::service_time::Concurrency::comfortable). An idle place costs no wait: among
//! endpoints that have one the fastest is taken, and not the one with the least in flight. All
//! candidates are looked at while there are few: a sample of two
//! often misses the best, and a look is some ten nanoseconds. Among many a sample of `log2(n) + 1`
//! comes so close that the rest is not worth its price.

use super::{Choice, Scene};
use crate::rank::cheapest;
use crate::service_time::crowding;
use crate::{LeastCost, Policy, Why};

/// Whatever was learned, one more than so many times the average in flight counts as a wait. Where most
/// of the traffic comes from other proxies, nothing that this one sends seems to have to wait, and
/// all of it would go to one endpoint.
const MOST_LOAD: f64 = 1.5;

pub(super) fn choose(scene: &Scene<'_>) -> Choice {
    let considered = sample_size(scene.candidates.len(), &scene.config.least_cost);
    let comfortable = scene.comfortable.min(1.0 + MOST_LOAD * scene.mean_load());
    let cost = |candidate: &crate::Candidate| {
        let (in_flight, failures) = scene.work(candidate);
        (crowding(in_flight, comfortable) + failures) / candidate.rate
    };
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
    use crate::{Candidate, Config, Outcome};

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
    fn who_need_not_wait_goes_to_the_fastest_and_who_must_where_it_is_over_first() {
        let mut stage = Stage::of(2, |row| Candidate {
            rate: if row == 0 { 2.0 } else { 1.0 },
            ..candidate(row)
        });
        (stage.comfortable, stage.load) = (4.0, 8.0);
        stage.fly(0, 3);
        assert_eq!(stage.list(0, choose), [0, 1], "the fourth has a place");
        stage.fly(0, 7);
        stage.fly(1, 4);
        assert_eq!(stage.list(0, choose), [0, 1], "twice as long there, 2.5 times as long here");
        stage.fly(0, 8);
        stage.fly(1, 3);
        assert_eq!(stage.list(0, choose), [1, 0]);
    }

    #[test]
    fn whatever_was_learned_nobody_gets_far_more_than_the_others() {
        let mut stage = Stage::of(2, |row| Candidate {
            rate: if row == 0 { 1.2 } else { 1.0 },
            ..candidate(row)
        });
        stage.comfortable = 52.0;
        stage.fly(0, 14);
        stage.fly(1, 1);
        stage.load = 15.0;
        assert_eq!(stage.list(0, choose), [1, 0]);
        stage.fly(1, 9);
        stage.load = 23.0;
        assert_eq!(stage.list(0, choose), [0, 1]);
    }

    #[test]
    fn a_failure_counts_also_where_a_request_would_not_have_to_wait() {
        let mut stage = Stage::of(2, candidate);
        (stage.comfortable, stage.load) = (4.0, 8.0);
        stage.fly(1, 3);
        stage.fail(0, Outcome::Failure);
        assert_eq!(stage.list(0, choose), [1, 0]);
        stage.fly(1, 20);
        assert_eq!(stage.list(0, choose), [0, 1]);
        stage.fail(0, Outcome::Unreachable);
        assert_eq!(stage.list(0, choose), [1, 0]);
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
