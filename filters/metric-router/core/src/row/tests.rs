use super::*;
use proptest::prelude::*;

const RULES: LeastCost = LeastCost {
    default_latency: Duration::from_millis(30),
    decay_time: Duration::from_secs(10),
    error_penalty: 10.0,
    full_scan_max: 64,
    choice_count: 0,
};

fn row() -> Row {
    Row::new("backend", "127.0.0.1:1".parse().unwrap())
}

/// A response to a request that found nobody there.
fn measure(row: &mut Row, outcome: Outcome, took: Option<Duration>, now: UnixNanos) {
    let took = took.map(|took| (took, Some(0.0)));
    row.measure(outcome, took, now, &RULES, &mut Concurrency::default());
}

fn latency(row: &Row) -> Option<f64> {
    row.service_time.value(&Concurrency::default())
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(secs)
}

#[test]
fn failing_fast_does_not_look_fast() {
    let mut row = row();
    measure(&mut row, Outcome::Failure, Some(Duration::from_micros(100)), at(1));
    assert!((latency(&row).unwrap() - 0.03).abs() < 1e-9);
}

#[test]
fn a_slow_endpoint_does_not_get_faster_by_failing() {
    let mut row = row();
    measure(&mut row, Outcome::Success, Some(Duration::from_millis(500)), at(1));
    for _ in 0..100 {
        measure(&mut row, Outcome::Failure, Some(Duration::ZERO), at(2));
    }
    assert!((latency(&row).unwrap() - 0.5).abs() < 1e-9);
}

#[test]
fn an_endpoint_that_failed_is_as_fast_as_before() {
    let mut row = row();
    for _ in 0..100 {
        measure(&mut row, Outcome::Success, Some(Duration::from_millis(5)), at(1));
    }
    for _ in 0..100 {
        measure(&mut row, Outcome::Failure, Some(Duration::from_micros(100)), at(2));
    }
    assert!((latency(&row).unwrap() - 0.005).abs() < 1e-9);
}

#[test]
fn what_the_proxy_did_not_ask_says_nothing() {
    let mut row = row();
    measure(&mut row, Outcome::Neutral, Some(Duration::from_secs(1)), at(1));
    assert_eq!((latency(&row), row.succeeded, row.failed), (None, 0, 0));
}

#[test]
fn a_client_that_leaves_says_that_it_is_slow_if_it_had_waited_for_long() {
    let mut row = row();
    let mut leave = |millis, secs| {
        let waited = Some(Duration::from_millis(millis));
        measure(&mut row, Outcome::Abandoned, waited, at(secs));
        (latency(&row), row.last_answer(at(secs)))
    };
    assert_eq!(leave(900, 1), (None, UnixNanos::ZERO), "nothing to compare it with");
    assert_eq!(leave(2000, 2), (Some(2.0), at(2)));
    assert_eq!(leave(1900, 3), (Some(2.0), at(2)), "no longer than it takes");
    let (latency, told_at) = leave(4000, 4);
    assert!(latency.is_some_and(|latency| latency > 2.0) && told_at == at(4));
    assert_eq!((row.succeeded, row.failed), (0, 0));
}

#[test]
fn errors_fade_without_traffic() {
    let mut row = row();
    measure(&mut row, Outcome::Failure, None, at(1));
    assert_eq!(row.error_ratio(at(1), &RULES), 1.0);
    assert!(row.error_ratio(at(61), &RULES) < 0.01);
}

#[test]
fn a_success_after_a_silence_does_not_bring_old_errors_back() {
    let mut row = row();
    (0..10).for_each(|_| measure(&mut row, Outcome::Failure, None, at(1)));
    measure(&mut row, Outcome::Success, None, at(7));
    assert!(row.error_ratio(at(7), &RULES) < 0.1);
}

#[test]
fn a_streak_of_failures_counts_before_the_mean_believes_it() {
    let mut row = row();
    for _ in 0..1000 {
        measure(&mut row, Outcome::Success, None, at(1));
    }
    for expected in [0.0, 1.0 / 3.0, 2.0 / 3.0, 0.8] {
        measure(&mut row, Outcome::Failure, None, at(2));
        assert!((row.streak(at(2), &RULES) - expected).abs() < 1e-9);
    }
    assert!(row.error_ratio(at(2), &RULES) < 0.1);
    measure(&mut row, Outcome::Success, None, at(3));
    assert_eq!(row.streak(at(3), &RULES), 0.0);
}

#[test]
fn a_streak_is_forgiven_as_many_times_later_as_it_is_long_up_to_three() {
    let left = |failures: u64| {
        let at_once = streak(failures as u32, at(10), at(10), &RULES);
        let after = at(10).plus(RULES.forgiveness() * failures.min(3) as u32);
        streak(failures as u32, at(10), after, &RULES) / at_once
    };
    for failures in [2, 3, 4, 1000] {
        assert!((left(failures) - (-1.0f64).exp()).abs() < 1e-6, "{failures}");
    }
}

#[test]
fn the_longer_a_run_of_failures_the_more_the_next_one_weighs_until_it_is_known() {
    let mut row = row();
    let waiting = [1, 3, 6, 10].map(|_| {
        measure(&mut row, Outcome::Failure, None, at(1));
        row.waiting()
    });
    assert_eq!(waiting, [1, 3, 6, 10]);
    row.new_failures = 0;
    measure(&mut row, Outcome::Success, None, at(2));
    measure(&mut row, Outcome::Failure, None, at(2));
    assert_eq!(row.waiting(), 1, "the run is over");
}

#[test]
fn who_failed_twice_in_a_row_is_in_trouble_until_it_works_or_that_is_long_ago() {
    let mut row = row();
    let mut after = |outcome, secs| {
        measure(&mut row, outcome, None, at(secs));
        row.is_in_trouble(at(secs))
    };
    assert!(!after(Outcome::Failure, 1), "one is nothing");
    assert!(after(Outcome::Failure, 2));
    assert!(!after(Outcome::Success, 3));
    assert!(after(Outcome::Unreachable, 4), "nobody is there");
    assert!(row.is_in_trouble(at(63)) && !row.is_in_trouble(at(64)));
}

#[test]
fn one_connection_that_cannot_be_made_says_more_than_one_failure() {
    let (mut failing, mut gone) = (row(), row());
    measure(&mut failing, Outcome::Failure, None, at(1));
    measure(&mut gone, Outcome::Unreachable, None, at(1));
    assert_eq!((failing.waiting(), gone.waiting()), (1, 8));
    assert_eq!(failing.streak(at(1), &RULES), 0.0);
    assert!(gone.streak(at(1), &RULES) > 0.7);
    measure(&mut gone, Outcome::Success, None, at(2));
    assert_eq!(gone.streak(at(2), &RULES), 0.0);
}

#[test]
fn two_misses_in_a_row_make_an_endpoint_absent_for_a_while() {
    let mut row = row();
    row.miss(at(10));
    assert!(!row.is_absent(at(10)));
    row.miss(at(11));
    assert!(row.is_absent(at(12)));
    assert!(!row.is_absent(at(41)), "it is tried again");
    assert!(!row.is_absent(at(5)), "a clock that stepped back ends the absence");
}

#[test]
fn a_table_is_bounded_and_forgets_who_left() {
    let mut table = Table::default();
    for port in 0..3000u16 {
        table.get_or_add("backend", format!("127.0.0.1:{port}").parse().unwrap());
    }
    assert_eq!(table.rows().len(), MAX_ROWS);
    let kept = table.rows()[3].endpoint;
    table.at(7).unwrap().in_flight = 1;
    table.compact(&[kept], at(1));
    assert_eq!(table.rows().len(), 2);
}

proptest! {
    #[test]
    fn no_mix_of_failures_lowers_the_latency_of_the_successes(
        responses in proptest::collection::vec((any::<bool>(), 0u64..200), 1..100),
    ) {
        let (mut mixed, mut clean) = (row(), row());
        for (tick, (ok, millis)) in (1u64..).zip(&responses) {
            let now = UnixNanos::from_millis(tick * 10_000);
            let took = Some(Duration::from_millis(*millis));
            let outcome = if *ok { Outcome::Success } else { Outcome::Failure };
            let before = latency(&mixed).unwrap_or(0.0);
            measure(&mut mixed, outcome, took, now);
            if *ok {
                measure(&mut clean, outcome, took, now);
            } else {
                prop_assert!(latency(&mixed).unwrap() >= before - 1e-9);
            }
        }
        prop_assert!(latency(&clean).is_none() || latency(&mixed).is_some());
    }
}
