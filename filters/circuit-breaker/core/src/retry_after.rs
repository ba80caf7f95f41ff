//! The value of `Retry-After`.

use core::time::Duration;

/// Share of the wait that is drawn on top: clients rejected together must not return together.
const SPREAD_PERCENT: u64 = 10;

/// Whole seconds after which a rejected client may come back: the wait rounded up, at least 1, and
/// up to a tenth of it more, at least one second. `draw` is one uniform number.
pub fn retry_after_secs(wait: Duration, draw: u64) -> u64 {
    let whole = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
    let spread = (whole.saturating_mul(SPREAD_PERCENT) / 100).max(1);
    whole.saturating_add(draw % (spread + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_rounded_up_and_never_zero() {
        let secs = |millis| retry_after_secs(Duration::from_millis(millis), 0);
        assert_eq!([0, 1, 1000, 1001, 4200].map(secs), [1, 1, 1, 2, 5]);
    }

    #[test]
    fn clients_rejected_together_return_spread() {
        let secs = |draw| retry_after_secs(Duration::from_secs(100), draw);
        assert_eq!((secs(0), secs(10), secs(11)), (100, 110, 100));
        assert_eq!(retry_after_secs(Duration::MAX, u64::MAX), u64::MAX);
    }
}
