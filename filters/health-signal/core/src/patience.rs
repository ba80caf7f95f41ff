//! How long an answer to a poll is waited for: as long as this endpoint's answers have taken, and
//! some more.
//!
//! Jacobson's estimate, as TCP has it for retransmission: the mean and its mean deviation, and four
//! of the latter besides. An endpoint that used to answer in two milliseconds and now takes half a
//! second is found out at the shortest timeout instead of the longest. After a timeout the next poll
//! is given all the time there is, so that an endpoint which has only become slower is not lost.

use core::time::Duration;

/// Answers after which the estimate is used.
const ENOUGH: u32 = 5;

/// The answers' times of one endpoint, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Patience {
    mean: f64,
    deviation: f64,
    answers: u32,
    timed_out: bool,
}

impl Patience {
    /// An answer took this long.
    pub fn answered(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        if self.answers == 0 {
            (self.mean, self.deviation) = (took, took / 2.0);
        } else {
            self.deviation += ((took - self.mean).abs() - self.deviation) / 4.0;
            self.mean += (took - self.mean) / 8.0;
        }
        self.answers = self.answers.saturating_add(1);
        self.timed_out = false;
    }

    /// No answer came in time.
    pub fn timed_out(&mut self) {
        self.timed_out = true;
    }

    /// How long to wait for the next answer, between these two.
    pub fn timeout(&self, least: Duration, most: Duration) -> Duration {
        if self.timed_out || self.answers < ENOUGH {
            return most;
        }
        let estimate = (self.mean + 4.0 * self.deviation).min(most.as_secs_f64());
        Duration::from_secs_f64(estimate.max(0.0)).clamp(least.min(most), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(1);

    fn after(millis: &[u64]) -> Patience {
        let mut patience = Patience::default();
        for millis in millis {
            patience.answered(Duration::from_millis(*millis));
        }
        patience
    }

    #[test]
    fn a_stranger_is_given_all_the_time() {
        assert_eq!(after(&[]).timeout(LEAST, MOST), MOST);
        assert_eq!(after(&[2, 2, 2, 2]).timeout(LEAST, MOST), MOST);
    }

    #[test]
    fn who_was_always_quick_is_given_the_least() {
        assert_eq!(after(&[2; 20]).timeout(LEAST, MOST), LEAST);
    }

    #[test]
    fn who_varies_is_given_more() {
        let steady = after(&[100; 40]).timeout(LEAST, MOST);
        let varied: Vec<_> = (0..40).map(|n| if n % 2 == 0 { 50 } else { 150 }).collect();
        assert!(after(&varied).timeout(LEAST, MOST) > steady + Duration::from_millis(100));
    }

    #[test]
    fn a_timeout_buys_all_the_time_until_the_next_answer() {
        let mut patience = after(&[2; 20]);
        patience.timed_out();
        assert_eq!(patience.timeout(LEAST, MOST), MOST);
        patience.answered(Duration::from_millis(300));
        assert!(patience.timeout(LEAST, MOST) > LEAST);
    }

    proptest! {
        #[test]
        fn it_stays_between_the_two(
            took in proptest::collection::vec(any::<u64>(), 0..30), least in 1u64..400, most in 1u64..900
        ) {
            let mut patience = Patience::default();
            for nanos in took {
                patience.answered(Duration::from_nanos(nanos));
            }
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            let timeout = patience.timeout(least, most);
            prop_assert!(timeout <= most && timeout >= least.min(most));
        }
    }
}
