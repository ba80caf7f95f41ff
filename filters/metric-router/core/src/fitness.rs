//! Who may be picked: the fit, and if they are too few, the least bad.

use crate::{ClusterConfig, Facts};
use core::cmp::Ordering;
use shared_state::HealthState;
use sorting::sort_by;

/// The endpoints to choose from, and whether so few of all are fit that nothing should be steered.
///
/// At most `max_ejection_percent` of the endpoints are left out for being bad, and no more than can be
/// [`spare`](crate::spare)d, where that is known. Beyond that, the least bad are kept: by state, then
/// by share of failures, then by how long ago they answered. One is always kept. An endpoint that wants
/// no new requests is not bad; it is kept only if no other is fit, and then before those that do not
/// work.
pub(crate) fn choose<'f>(
    facts: &'f [Facts],
    config: &ClusterConfig,
    spare: Option<usize>,
) -> (Vec<&'f Facts>, bool) {
    let mut chosen: Vec<&Facts> = facts.iter().filter(|facts| badness(facts) == 0).collect();
    let panic = chosen.len() as f64 * 100.0 < config.healthy_panic_threshold * facts.len() as f64;
    let leaving: Vec<&Facts> = facts.iter().filter(|facts| badness(facts) == LEAVING).collect();
    if chosen.is_empty() && !leaving.is_empty() {
        return (leaving, panic);
    }
    let staying = facts.len() - leaving.len();
    let ejected = (staying as f64 * config.max_ejection_percent / 100.0).floor() as usize;
    let ejected = spare.map_or(ejected, |spare| ejected.min(spare));
    let kept = staying.saturating_sub(ejected).max(1);
    if chosen.len() < kept {
        let mut bad: Vec<&Facts> = facts.iter().filter(|facts| badness(facts) > LEAVING).collect();
        sort_by(&mut bad, |a, b| by_badness(a, b));
        chosen.extend(bad.into_iter().take(kept - chosen.len()));
    }
    (chosen, panic)
}

/// Badness of an endpoint that wants no new requests.
const LEAVING: u8 = 1;

/// 0 if it may be picked; else the greater the worse.
pub(crate) fn badness(facts: &Facts) -> u8 {
    match facts.state {
        HealthState::Down => 3,
        _ if facts.breaker_rejects => 2,
        HealthState::Unready => LEAVING,
        // What a breaker rejects is told by its own record.
        _ => 0,
    }
}

fn by_badness(a: &Facts, b: &Facts) -> Ordering {
    let by_errors = || a.error_ratio.total_cmp(&b.error_ratio);
    let by_age = || a.latency_age.cmp(&b.latency_age);
    badness(a).cmp(&badness(b)).then_with(by_errors).then_with(by_age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{config, facts};
    use core::time::Duration;
    use proptest::prelude::*;

    fn down(row: usize, error_ratio: f64) -> Facts {
        Facts { state: HealthState::Down, error_ratio, ..facts(row) }
    }

    fn unready(row: usize) -> Facts {
        Facts { state: HealthState::Unready, ..facts(row) }
    }

    fn rows(facts: &[Facts], more: &str) -> Vec<usize> {
        choose(facts, &config(more), None).0.iter().map(|facts| facts.row).collect()
    }

    const STEADY: &str = r#","healthy_panic_threshold":0"#;
    const HALF: &str = r#","healthy_panic_threshold":0,"max_ejection_percent":50"#;

    #[test]
    fn who_is_unfit_is_no_candidate() {
        let rejecting = Facts { breaker_rejects: true, ..facts(2) };
        let all = [down(0, 0.0), unready(1), rejecting, facts(3), facts(4), facts(5)];
        assert_eq!(rows(&all, ""), [3, 4, 5]);
        assert!(!choose(&all, &config(""), None).1);
    }

    #[test]
    fn the_panic_threshold_is_crossed_below_it_and_not_at_it() {
        let panics = |facts: &[Facts]| choose(facts, &config(""), None).1;
        assert!(!panics(&[down(0, 0.0), facts(1)]));
        assert!(panics(&[down(0, 0.0), down(1, 0.0), facts(2)]));
        assert!(!panics(&[]));
    }

    #[test]
    fn one_is_always_kept_the_least_bad_of_all() {
        assert_eq!(rows(&[down(0, 0.9), down(1, 0.4), down(2, 0.5)], STEADY), [1]);
        let older = Facts { latency_age: Duration::from_secs(9), ..down(0, 0.5) };
        assert_eq!(rows(&[older, down(1, 0.5)], STEADY), [1]);
        let rejecting = Facts { breaker_rejects: true, error_ratio: 1.0, ..facts(1) };
        assert_eq!(rows(&[down(0, 0.0), rejecting], STEADY), [1], "a breaker may be wrong");
    }

    #[test]
    fn no_more_are_ejected_than_allowed_and_the_least_bad_are_kept() {
        let all = [down(0, 0.9), down(1, 0.1), facts(2), down(3, 0.5)];
        assert_eq!(rows(&all, STEADY), [2]);
        assert_eq!(rows(&all, HALF), [2, 1]);
    }

    #[test]
    fn no_more_are_ejected_than_can_be_spared_and_the_least_bad_are_kept() {
        let all = [down(0, 0.9), down(1, 0.1), facts(2), down(3, 0.5)];
        let rows = |more: &str, spare| -> Vec<usize> {
            choose(&all, &config(more), Some(spare)).0.iter().map(|facts| facts.row).collect()
        };
        assert_eq!(
            [1, 2, 3].map(|spare| rows(STEADY, spare)),
            [vec![2, 1, 3], vec![2, 1], vec![2]]
        );
        assert_eq!(rows(HALF, 3), [2, 1], "the configuration may allow less");
    }

    #[test]
    fn an_endpoint_that_leaves_is_not_kept_for_the_sake_of_a_number() {
        let all = [unready(0), unready(1), unready(2), facts(3)];
        assert_eq!(rows(&all, HALF), [3]);
        assert_eq!(rows(&[down(0, 0.0), unready(1)], STEADY), [1], "but it works");
    }

    proptest! {
        #[test]
        fn somebody_is_always_kept_and_everybody_who_is_fit(
            states in proptest::collection::vec((0u8..4, 0.0f64..=1.0), 1..20),
            percent in 0u8..=100,
        ) {
            let all: Vec<_> = states.iter().enumerate().map(|(row, (state, errors))| match state {
                0 => down(row, *errors),
                1 => unready(row),
                2 => Facts { breaker_rejects: true, error_ratio: *errors, ..facts(row) },
                _ => facts(row),
            }).collect();
            let more = format!(r#","max_ejection_percent":{percent}"#);
            let kept = rows(&all, &more);
            prop_assert!(!kept.is_empty());
            let fit = all.iter().filter(|facts| badness(facts) == 0);
            prop_assert!(fit.map(|facts| facts.row).all(|row| kept.contains(&row)));
        }
    }
}
