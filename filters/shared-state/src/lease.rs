//! A lease: one owner at a time, until a moment in the future.
//!
//! The ABI has no notification of a VM that died, so whoever holds a duty for the whole process
//! holds it for a while only and renews. The owner decides before it acts, the others take over
//! when the lease has run out. A lease that ends further ahead than its own length was written
//! before the clock stepped back, and is void; but not if it is by no more than workers' clocks may
//! differ, or who asks in the same moment as the holder would take it over.

use crate::{CLOCK_TOLERANCE, DecodeError, Reader, Record, Transition, UnixNanos, Writer};
use core::time::Duration;

/// Who has the duty, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Identity of the holder; see [`crate::WorkerSlot::owner`].
    pub owner: u64,
    /// Counts changes of the holder, so that each takeover can be told apart.
    pub term: u32,
    /// When it runs out.
    pub expires_at: UnixNanos,
}

/// What came of asking for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The asker holds it now and did not before.
    Acquired,
    /// The asker held it and still does.
    Renewed,
    /// Someone else holds it.
    HeldByOther,
}

impl Lease {
    /// Asks for the lease on behalf of `owner`, for `length` from `now`.
    pub fn acquire(
        prior: Option<Self>,
        owner: u64,
        now: UnixNanos,
        length: Duration,
    ) -> Transition<Self, LeaseOutcome> {
        let expires_at = now.plus(length);
        match prior {
            Some(lease) if lease.owner == owner => {
                Transition::Store(Self { expires_at, ..lease }, LeaseOutcome::Renewed)
            }
            Some(lease) if lease.is_live(now, length) => {
                Transition::Keep(LeaseOutcome::HeldByOther)
            }
            prior => {
                let term = prior.map_or(0, |lease| lease.term).wrapping_add(1);
                Transition::Store(Self { owner, term, expires_at }, LeaseOutcome::Acquired)
            }
        }
    }

    /// True while someone holds it.
    pub fn is_live(&self, now: UnixNanos, length: Duration) -> bool {
        is_live(self.expires_at, now, length)
    }
}

/// True if what ends at `expires_at` still holds at `now`, and was not set before the clock stepped
/// back.
pub(crate) fn is_live(expires_at: UnixNanos, now: UnixNanos, length: Duration) -> bool {
    let longest = length.saturating_add(CLOCK_TOLERANCE);
    expires_at > now && !expires_at.is_stale_deadline(now, longest)
}

impl Record for Lease {
    const TAG: u8 = 1;

    fn write(&self, out: &mut Writer) {
        out.u64(self.owner);
        out.u32(self.term);
        out.u64(self.expires_at.as_nanos());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: input.u64()?,
            term: input.u32()?,
            expires_at: UnixNanos::from_nanos(input.u64()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(3);

    fn ask(prior: Option<Lease>, owner: u64, at: u64) -> (Option<Lease>, LeaseOutcome) {
        match Lease::acquire(prior, owner, UnixNanos::from_secs(at), LENGTH) {
            Transition::Keep(outcome) => (prior, outcome),
            Transition::Store(lease, outcome) => (Some(lease), outcome),
        }
    }

    #[test]
    fn the_first_who_asks_gets_it_and_the_second_does_not() {
        let (lease, first) = ask(None, 1, 100);
        assert_eq!(first, LeaseOutcome::Acquired);
        assert_eq!(ask(lease, 2, 101).1, LeaseOutcome::HeldByOther);
    }

    #[test]
    fn the_holder_renews_without_a_new_term() {
        let (lease, _) = ask(None, 1, 100);
        let (renewed, outcome) = ask(lease, 1, 102);
        assert_eq!(outcome, LeaseOutcome::Renewed);
        assert_eq!(renewed.unwrap().term, lease.unwrap().term);
        assert_eq!(ask(renewed, 2, 104).1, LeaseOutcome::HeldByOther);
    }

    #[test]
    fn a_silent_holder_is_replaced_when_the_lease_runs_out() {
        let (lease, _) = ask(None, 1, 100);
        assert_eq!(ask(lease, 2, 103).1, LeaseOutcome::Acquired);
    }

    #[test]
    fn a_clock_that_stepped_back_does_not_freeze_the_duty() {
        let (lease, _) = ask(None, 1, 100);
        assert_eq!(ask(lease, 2, 50).1, LeaseOutcome::Acquired);
    }

    #[test]
    fn who_read_the_clock_a_moment_before_the_holder_does_not_take_it_over() {
        let now = UnixNanos::from_secs(100);
        let lease = Lease { owner: 1, term: 1, expires_at: now.plus(LENGTH) };
        let moment_before = now.minus(Duration::from_micros(50));
        let asked = Lease::acquire(Some(lease), 2, moment_before, LENGTH);
        assert_eq!(asked, Transition::Keep(LeaseOutcome::HeldByOther));
    }
}
