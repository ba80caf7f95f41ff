//! Endpoints that ask to be left alone for a while.

use super::*;

fn asking(wait: u64, verdict: Verdict) -> Outcome {
    let retry_after = Some(Duration::from_secs(wait));
    Outcome { retry_after, ..Outcome::new(at(1000), None, verdict) }
}

#[test]
fn it_stays_open_for_as_long_as_the_endpoint_asks_to_be_left_alone() {
    let mut driver = Driver::new(rules());
    driver.record(&[asking(60, Ignored)]);
    driver.ends(&[Failure; 5]);
    assert_eq!(driver.last_change.unwrap().time, Some(Duration::from_secs(60)));
    let mut driver = Driver::new(rules());
    driver.record(&[asking(2, Ignored)]);
    driver.ends(&[Failure; 5]);
    assert_eq!(driver.last_change.unwrap().time, Some(Duration::from_secs(5)), "a floor only");
}

#[test]
fn no_endpoint_can_ask_for_more_than_the_longest_open_time() {
    let mut driver = Driver::new(rules());
    driver.record(&[asking(u64::MAX, Gateway)]);
    driver.ends(&[Failure; 4]);
    assert_eq!(driver.last_change.unwrap().time, Some(Duration::from_secs(300)));
    let mut driver = Driver::new(Rules { respect_retry_after: false, ..rules() });
    driver.record(&[asking(60, Gateway)]);
    driver.ends(&[Failure; 4]);
    assert_eq!(driver.last_change.unwrap().time, Some(Duration::from_secs(5)));
}

#[test]
fn what_was_asked_before_the_clock_stepped_back_is_forgotten() {
    let mut driver = Driver::new(rules());
    driver.record(&[asking(300, Ignored)]);
    driver.now -= 500;
    driver.ends(&[Failure; 5]);
    assert_eq!(driver.last_change.unwrap().time, Some(Duration::from_secs(5)));
}
