//! Durations as text: `"0.5s"`, `"250ms"`, `"40us"`.
//!
//! Seconds are what Envoy's JSON accepts; the smaller units are for command lines and the
//! endpoints' switches, where `"0.004s"` would be a nuisance.

use std::time::Duration;

/// Reads a non-negative decimal number with a unit: `s`, `ms` or `us`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(host_sim_rig::duration::parse("0.5s"), Ok(Duration::from_millis(500)));
/// assert!(host_sim_rig::duration::parse("5").is_err());
/// ```
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration: write for example \"0.5s\" or \"250ms\"");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_seconds = match &text[digits.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        _ => return Err(invalid()),
    };
    let number: f64 = digits.parse().map_err(|_| invalid())?;
    Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| invalid())
}

/// Milliseconds as a number, for reports.
pub(crate) fn as_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_seconds_milliseconds_and_microseconds() {
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(parse("40us"), Ok(Duration::from_micros(40)));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "s", "5", "-1s", "5m", "NaNs", "infs", "1e300s", "5 s"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("250ms"), "{error}");
        }
    }
}
