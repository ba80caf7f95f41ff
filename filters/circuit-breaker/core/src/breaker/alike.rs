//! Successes, counted at once.
//!
//! A worker brings what it saw in a tenth of a second, and almost all of that are successes one after
//! the other. What they change together is what they change one by one.

use super::{Machine, Outcome, Verdict};
use crate::window;
use shared_state::BreakerState;

impl Machine<'_> {
    /// Counts the successes that follow one which was just taken; gives what is left.
    pub(super) fn take_like<'o>(&mut self, first: &Outcome, later: &'o [Outcome]) -> &'o [Outcome] {
        let counts = matches!(self.record.state, BreakerState::Closed | BreakerState::Ramping);
        if self.change.is_some() || !counts || self.record.trips > 0 || !self.is_plain(first) {
            return later;
        }
        let alike = later.iter().take_while(|outcome| self.is_plain(outcome)).count();
        let (like, left) = later.split_at(alike);
        let calls = u32::try_from(like.len()).unwrap_or(u32::MAX);
        // Each lowers the rates. So only the one can trip with which they begin to say something.
        let missing = u64::from(self.rules.minimum_number_of_calls)
            .saturating_sub(window::sums(&self.record.window).total);
        let silent = u32::try_from(missing).unwrap_or(u32::MAX).min(calls);
        for calls in [silent, calls - silent] {
            window::count_successes(&mut self.record.window, calls);
            if let Some(reason) = self.rate_to_trip() {
                self.open(reason);
                break;
            }
        }
        left
    }

    /// True for a success that says nothing else.
    fn is_plain(&self, outcome: &Outcome) -> bool {
        let says_more = outcome.slow || outcome.permit.is_some() || outcome.retry_after.is_some();
        outcome.verdict == Verdict::Success && !says_more && !self.is_late(outcome)
    }
}
