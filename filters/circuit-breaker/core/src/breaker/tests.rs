mod alike;
mod asked;
mod ramp;

use super::*;
use crate::Jitter;
use crate::backoff::Backoff;
use crate::window::Window;
use Verdict::{Failure, Gateway, Ignored, Local, Shed, Success};

const DRAW: u64 = 0;

fn rules() -> Rules {
    Rules { backoff: Backoff { jitter: Jitter::None, ..Backoff::DEFAULT }, ..Rules::DEFAULT }
}

fn by_rate() -> Rules {
    Rules { consecutive_failures: 0, ..rules() }
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(secs)
}

/// A breaker and its clock, driven as [`shared_state::update()`] drives it.
struct Driver {
    rules: Rules,
    record: Option<BreakerRecord>,
    now: u64,
    last_change: Option<Change>,
    tally: PermitTally,
}

impl Driver {
    fn new(rules: Rules) -> Self {
        Self { rules, record: None, now: 1000, last_change: None, tally: PermitTally::default() }
    }

    fn open() -> Self {
        let mut driver = Self::new(rules());
        driver.ends(&[Failure; 5]);
        assert_eq!(driver.state(), BreakerState::Open);
        driver
    }

    fn half_open(rules: Rules) -> (Self, Permit) {
        let mut driver = Self::open();
        driver.rules = rules;
        driver.now += 5;
        let permit = driver.probe();
        (driver, permit)
    }

    fn state(&self) -> BreakerState {
        self.record.as_ref().map_or(BreakerState::Closed, |record| record.state)
    }

    fn apply<T>(&mut self, transition: Transition<BreakerRecord, Step<T>>) -> T {
        let step = match transition {
            Transition::Keep(step) => {
                assert!(step.change.is_none(), "a change that nobody stores");
                step
            }
            Transition::Store(record, step) => {
                assert_eq!(record, step.record);
                self.record = Some(record);
                step
            }
        };
        self.last_change = step.change;
        self.tally = step.permits;
        step.value
    }

    fn admit(&mut self) -> Admission {
        let transition = admit(&self.rules, self.record.clone(), at(self.now), DRAW);
        self.apply(transition)
    }

    fn probe(&mut self) -> Permit {
        match self.admit() {
            Admission::Probe(permit) => permit,
            other => panic!("no permit but {other:?}"),
        }
    }

    fn record(&mut self, outcomes: &[Outcome]) {
        let transition = record(&self.rules, self.record.clone(), outcomes, at(self.now), DRAW);
        self.apply(transition);
    }

    fn ends(&mut self, verdicts: &[Verdict]) {
        let started_at = at(self.now);
        let outcome = |verdict: &Verdict| Outcome::new(started_at, None, *verdict);
        self.record(&verdicts.iter().map(outcome).collect::<Vec<_>>());
    }

    fn resolve(&mut self, permit: Permit, verdict: Verdict) {
        self.record(&[Outcome::new(at(self.now), Some(permit), verdict)]);
    }
}

fn is_rejected(admission: Admission) -> bool {
    matches!(admission, Admission::Reject { .. })
}

#[test]
fn a_breaker_without_a_record_is_closed_and_writes_nothing() {
    let mut cold = Driver::new(rules());
    assert_eq!((cold.admit(), cold.record.clone()), (Admission::Allow, None));
    cold.ends(&[Ignored; 9]);
    assert_eq!(cold.record, None);
}

#[test]
fn the_fifth_failure_in_a_row_trips_and_the_fourth_does_not() {
    let mut driver = Driver::new(rules());
    driver.ends(&[Failure; 4]);
    assert_eq!((driver.state(), driver.admit()), (BreakerState::Closed, Admission::Allow));
    driver.ends(&[Failure]);
    let change = driver.last_change.unwrap();
    assert_eq!((change.from, change.to), (BreakerState::Closed, BreakerState::Open));
    assert_eq!(change.reason, Reason::ConsecutiveFailures(5));
    assert_eq!(driver.admit(), Admission::Reject { retry_after: Duration::from_secs(5) });
}

#[test]
fn one_success_starts_the_row_again_and_an_ignored_outcome_does_not() {
    let mut driver = Driver::new(rules());
    driver.ends(&[Failure, Failure, Failure, Failure, Success, Failure]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Failure, Failure, Ignored, Failure]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Failure]);
    assert_eq!(driver.state(), BreakerState::Open);
}

#[test]
fn half_of_twenty_calls_trip_and_half_of_nineteen_do_not() {
    let mut driver = Driver::new(by_rate());
    driver.ends(&[Failure; 10]);
    driver.ends(&[Success; 9]);
    assert_eq!(driver.state(), BreakerState::Closed, "19 calls say nothing");
    driver.ends(&[Success]);
    let reason = driver.last_change.unwrap().reason;
    assert_eq!(reason, Reason::FailureRate { percent: 50.0, calls: 20 });
}

#[test]
fn just_below_the_threshold_stays_closed() {
    let mut driver = Driver::new(by_rate());
    driver.ends(&[Success; 11]);
    driver.ends(&[Failure; 9]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Failure; 2]);
    assert_eq!(driver.state(), BreakerState::Open, "11 of 22");
}

#[test]
fn failures_that_left_the_window_are_forgotten() {
    let mut driver = Driver::new(by_rate());
    driver.ends(&[Failure; 19]);
    driver.now += 11;
    driver.ends(&[Success; 20]);
    driver.ends(&[Failure; 19]);
    assert_eq!(driver.state(), BreakerState::Closed);
}

#[test]
fn open_rejects_until_its_time_is_over_and_then_probes() {
    let mut driver = Driver::open();
    driver.now += 4;
    assert_eq!(driver.admit(), Admission::Reject { retry_after: Duration::from_secs(1) });
    driver.now += 1;
    assert_eq!(driver.probe(), Permit { epoch: 2, id: 0 });
    assert_eq!(driver.last_change.unwrap().reason, Reason::OpenTimeOver);
}

#[test]
fn an_open_breaker_whose_endpoint_is_needed_probes_before_its_time_and_no_more_than_usual() {
    let mut driver = Driver::open();
    let needed = |driver: &mut Driver| {
        let transition = admit_needed(&driver.rules, driver.record.clone(), at(driver.now), DRAW);
        driver.apply(transition)
    };
    assert_eq!(needed(&mut driver), Admission::Probe(Permit { epoch: 2, id: 0 }));
    assert_eq!(driver.last_change.unwrap().reason, Reason::Needed);
    assert!(matches!(needed(&mut driver), Admission::Probe(_)));
    assert_eq!(driver.last_change, None);
    assert!(matches!(needed(&mut driver), Admission::Probe(_)));
    assert!(matches!(needed(&mut driver), Admission::Reject { .. }));
    let mut closed = Driver::new(rules());
    assert_eq!(needed(&mut closed), Admission::Allow);
}

#[test]
fn half_open_grants_its_permits_and_no_more() {
    let (mut driver, _) = Driver::half_open(rules());
    let (second, third) = (driver.probe(), driver.probe());
    assert_eq!((second.id, third.id), (1, 2));
    assert!(is_rejected(driver.admit()));
}

#[test]
fn half_open_lets_no_more_probes_run_at_once_than_allowed() {
    let (mut driver, first) = Driver::half_open(Rules { max_concurrent: 1, ..rules() });
    assert!(is_rejected(driver.admit()));
    driver.resolve(first, Success);
    assert!(!is_rejected(driver.admit()));
}

#[test]
fn where_it_begins_with_one_probe_a_success_lets_the_others_in_and_a_failure_the_next_one() {
    let rules = Rules { one_at_first: true, permitted_calls: 4, ..rules() };
    let (mut driver, first) = Driver::half_open(rules);
    assert!(is_rejected(driver.admit()));
    driver.resolve(first, Failure);
    let second = driver.probe();
    assert!(is_rejected(driver.admit()), "nothing has spoken for it yet");
    driver.resolve(second, Success);
    let others = [driver.probe().id, driver.probe().id];
    assert_eq!(others, [2, 3]);
}

#[test]
fn probes_that_succeed_close_it_as_soon_as_the_rest_cannot_matter() {
    let (mut driver, first) = Driver::half_open(rules());
    driver.resolve(first, Success);
    assert_eq!(driver.state(), BreakerState::HalfOpen);
    let second = driver.probe();
    driver.resolve(second, Success);
    let change = driver.last_change.unwrap();
    assert_eq!(change.reason, Reason::ProbesSucceeded { succeeded: 2, of: 3 });
    assert_eq!(driver.admit(), Admission::Allow);
}

#[test]
fn probes_that_fail_reopen_it_for_longer() {
    let (mut driver, first) = Driver::half_open(rules());
    let second = driver.probe();
    driver.resolve(first, Failure);
    driver.resolve(second, Failure);
    let change = driver.last_change.unwrap();
    assert_eq!(change.reason, Reason::ProbesFailed { failed: 2, of: 3 });
    assert_eq!(change.time, Some(Duration::from_secs(10)), "twice the base");
}

#[test]
fn a_probe_that_proves_nothing_gives_its_permit_back() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    assert!(is_rejected(driver.admit()));
    driver.resolve(first, Ignored);
    assert_eq!(driver.tally.returned, 1);
    assert_ne!(driver.probe(), first, "a permit is never granted twice");
}

#[test]
fn a_lost_permit_is_a_failure_so_half_open_never_sticks() {
    let (mut driver, _) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.now += 9;
    assert!(is_rejected(driver.admit()));
    driver.now += 1;
    assert!(is_rejected(driver.admit()));
    assert_eq!(driver.tally.expired, 1);
    assert_eq!(driver.state(), BreakerState::Open);
    driver.now += 10;
    driver.probe();
}

#[test]
fn a_lost_permit_can_be_told_to_be_free_again() {
    let ignored = Rules { permitted_calls: 1, on_lease_expiry: LeaseExpiry::Ignored, ..rules() };
    let (mut driver, _) = Driver::half_open(ignored);
    driver.now += 10;
    assert_eq!(driver.probe().id, 1);
}

#[test]
fn the_result_of_a_lost_permit_comes_too_late() {
    let (mut driver, first) = Driver::half_open(rules());
    driver.now += 10;
    driver.resolve(first, Success);
    assert_eq!((driver.tally.expired, driver.tally.succeeded), (1, 0));
}

#[test]
fn a_result_of_an_earlier_epoch_never_decides() {
    let (mut driver, late) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.now += 10;
    driver.admit();
    driver.now += 10;
    driver.probe();
    driver.resolve(late, Success);
    assert_eq!(driver.state(), BreakerState::HalfOpen);
}

#[test]
fn requests_from_before_the_last_change_do_not_count() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    let before = at(driver.now - 3);
    driver.resolve(first, Success);
    assert_eq!(driver.state(), BreakerState::Closed);
    let late = Outcome::new(before, None, Failure);
    driver.record(&[late; 50]);
    assert_eq!(driver.state(), BreakerState::Closed);
}

#[test]
fn they_do_not_count_for_a_worker_whose_clock_is_a_moment_behind_the_change_either() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    let before = at(driver.now - 3);
    driver.resolve(first, Success);
    let late = Outcome::new(before, None, Failure);
    let moment_before = at(driver.now).minus(Duration::from_micros(50));
    let step = record(&driver.rules, driver.record, &[late; 50], moment_before, DRAW);
    assert!(matches!(step, Transition::Keep(Step { change: None, .. })), "{step:?}");
}

#[test]
fn results_without_a_permit_do_not_decide_a_half_open_breaker() {
    let (mut driver, _) = Driver::half_open(rules());
    driver.ends(&[Success; 50]);
    driver.ends(&[Failure; 50]);
    assert_eq!(driver.state(), BreakerState::HalfOpen);
}

#[test]
fn one_batch_makes_one_change_at_most() {
    let mut driver = Driver::new(Rules { consecutive_failures: 1, ..rules() });
    driver.ends(&[Failure; 7]);
    assert_eq!(driver.record.unwrap().epoch, 1);
}

#[test]
fn what_follows_a_change_within_one_batch_was_sent_before_it() {
    let touchy = Rules { permitted_calls: 1, consecutive_failures: 1, ..rules() };
    let (mut driver, first) = Driver::half_open(touchy);
    let started_at = at(driver.now);
    let closes = Outcome::new(started_at, Some(first), Success);
    let trips = Outcome::new(started_at, None, Failure);
    driver.record(&[closes, trips]);
    assert_eq!(driver.state(), BreakerState::Closed);
}

#[test]
fn a_clock_that_steps_back_does_not_keep_the_backoff_for_ever() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.resolve(first, Success);
    driver.now -= 900;
    driver.ends(&[Success]);
    driver.now += 60;
    driver.ends(&[Success; 19]);
    assert_eq!(driver.record.unwrap().trips, 0);
}

#[test]
fn the_backoff_is_forgotten_by_evidence_and_not_by_time() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.resolve(first, Success);
    let trips = |driver: &Driver| driver.record.as_ref().unwrap().trips;
    driver.now += 3600;
    driver.ends(&[Success; 19]);
    assert_eq!(trips(&driver), 1, "an hour without requests proves nothing");
    driver.ends(&[Success]);
    assert_eq!(trips(&driver), 0);
}

#[test]
fn the_backoff_is_forgotten_no_faster_than_one_trip_an_interval() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.resolve(first, Success);
    driver.now += 59;
    driver.ends(&[Success; 1000]);
    assert_eq!(driver.record.as_ref().unwrap().trips, 1);
    driver.now += 1;
    driver.ends(&[Success]);
    assert_eq!(driver.record.as_ref().unwrap().trips, 0);
}

#[test]
fn a_clock_that_steps_back_opens_the_way_to_half_open() {
    let mut driver = Driver::open();
    driver.now -= 500;
    driver.probe();
}

#[test]
fn a_clock_that_steps_back_frees_the_permits_that_were_leased_in_the_future() {
    let (mut driver, _) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.now -= 500;
    let again = driver.probe();
    driver.resolve(again, Success);
    assert_eq!(driver.state(), BreakerState::Closed);
}

#[test]
fn a_clock_that_steps_back_does_not_make_requests_late() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ..rules() });
    driver.resolve(first, Success);
    driver.now -= 500;
    driver.ends(&[Failure; 5]);
    assert_eq!(driver.state(), BreakerState::Open);
}

#[test]
fn a_clock_far_ahead_probes_and_forgets_the_window() {
    let mut driver = Driver::open();
    driver.now = u64::MAX / 2_000_000_000;
    driver.probe();
    let mut closed = Driver::new(by_rate());
    closed.ends(&[Failure; 19]);
    closed.now = u64::MAX / 2_000_000_000;
    closed.ends(&[Failure]);
    assert_eq!(closed.state(), BreakerState::Closed);
}

#[test]
fn counters_at_their_ends_do_not_overflow() {
    let mut driver = Driver::open();
    let record = driver.record.as_mut().unwrap();
    (record.trips, record.epoch) = (u32::MAX, u32::MAX);
    driver.now += 5;
    let permit = driver.probe();
    assert_eq!(permit.epoch, 0);
    let second = driver.probe();
    driver.resolve(permit, Failure);
    driver.resolve(second, Failure);
    assert_eq!(driver.record.as_ref().unwrap().trips, u32::MAX);
    let mut closed = Driver::new(by_rate());
    closed.record =
        Some(BreakerRecord { consecutive_failures: u32::MAX, ..BreakerRecord::default() });
    closed.ends(&[Failure]);
    assert_eq!(closed.state(), BreakerState::Closed);
}

#[test]
fn fewer_permits_in_a_new_configuration_do_not_strand_the_ones_of_the_old() {
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 5, ..rules() });
    driver.rules = rules();
    let rest = [driver.probe(), driver.probe()];
    for permit in [first, rest[0], rest[1]] {
        driver.resolve(permit, Success);
    }
    assert_eq!(driver.state(), BreakerState::Closed);
}

#[test]
fn a_threshold_of_all_reopens_only_when_all_probes_fail() {
    let all = Rules { failure_rate_threshold: 100.0, ..rules() };
    let (mut driver, first) = Driver::half_open(all);
    let second = driver.probe();
    driver.resolve(first, Failure);
    driver.resolve(second, Failure);
    assert_eq!(driver.state(), BreakerState::HalfOpen);
    let third = driver.probe();
    driver.resolve(third, Success);
    assert_eq!(driver.state(), BreakerState::Closed);
}

fn slow(verdict: Verdict, now: u64) -> Outcome {
    Outcome { slow: true, ..Outcome::new(at(now), None, verdict) }
}

fn with_slow_calls(rules: Rules) -> Rules {
    let duration = Duration::from_secs(1);
    Rules { slow_calls: Some(SlowCalls { duration, rate_threshold: 80.0 }), ..rules }
}

#[test]
fn slow_calls_trip_though_all_of_them_succeed() {
    let mut driver = Driver::new(with_slow_calls(rules()));
    driver.record(&[slow(Success, 1000); 15]);
    driver.ends(&[Success; 4]);
    assert_eq!(driver.state(), BreakerState::Closed, "19 calls say nothing");
    driver.record(&[slow(Success, 1000)]);
    let reason = driver.last_change.unwrap().reason;
    assert_eq!(reason, Reason::SlowCallRate { percent: 80.0, calls: 20 });
    assert_eq!(driver.record.unwrap().severity, 800);
}

#[test]
fn a_client_that_gave_up_on_a_slow_call_has_seen_a_slow_call_and_no_failure() {
    let mut driver = Driver::new(with_slow_calls(rules()));
    driver.ends(&[Failure; 4]);
    driver.record(&[slow(Ignored, 1000); 15]);
    assert_eq!(driver.state(), BreakerState::Closed);
    assert_eq!(driver.record.as_ref().unwrap().consecutive_failures, 4, "the row goes on");
    driver.record(&[slow(Ignored, 1000); 5]);
    assert!(matches!(driver.last_change.unwrap().reason, Reason::SlowCallRate { .. }));
}

#[test]
fn probes_that_are_slow_reopen_it() {
    let (mut driver, first) = Driver::half_open(with_slow_calls(rules()));
    let probes = [first, driver.probe(), driver.probe()];
    let outcome = |permit| Outcome { permit: Some(permit), ..slow(Success, 1005) };
    driver.record(&probes[..2].iter().copied().map(outcome).collect::<Vec<_>>());
    assert_eq!(driver.state(), BreakerState::HalfOpen, "two of three are not 80 percent");
    driver.record(&[outcome(probes[2])]);
    assert_eq!(driver.last_change.unwrap().reason, Reason::ProbesSlow { slow: 3, of: 3 });
}

#[test]
fn a_window_by_number_knows_the_last_calls_only() {
    let by_count = Rules { window: Window::Count(20), ..by_rate() };
    let mut driver = Driver::new(by_count);
    driver.ends(&[Success; 100]);
    driver.ends(&[Failure; 9]);
    driver.now += 100_000;
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Failure]);
    let reason = driver.last_change.unwrap().reason;
    assert_eq!(reason, Reason::FailureRate { percent: 50.0, calls: 20 });
}

#[test]
fn gateway_failures_are_a_row_of_their_own() {
    let rules = Rules { consecutive_failures: 0, consecutive_gateway_failures: 3, ..rules() };
    let mut driver = Driver::new(rules);
    driver.ends(&[Gateway, Gateway, Failure, Gateway, Gateway]);
    assert_eq!(driver.state(), BreakerState::Closed, "a plain 500 breaks the row");
    driver.ends(&[Local]);
    assert_eq!(driver.last_change.unwrap().reason, Reason::ConsecutiveGatewayFailures(3));
}

#[test]
fn with_the_split_a_refused_connection_is_no_failure_of_the_endpoints_answers() {
    let mut driver = Driver::new(Rules { local_origin_failures: Some(3), ..rules() });
    driver.ends(&[Failure, Failure, Failure, Failure, Local, Local]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Failure]);
    assert_eq!(driver.last_change.unwrap().reason, Reason::ConsecutiveFailures(5));
    let mut driver = Driver::new(Rules { local_origin_failures: Some(3), ..rules() });
    driver.ends(&[Local, Local, Success, Local, Local]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Local]);
    assert_eq!(driver.last_change.unwrap().reason, Reason::ConsecutiveLocalOriginFailures(3));
}

#[test]
fn shedding_counts_in_the_rate_and_never_in_a_row() {
    let mut driver = Driver::new(rules());
    driver.ends(&[Shed; 19]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Shed]);
    let reason = driver.last_change.unwrap().reason;
    assert_eq!(reason, Reason::FailureRate { percent: 100.0, calls: 20 });
}

#[test]
fn an_outlier_opens_unless_it_does_better_by_now() {
    let mut driver = Driver::new(by_rate());
    driver.ends(&[Success; 70]);
    driver.ends(&[Failure; 30]);
    let kept = outlier(&driver.rules, driver.record.clone(), 70.0, at(1000), DRAW);
    assert!(matches!(kept, Transition::Keep(_)), "70 percent is not below 70");
    let opened = outlier(&driver.rules, driver.record.clone(), 80.0, at(1000), DRAW);
    driver.apply(opened);
    let reason = driver.last_change.unwrap().reason;
    assert_eq!(reason, Reason::Outlier { percent: 70.0, threshold: 80.0 });
    let again = outlier(&driver.rules, driver.record.clone(), 80.0, at(1000), DRAW);
    assert!(matches!(again, Transition::Keep(_)), "once");
}
