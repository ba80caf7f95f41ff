//! Times as Envoy's application log writes them.

use host_sim_engine::UnixNanos;
use host_sim_engine::calendar::civil;

const NANOS_PER_MILLI: u64 = 1_000_000;
const MILLIS_PER_DAY: u64 = 24 * 3600 * 1000;

/// `2026-01-31 23:59:59.999`, UTC.
pub(crate) fn utc(time: UnixNanos) -> String {
    let millis = time.0 / NANOS_PER_MILLI;
    let (year, month, day) = civil((millis / MILLIS_PER_DAY).cast_signed());
    let of_day = millis % MILLIS_PER_DAY;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_known_dates() {
        let seconds = |s: u64| utc(UnixNanos(s * 1_000_000_000 + 7_000_000));
        assert_eq!(seconds(0), "1970-01-01 00:00:00.007");
        assert_eq!(seconds(951_782_400), "2000-02-29 00:00:00.007");
        assert_eq!(seconds(1_767_225_599), "2025-12-31 23:59:59.007");
    }
}
