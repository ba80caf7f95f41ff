//! Outcomes that come together mean what they mean one by one.

use super::*;
use crate::SlowCalls;
use proptest::prelude::*;

const NOW: u64 = 1000;

fn outcome() -> impl Strategy<Value = Outcome> {
    let verdict = prop_oneof![
        12 => Just(Success),
        2 => Just(Failure),
        1 => Just(Gateway),
        1 => Just(Local),
        1 => Just(Shed),
        1 => Just(Ignored),
    ];
    let permit = Permit { epoch: 0, id: 0 };
    let permit = prop_oneof![20 => Just(None), 1 => Just(Some(permit))];
    let asked = prop_oneof![20 => Just(None), 1 => Just(Some(Duration::from_secs(7)))];
    (990..=NOW, permit, verdict, prop::bool::weighted(0.1), asked).prop_map(
        |(started_at, permit, verdict, slow, retry_after)| Outcome {
            started_at: at(started_at),
            permit,
            verdict,
            slow,
            retry_after,
        },
    )
}

/// Runs, as they come from a worker.
fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let run = (outcome(), 1usize..12).prop_map(|(outcome, times)| vec![outcome; times]);
    prop::collection::vec(run, 0..12).prop_map(|runs| runs.concat())
}

fn state() -> impl Strategy<Value = BreakerRecord> {
    let closed =
        (990..=NOW, 0u32..3, 0u32..30).prop_map(|(counted_from, trips, successes)| BreakerRecord {
            counted_from: at(counted_from),
            trips,
            decay_successes: successes,
            ..BreakerRecord::default()
        });
    (closed, any::<bool>()).prop_map(|(closed, ramps)| {
        let state = if ramps { BreakerState::Ramping } else { BreakerState::Closed };
        BreakerRecord { state, changed_at: at(990), ramp_until: at(NOW + 9), ..closed }
    })
}

fn rules_of_all_kinds() -> impl Strategy<Value = Rules> {
    let windows = [Window::Time(Duration::from_secs(10)), Window::Count(10), Window::Count(100)];
    (prop::sample::select(windows.to_vec()), 1u32..40, 0u32..6, 1u32..100, any::<bool>()).prop_map(
        |(window, minimum_number_of_calls, consecutive_failures, percent, slow)| Rules {
            window,
            minimum_number_of_calls,
            consecutive_failures,
            failure_rate_threshold: percent.into(),
            slow_calls: slow.then_some(SlowCalls {
                duration: Duration::from_secs(1),
                rate_threshold: percent.into(),
            }),
            ..rules()
        },
    )
}

fn taken(rules: &Rules, prior: &BreakerRecord, outcomes: &[Outcome]) -> Step<()> {
    match record(rules, Some(prior.clone()), outcomes, at(NOW), DRAW) {
        Transition::Keep(step) | Transition::Store(_, step) => step,
    }
}

proptest! {
    #[test]
    fn successes_count_together_as_they_count_one_by_one(
        rules in rules_of_all_kinds(),
        prior in state(),
        earlier in outcomes(),
        outcomes in outcomes(),
    ) {
        let prior = taken(&rules, &prior, &earlier).record;
        let mut one_by_one = taken(&rules, &prior, &[]);
        for outcome in &outcomes {
            // What follows a change was sent before it.
            if one_by_one.change.is_none() {
                one_by_one = taken(&rules, &one_by_one.record, &[*outcome]);
            }
        }
        prop_assert_eq!(taken(&rules, &prior, &outcomes), one_by_one);
    }
}
