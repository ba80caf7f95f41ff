//! How the traffic comes back after the probes.

use super::*;
use crate::ramp::Ramp;

fn ramping_driver() -> Driver {
    let ramp = Ramp { window: Duration::from_secs(30), ..Ramp::NONE };
    let (mut driver, first) = Driver::half_open(Rules { permitted_calls: 1, ramp, ..rules() });
    driver.resolve(first, Success);
    let change = driver.last_change.unwrap();
    assert_eq!((change.to, change.time), (BreakerState::Ramping, Some(ramp.window)));
    driver
}

/// Of so many requests with draws spread evenly, how many pass.
fn passing(driver: &Driver, of: u64) -> u64 {
    let passes = |turn: u64| {
        let draw = (u64::MAX / of) * turn + u64::MAX / of / 2;
        match admit(&driver.rules, driver.record.clone(), at(driver.now), draw) {
            Transition::Keep(step) | Transition::Store(_, step) => step.value == Admission::Allow,
        }
    };
    (0..of).filter(|turn| passes(*turn)).count() as u64
}

#[test]
fn after_the_probes_traffic_comes_back_along_the_ramp() {
    let mut driver = ramping_driver();
    assert_eq!(passing(&driver, 100), 10);
    driver.now += 15;
    assert_eq!(passing(&driver, 100), 50);
    driver.now += 15;
    assert_eq!(passing(&driver, 100), 100);
    driver.admit();
    let change = driver.last_change.unwrap();
    assert_eq!((change.to, change.reason), (BreakerState::Closed, Reason::RampOver));
}

#[test]
fn a_ramp_that_fails_opens_for_longer() {
    let mut driver = ramping_driver();
    driver.now += 3;
    driver.ends(&[Failure; 5]);
    let change = driver.last_change.unwrap();
    assert_eq!((change.from, change.to), (BreakerState::Ramping, BreakerState::Open));
    assert_eq!(change.time, Some(Duration::from_secs(10)));
}

#[test]
fn what_was_counted_during_the_ramp_counts_on() {
    let mut driver = ramping_driver();
    driver.now += 29;
    driver.ends(&[Failure; 4]);
    let started_at = at(driver.now);
    driver.now += 2;
    driver.record(&[
        Outcome::new(started_at, None, Success),
        Outcome::new(started_at, None, Failure),
    ]);
    assert_eq!(driver.state(), BreakerState::Closed);
    driver.ends(&[Failure; 4]);
    let record = driver.record.as_ref().unwrap();
    assert_eq!((record.state, record.epoch), (BreakerState::Open, 5));
}

#[test]
fn a_clock_that_steps_back_ends_the_ramp() {
    let mut driver = ramping_driver();
    driver.now -= 500;
    assert_eq!((driver.admit(), driver.state()), (Admission::Allow, BreakerState::Closed));
}
