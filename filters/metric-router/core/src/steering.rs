//! Does the proxy go where it is told? If not, stop telling it.
//!
//! A cluster without `override_host` ignores the list, and so does one whose list a route strips
//! too early. Served elsewhere than picked is no proof by itself: the endpoint may have left the
//! cluster. It is one when the endpoint that was passed over serves another request later, so it
//! was there all along. Matches happen by chance too (one of two in a cluster of two), hence a
//! ratio, and not "never".

use core::time::Duration;
use shared_state::UnixNanos;

/// Contradictions before anything is concluded.
const LEAST_CONTRADICTED: u32 = 8;

/// Contradictions, as a share of all evidence, from which steering is said not to work: one in four.
/// A cluster of two that ignores the list shows one in two, and more endpoints show more.
const INEFFECTIVE_FROM: u32 = 4;

/// Evidence is halved at this amount, so that it stays recent.
const EVIDENCE_KEPT: u32 = 64;

/// How long nothing is steered before it is tried again.
const SUSPENSION: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effectiveness {
    confirmed: u32,
    contradicted: u32,
    suspended_until: Option<UnixNanos>,
}

impl Effectiveness {
    /// The first endpoint of a list served.
    pub(crate) fn confirm(&mut self) {
        self.confirmed += 1;
        self.forget();
    }

    /// `misses` picks of an endpoint that is a member after all were served elsewhere.
    pub(crate) fn contradict(&mut self, misses: u8, now: UnixNanos) {
        self.contradicted += u32::from(misses);
        let evidence = self.confirmed + self.contradicted;
        let ineffective = self.contradicted >= LEAST_CONTRADICTED
            && self.contradicted.saturating_mul(INEFFECTIVE_FROM) >= evidence;
        if ineffective {
            *self = Self { suspended_until: Some(now.plus(SUSPENSION)), ..Self::default() };
        }
        self.forget();
    }

    /// True while nothing should be steered.
    pub(crate) fn is_suspended(&mut self, now: UnixNanos) -> bool {
        if let Some(until) = self.suspended_until
            && (until <= now || until.is_stale_deadline(now, SUSPENSION))
        {
            self.suspended_until = None;
        }
        self.suspended_until.is_some()
    }

    fn forget(&mut self) {
        if self.confirmed + self.contradicted >= EVIDENCE_KEPT {
            self.confirmed /= 2;
            self.contradicted /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn after(confirmed: u32, contradicted: u32) -> Effectiveness {
        let mut steering = Effectiveness::default();
        (0..confirmed).for_each(|_| steering.confirm());
        (0..contradicted).for_each(|_| steering.contradict(1, at(100)));
        steering
    }

    #[test]
    fn a_proxy_that_ignores_the_list_is_noticed_after_eight_contradictions() {
        assert!(!after(0, 7).is_suspended(at(100)));
        assert!(after(0, 8).is_suspended(at(100)));
    }

    #[test]
    fn one_in_four_is_the_boundary() {
        assert!(!after(25, 8).is_suspended(at(100)));
        assert!(after(24, 8).is_suspended(at(100)));
    }

    #[test]
    fn it_is_tried_again_after_a_while() {
        let mut steering = after(0, 8);
        assert!(steering.is_suspended(at(129)));
        assert!(!steering.is_suspended(at(130)));
        steering.contradict(1, at(131));
        assert!(!steering.is_suspended(at(131)), "the evidence begins anew");
    }

    #[test]
    fn a_clock_that_steps_back_does_not_suspend_for_ever() {
        assert!(!after(0, 8).is_suspended(at(10)));
    }

    #[test]
    fn old_confirmations_do_not_outweigh_what_happens_now() {
        assert!(after(100_000, 24).is_suspended(at(100)));
    }
}
