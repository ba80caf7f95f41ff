//! Wall-clock time that tolerates a clock which steps back.
//!
//! The ABI offers wall time only, and NTP may step it. Differences therefore saturate at zero, and
//! a deadline that lies further ahead than its own length is treated as stale by
//! [`UnixNanos::is_stale_deadline`]: it was written before the clock went back, and waiting for it
//! would freeze whatever depends on it.
//!
//! What turns a [`Duration`] into nanoseconds and back is compiled once and not wherever it is
//! called: modules are shipped by their size.

use core::time::Duration;

/// By how much two workers may disagree about now, because each reads the clock once a callback: a
/// record may hold a moment that for its reader lies ahead. It must do so by more than this before
/// the clock is said to have stepped back.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Nanoseconds since the Unix epoch. Arithmetic saturates; nothing here can panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(u64);

impl UnixNanos {
    /// The epoch itself: earlier than anything that was ever recorded.
    pub const ZERO: Self = Self(0);

    /// From a count of nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From a count of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From a count of seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The count of nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The count of whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time passed since `earlier`; zero if the clock stepped back in between.
    #[inline(never)]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant and `span` more.
    #[inline(never)]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// This instant and `span` less, not before the epoch.
    #[inline(never)]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }

    /// True for a deadline that can only have been set before the clock stepped back: it lies more
    /// than `longest` ahead of `now`, though no deadline is ever set further ahead than that. For
    /// one that another worker may have set, `longest` includes [`CLOCK_TOLERANCE`].
    pub fn is_stale_deadline(self, now: Self, longest: Duration) -> bool {
        self > now.plus(longest)
    }
}

/// In 64 bits: 128 of them, as the library counts, are a function call for each product.
const fn nanos(span: Duration) -> u64 {
    const MOST_SECS: u64 = u64::MAX / 1_000_000_000;
    let secs = span.as_secs();
    if secs > MOST_SECS {
        return u64::MAX;
    }
    (secs * 1_000_000_000).saturating_add(span.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stepped_back_measures_zero() {
        assert_eq!(UnixNanos::from_secs(5).since(UnixNanos::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn sums_saturate_at_both_ends() {
        assert_eq!(UnixNanos::from_nanos(u64::MAX).plus(Duration::MAX).as_nanos(), u64::MAX);
        assert_eq!(UnixNanos::from_secs(1).minus(Duration::MAX), UnixNanos::ZERO);
    }

    #[test]
    fn a_span_counts_as_the_library_counts_it_also_where_it_is_too_long() {
        let last = Duration::from_nanos(u64::MAX);
        let one = Duration::from_nanos(1);
        let spans = [Duration::ZERO, one, Duration::from_millis(1500), last - one, last];
        let beyond = [last + one, Duration::from_secs(last.as_secs() + 1), Duration::MAX];
        for span in spans.into_iter().chain(beyond) {
            let counted = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            assert_eq!(UnixNanos::ZERO.plus(span).as_nanos(), counted, "{span:?}");
        }
    }

    #[test]
    fn a_deadline_beyond_its_own_length_was_set_before_the_clock_went_back() {
        let now = UnixNanos::from_secs(100);
        let longest = Duration::from_secs(3);
        assert!(!now.plus(longest).is_stale_deadline(now, longest));
        assert!(now.plus(longest).is_stale_deadline(now.minus(Duration::from_secs(1)), longest));
    }
}
