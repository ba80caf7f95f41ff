//! Times in words and in parts: nanoseconds in 64 bits, as Envoy keeps them.
//!
//! Zones are offsets only. Names would need a database that ages, and a run must come out the same
//! on every machine.

use crate::calendar::{civil, days};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Parts of a moment.
pub(super) struct Parts {
    pub(super) year: i64,
    /// From 0.
    pub(super) month: i64,
    /// From 0.
    pub(super) day: i64,
    pub(super) day_of_week: i64,
    pub(super) day_of_year: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) millisecond: i64,
}

/// Taken apart in a zone that is some seconds ahead.
pub(super) fn parts(nanos: i64, ahead: i64) -> Parts {
    let seconds = nanos.div_euclid(SECOND) + ahead;
    let (day, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day_of_month) = civil(day);
    Parts {
        year,
        month: month - 1,
        day: day_of_month - 1,
        day_of_week: (day + 4).rem_euclid(7),
        day_of_year: day - days(year, 1, 1),
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        millisecond: nanos.rem_euclid(SECOND) / 1_000_000,
    }
}

/// Seconds that a zone is ahead: `UTC`, `+01:00`, `-5:30`. Names need a database that is not here.
pub(super) fn zone(name: &str) -> Option<i64> {
    if name == "UTC" {
        return Some(0);
    }
    let (sign, rest) = match name.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, name.strip_prefix('+').unwrap_or(name)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let exists = (0..24).contains(&hours) && (0..60).contains(&minutes);
    exists.then(|| sign * (hours * 3600 + minutes * 60))
}

/// Nanoseconds since 1970 of a moment as RFC 3339 writes it.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let sign = |at: usize| text.as_bytes().get(at).copied();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let signs = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let well_formed = signs.iter().all(|(at, wanted)| sign(*at) == Some(*wanted))
        && matches!(sign(10), Some(b'T' | b't'))
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !well_formed {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let digits = fraction.get(..len.min(9)).filter(|digits| !digits.is_empty())?;
        nanos = format!("{digits:0<9}").parse().ok()?;
        rest = fraction.get(len..)?;
    }
    let ahead = match rest {
        "Z" | "z" => 0,
        other => zone(other)?,
    };
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - ahead;
    seconds.checked_mul(SECOND)?.checked_add(nanos)
}

/// Nanoseconds of a span such as `1h30m`, `1.5s`, `-3ms`.
pub(super) fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let len = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(len);
        // `ms` before `m`, `s` behind both.
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number.parse::<f64>().ok()? * scale;
        rest = after.strip_prefix(unit)?;
    }
    let nanos = sign * total;
    (nanos.abs() < 9.2e18).then_some(nanos.round() as i64)
}

/// A moment as RFC 3339 writes it.
pub(super) fn timestamp_text(nanos: i64) -> String {
    let parts = parts(nanos, 0);
    let Parts { year, month, day, hour, minute, second, .. } = parts;
    let fraction = fraction(nanos.rem_euclid(SECOND));
    format!(
        "{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z",
        month + 1,
        day + 1
    )
}

/// A span in seconds.
pub(super) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let fraction = fraction((nanos % SECOND.unsigned_abs()) as i64);
    format!("{sign}{}{fraction}s", nanos / SECOND.unsigned_abs())
}

fn fraction(nanos: i64) -> String {
    if nanos == 0 {
        return String::new();
    }
    format!(".{nanos:09}").trim_end_matches('0').to_owned()
}
