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

/// What an endpoint says in `Retry-After`: seconds, or a date. A date is one of the endpoint's clock,
/// so `now`, in seconds since 1970, should be too: what it says in `Date`. It is asked for a date only.
pub fn parse_retry_after(value: &str, now: impl FnOnce() -> u64) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        let at = parse_http_date(value)?;
        return Some(Duration::from_secs(at.saturating_sub(now())));
    }
    // More digits than a number has are for ever, and cut off by the longest open time.
    Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, IMF-fixdate), the
/// form that all have had to send since 1999. The day of the week says nothing new and is not read.
pub fn parse_http_date(value: &str) -> Option<u64> {
    let (_, date) = value.trim().split_once(',')?;
    let date = date.strip_prefix(' ')?;
    let mut parts = date.split([' ', ':']);
    let mut number = |digits: usize, range: core::ops::RangeInclusive<u64>| {
        let part = parts.next()?;
        let is_one = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_one { part.parse().ok() } else { None };
        let word = (digits == 0).then(|| MONTHS.iter().position(|month| *month == part)).flatten();
        let month = word.map(|at| at as u64 + 1);
        number.or(month).filter(|number| range.contains(number))
    };
    let (day, month, year) = (number(2, 1..=31)?, number(0, 1..=12)?, number(4, 1970..=9999)?);
    // Sixty is a leap second.
    let (hour, minute, second) = (number(2, 0..=23)?, number(2, 0..=59)?, number(2, 0..=60)?);
    if parts.next() != Some("GMT") || parts.next().is_some() {
        return None;
    }
    // Years that begin in March end with the day that not all of them have.
    let march_year = year - u64::from(month <= 2);
    let leap_days = march_year / 4 - march_year / 100 + march_year / 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = (365 * march_year + leap_days + day_of_year).checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
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
    fn seconds_are_read_and_dates_and_nothing_else() {
        let now = || 946_684_790;
        let read = |value| parse_retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(
            [" 7 ", "0", "99999999999999999999"].map(read),
            [Some(7), Some(0), Some(u64::MAX)]
        );
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(9));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:40 GMT"), Some(0), "it is over");
        assert_eq!(["", "-1", "1.5", "tomorrow"].map(read), [None; 4]);
    }

    #[test]
    fn a_date_is_what_the_calendar_says() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Sun, 28 Feb 2100 23:59:59 GMT", 4_107_542_399),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(parse_http_date(date), Some(seconds), "{date}");
        }
        for date in [
            "06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 +1 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_http_date(date), None, "{date}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_any_kind_stops_the_parser(text in "\\PC*") {
            parse_http_date(&text);
            parse_http_date(&format!("Sun, {text}"));
        }

        #[test]
        fn a_day_is_a_day_after_the_one_before(day in 0_u64..2_900_000) {
            // Days counted year by year, from 1970.
            let (mut year, mut left) = (1970, day);
            let is_leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            while left >= 365 + u64::from(is_leap(year)) {
                left -= 365 + u64::from(is_leap(year));
                year += 1;
            }
            let february = 28 + u64::from(is_leap(year));
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let mut month = 0;
            while left >= lengths[month] {
                left -= lengths[month];
                month += 1;
            }
            let name = MONTHS[month];
            let date = format!("Xxx, {:02} {name} {year} 00:00:00 GMT", left + 1);
            proptest::prop_assert_eq!(parse_http_date(&date), Some(day * 86_400));
        }
    }

    #[test]
    fn clients_rejected_together_return_spread() {
        let secs = |draw| retry_after_secs(Duration::from_secs(100), draw);
        assert_eq!((secs(0), secs(10), secs(11)), (100, 110, 100));
        assert_eq!(retry_after_secs(Duration::MAX, u64::MAX), u64::MAX);
    }
}
