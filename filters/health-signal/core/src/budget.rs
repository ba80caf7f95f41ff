//! How many polls a cluster may send: so many a second, and a quarter of a second's worth at once.

use core::time::Duration;
use shared_state::UnixNanos;

/// Longest time that unused polls are kept for.
const BURST_TIME: Duration = Duration::from_millis(250);

/// Polls that may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    left: f64,
    as_of: Option<UnixNanos>,
}

impl Budget {
    /// Adds what has come since the last time. A clock that stepped back adds nothing.
    pub fn refill(&mut self, per_second: u32, now: UnixNanos) {
        let rate = f64::from(per_second);
        let most = (rate * BURST_TIME.as_secs_f64()).max(1.0);
        let gained = self.as_of.map_or(most, |at| now.since(at).as_secs_f64() * rate);
        // One more than the most: what is left of a poll is kept too.
        self.left = (self.left + gained.min(most)).min(most + 1.0);
        self.as_of = Some(now);
    }

    /// Takes one, if there is one.
    pub fn take(&mut self) -> bool {
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, per_second: u32, millis: u64) -> usize {
        budget.refill(per_second, UnixNanos::from_millis(millis));
        (0..10_000).take_while(|_| budget.take()).count()
    }

    #[test]
    fn over_a_minute_it_gives_the_rate_and_not_more() {
        for (per_second, tick) in [(1, 250), (3, 100), (50, 250), (400, 250)] {
            let mut budget = Budget::default();
            let sum: usize =
                (0..60_000).step_by(tick).map(|at| taken(&mut budget, per_second, at as u64)).sum();
            let wanted = 60 * per_second as usize;
            let burst = (per_second as usize / 4).max(1);
            assert!((wanted - 1..=wanted + burst).contains(&sum), "{sum} at {per_second}/s");
        }
    }

    #[test]
    fn a_pause_or_a_clock_that_stepped_back_is_no_reserve() {
        let mut budget = Budget::default();
        taken(&mut budget, 40, 1_000_000);
        assert_eq!(taken(&mut budget, 40, 9_000_000), 10);
        assert_eq!(taken(&mut budget, 40, 1_000), 0);
        assert_eq!(taken(&mut budget, 40, 1_250), 10);
    }
}
