//! How long a breaker stays open.
//!
//! Exponential, because an endpoint that failed its probes will probably fail the next ones too,
//! and with equal jitter (half fixed, half drawn), because breakers that tripped together must not
//! probe together, yet none may come back at once, as full jitter would allow. See "Exponential
//! Backoff And Jitter", Amazon Builders' Library.

use core::time::Duration;

/// Times of the open state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Time after the first trip.
    pub base: Duration,
    /// Longest time.
    pub max: Duration,
    /// Growth from one trip to the next, at least 1.
    pub multiplier: f64,
    /// How much of it is drawn.
    pub jitter: Jitter,
}

/// How much of a back-off is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// Nothing.
    None,
    /// The second half.
    #[default]
    Equal,
}

impl Backoff {
    /// What holds where nothing is configured.
    pub const DEFAULT: Self = Self {
        base: Duration::from_secs(5),
        max: Duration::from_secs(300),
        multiplier: 2.0,
        jitter: Jitter::Equal,
    };

    /// The open time after trip number `trips`, counted from 1. `draw` is one uniform number.
    pub fn open_time(&self, trips: u32, draw: u64) -> Duration {
        let exponent = i32::try_from(trips.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.base.as_secs_f64() * self.multiplier.powi(exponent);
        // Infinity, which a long run of trips may reach, is no duration.
        let full = Duration::try_from_secs_f64(seconds).map_or(self.max, |full| full.min(self.max));
        match self.jitter {
            Jitter::None => full,
            Jitter::Equal => {
                let half = full / 2;
                half + half.mul_f64(unit(draw))
            }
        }
    }
}

/// A uniform draw as a number from 0 to less than 1: the 53 bits that an `f64` holds exactly.
pub(crate) fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff {
            base: Duration::from_secs(5),
            max: Duration::from_secs(300),
            multiplier: 2.0,
            jitter,
        }
    }

    #[test]
    fn each_trip_doubles_the_time_up_to_the_longest() {
        let seconds = |trips| backoff(Jitter::None).open_time(trips, 0).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 8].map(seconds), [5, 10, 20, 160, 300, 300]);
    }

    #[test]
    fn half_of_the_time_is_drawn() {
        let time = |draw| backoff(Jitter::Equal).open_time(1, draw);
        assert_eq!(time(0), Duration::from_millis(2500));
        assert!(time(u64::MAX) > Duration::from_millis(4999));
        assert!(time(u64::MAX) <= Duration::from_secs(5));
    }

    #[test]
    fn no_number_of_trips_overflows() {
        assert_eq!(backoff(Jitter::None).open_time(u32::MAX, 0), Duration::from_secs(300));
        assert_eq!(backoff(Jitter::None).open_time(0, 0), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn the_time_lies_between_half_and_all(trips in 1u32..200, draw in any::<u64>()) {
            let full = backoff(Jitter::None).open_time(trips, 0);
            let drawn = backoff(Jitter::Equal).open_time(trips, draw);
            prop_assert!(drawn >= full / 2 && drawn <= full);
        }
    }
}
