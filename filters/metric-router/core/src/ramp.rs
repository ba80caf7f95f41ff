//! How far an endpoint that has come back is taken up: Envoy's slow start, entered again.
//!
//! `factor = max(min_weight, (t / window) ^ (1 / aggression))`, where `t` is the time since the
//! endpoint came: a new address, healthy again, its breaker closed, or found again after it was taken
//! for gone. Envoy begins it for new hosts and after active health checks only.
//!
//! Holding back costs capacity as leaving out does, so no more is held back than can be
//! [`spare`](crate::spare)d: where the others have no places free, ramps become flatter, and no herd
//! comes all the same, because everybody's requests in flight count.
//!
//! An endpoint that is unfit, and is only [kept](crate::fitness) because it cannot be spared, stands at
//! the beginning of its ramp until it has worked again, and then has none: it is needed.
//!
//! The factor is relative to the greatest one: where all have just come, as at the start of the
//! proxy, none is held back. It is a share of the picks and not of the rate: at low load, when
//! nothing is in flight, the smaller rate would lose every comparison, and the endpoint would get
//! nothing until the ramp is over.

use crate::{Facts, SlowStart, fitness};
use shared_state::{HealthState, UnixNanos};

/// From here on the ramp is over: a tenth less is less than chance.
const NEARLY_ALL: f64 = 0.9;

/// The share of the picks that may consider each of them, in their order. Of those that are fit, no
/// more than `spare` endpoints' worth is held back, where that is known.
pub(crate) fn admissions(
    facts: &[&Facts],
    rules: &SlowStart,
    spare: Option<f64>,
    now: UnixNanos,
) -> Vec<f64> {
    let mut shares: Vec<f64> = facts.iter().map(|facts| factor(facts, rules, now)).collect();
    let greatest = shares.iter().copied().fold(0.0, f64::max);
    shares.iter_mut().for_each(|share| *share /= greatest);
    let fit = |facts: &&Facts| fitness::badness(facts) == 0;
    let held: f64 = facts
        .iter()
        .zip(&shares)
        .filter(|(facts, _)| fit(facts))
        .map(|(_, share)| 1.0 - share)
        .sum();
    let flatter = spare.map_or(1.0, |spare| if held > spare { spare.max(0.0) / held } else { 1.0 });
    for (share, _) in shares.iter_mut().zip(facts).filter(|(_, facts)| fit(facts)) {
        *share += (1.0 - *share) * (1.0 - flatter);
        if *share >= NEARLY_ALL {
            *share = 1.0;
        }
    }
    shares
}

fn factor(facts: &Facts, rules: &SlowStart, now: UnixNanos) -> f64 {
    if fitness::badness(facts) > 0 && !rules.window.is_zero() {
        return if facts.works { 1.0 } else { rules.min_weight };
    }
    let works = matches!(facts.state, HealthState::Healthy | HealthState::Ramping);
    let healthy_since = facts.state_since.filter(|_| works);
    // A beginning that lies in the future was written before the clock stepped back.
    let starts = [healthy_since, facts.came_at].into_iter().flatten().filter(|at| *at <= now);
    let Some(since) = starts.max() else { return 1.0 };
    let (elapsed, window) = (now.since(since).as_secs_f64(), rules.window.as_secs_f64());
    if elapsed >= window {
        return 1.0;
    }
    power(elapsed / window, 1.0 / rules.aggression).max(rules.min_weight)
}

/// `base ^ exponent`, for a base from 0 to 1. By roots, bit by bit: the library's own brings tables
/// that are as large as a policy.
fn power(base: f64, exponent: f64) -> f64 {
    let whole = exponent.floor();
    let mut power = (0..whole as u32).fold(1.0, |power, _| power * base);
    let (mut fraction, mut root) = (exponent - whole, base);
    for _ in 0..24 {
        root = root.sqrt();
        fraction *= 2.0;
        if fraction >= 1.0 {
            power *= root;
            fraction -= 1.0;
        }
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::facts;
    use core::time::Duration;
    use proptest::prelude::*;

    const RULES: SlowStart =
        SlowStart { window: Duration::from_secs(10), min_weight: 0.1, aggression: 1.0 };

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn admissions_of(facts: &[Facts], rules: &SlowStart) -> Vec<f64> {
        let facts: Vec<&Facts> = facts.iter().collect();
        admissions(&facts, rules, None, at(1000))
    }

    fn healthy(row: usize, since: u64) -> Facts {
        let state = HealthState::Healthy;
        Facts { state, state_since: Some(at(since)), ..facts(row) }
    }

    fn came(row: usize, at_secs: u64) -> Facts {
        Facts { came_at: Some(at(at_secs)), ..facts(row) }
    }

    #[test]
    fn an_endpoint_that_came_back_starts_slowly() {
        let came_back = [healthy(0, 1000), healthy(1, 995), healthy(2, 990), healthy(3, 2000)];
        assert_eq!(admissions_of(&came_back, &RULES), [0.1, 0.5, 1.0, 1.0]);
        let off = SlowStart { window: Duration::ZERO, ..RULES };
        assert_eq!(admissions_of(&came_back, &off), [1.0; 4]);
    }

    #[test]
    fn a_new_address_and_a_breaker_that_closed_start_slowly_too_and_the_latest_counts() {
        let both = Facts { came_at: Some(at(997)), ..healthy(1, 900) };
        assert_eq!(admissions_of(&[came(0, 998), both, facts(2)], &RULES), [0.2, 0.3, 1.0]);
    }

    #[test]
    fn where_all_have_just_come_none_is_held_back() {
        assert_eq!(admissions_of(&[came(0, 999), came(1, 999), came(2, 999)], &RULES), [1.0; 3]);
    }

    #[test]
    fn who_is_kept_though_unfit_does_not_take_the_place_of_all_that_have_just_come() {
        let dead = Facts { state: HealthState::Down, ..healthy(0, 0) };
        let rejecting = Facts { breaker_rejects: true, ..facts(1) };
        let all = [dead.clone(), rejecting, healthy(2, 995), healthy(3, 995)];
        assert_eq!(admissions_of(&all, &RULES), [0.2, 0.2, 1.0, 1.0]);
        let works = Facts { works: true, ..dead };
        assert_eq!(admissions_of(&[works, facts(1)], &RULES), [1.0, 1.0]);
    }

    #[test]
    fn no_more_is_held_back_than_can_be_spared() {
        let all = [came(0, 1000), came(1, 1000), came(2, 995), facts(3)];
        let all: Vec<&Facts> = all.iter().collect();
        let shares = |spare| admissions(&all, &RULES, Some(spare), at(1000));
        assert_eq!(shares(3.0), [0.1, 0.1, 0.5, 1.0], "2.3 are held back");
        assert_eq!(shares(0.0), [1.0; 4]);
        let half = shares(1.15);
        let held: f64 = half.iter().map(|share| 1.0 - share).sum();
        assert!((held - 1.15).abs() < 1e-9 && half[0] < half[2], "{half:?}");
    }

    #[test]
    fn aggression_bends_the_ramp() {
        let bent = SlowStart { aggression: 2.0, ..RULES };
        let share = admissions_of(&[came(0, 995), facts(1)], &bent)[0];
        assert!((share - 0.5f64.sqrt()).abs() < 1e-9, "{share}");
    }

    proptest! {
        #[test]
        fn a_power_is_what_the_library_says(base in 0.0f64..=1.0, exponent in 0.01f64..100.0) {
            let error = (power(base, exponent) - base.powf(exponent)).abs();
            prop_assert!(error < 1e-5, "{base} {exponent}: {error}");
        }

        #[test]
        fn every_share_is_a_share_and_one_is_whole(
            comings in proptest::collection::vec(proptest::option::of(0u64..2000), 1..20),
            aggression in 0.1f64..10.0,
        ) {
            let all: Vec<_> = comings.iter().enumerate().map(|(row, came)| Facts {
                came_at: came.map(at), ..facts(row)
            }).collect();
            let shares = admissions_of(&all, &SlowStart { aggression, ..RULES });
            prop_assert!(shares.iter().all(|share| *share > 0.0 && *share <= 1.0), "{shares:?}");
            prop_assert!(shares.contains(&1.0));
        }
    }
}
