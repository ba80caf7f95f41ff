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

/// What an endpoint says in `Retry-After`, if it says seconds. A date would be compared with a clock
/// that may not be the endpoint's; who sends one is as well waited for by the back-off.
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number has are for ever, and cut off by the longest open time.
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
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
    fn seconds_are_read_and_nothing_else() {
        let read = |value| parse_retry_after(value).map(|wait| wait.as_secs());
        assert_eq!(
            [" 7 ", "0", "99999999999999999999"].map(read),
            [Some(7), Some(0), Some(u64::MAX)]
        );
        assert_eq!(["", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT"].map(read), [None; 4]);
    }

    #[test]
    fn clients_rejected_together_return_spread() {
        let secs = |draw| retry_after_secs(Duration::from_secs(100), draw);
        assert_eq!((secs(0), secs(10), secs(11)), (100, 110, 100));
        assert_eq!(retry_after_secs(Duration::MAX, u64::MAX), u64::MAX);
    }
}
