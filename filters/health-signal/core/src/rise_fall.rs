//! Hysteresis: a state changes after so many results in a row, never after one.
//!
//! HAProxy calls the two numbers rise and fall, Envoy healthy and unhealthy threshold. As in both,
//! the very first success is believed at once: an endpoint that just appeared should not wait.

/// Results in a row, and what they made of the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RiseFall {
    up: Option<bool>,
    /// Results in a row that contradict `up`.
    against: u32,
}

impl RiseFall {
    /// As if so far the results had been these.
    pub const fn starting(up: bool) -> Self {
        Self { up: Some(up), against: 0 }
    }

    /// True or false once decided, `None` before.
    pub const fn is_up(self) -> Option<bool> {
        self.up
    }

    /// With one more result: `rise` good ones in a row bring it up, `fall` bad ones take it down.
    #[must_use]
    pub const fn with(self, good: bool, rise: u32, fall: u32) -> Self {
        let agrees = match self.up {
            Some(up) => up == good,
            None => false,
        };
        if agrees {
            return Self { up: self.up, against: 0 };
        }
        if good && self.up.is_none() {
            return Self::starting(true);
        }
        let against = self.against.saturating_add(1);
        let wanted = if good { rise } else { fall };
        if against >= wanted { Self::starting(good) } else { Self { up: self.up, against } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(results: &[bool]) -> Option<bool> {
        results.iter().fold(RiseFall::default(), |state, good| state.with(*good, 2, 3)).is_up()
    }

    #[test]
    fn nothing_is_known_before_the_first_result() {
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn the_first_success_is_believed_at_once() {
        assert_eq!(after(&[true]), Some(true));
        assert_eq!(after(&[false, true]), Some(true));
    }

    #[test]
    fn it_falls_on_the_third_failure_and_not_on_the_second() {
        assert_eq!(after(&[true, false, false]), Some(true));
        assert_eq!(after(&[true, false, false, false]), Some(false));
        assert_eq!(after(&[false, false]), None);
        assert_eq!(after(&[false, false, false]), Some(false));
    }

    #[test]
    fn it_rises_on_the_second_success_and_not_on_the_first() {
        let down = [false, false, false];
        assert_eq!(after(&[&down[..], &[true]].concat()), Some(false));
        assert_eq!(after(&[&down[..], &[true, true]].concat()), Some(true));
    }

    #[test]
    fn a_result_in_between_starts_the_count_again() {
        assert_eq!(after(&[true, false, false, true, false, false]), Some(true));
        assert_eq!(after(&[false, false, false, true, false, true]), Some(false));
    }

    proptest! {
        #[test]
        fn fall_bad_results_in_a_row_always_take_it_down(
            before in proptest::collection::vec(any::<bool>(), 0..50),
            rise in 1u32..10, fall in 1u32..10,
        ) {
            let state = before.iter().fold(RiseFall::default(), |s, good| s.with(*good, rise, fall));
            let fallen = (0..fall).fold(state, |s, _| s.with(false, rise, fall));
            prop_assert_eq!(fallen.is_up(), Some(false));
            let risen = (0..rise).fold(fallen, |s, _| s.with(true, rise, fall));
            prop_assert_eq!(risen.is_up(), Some(true));
        }
    }
}
