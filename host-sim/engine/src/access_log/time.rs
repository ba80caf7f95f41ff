//! `%START_TIME(FORMAT)%`: the part of strftime that log formats use, and Envoy's fractions.

use crate::UnixNanos;
use crate::calendar::civil;

/// A compiled time format, always UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(char),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// Seconds with so many decimals.
    SecondAndFraction(usize),
    UnixSeconds,
    /// So many digits of the fraction alone.
    Fraction(usize),
    Offset,
}

/// Envoy's format when none is given.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";

impl TimeFormat {
    /// Compiles; empty = the default.
    pub(super) fn new(format: &str) -> Result<Self, String> {
        let format = if format.is_empty() { DEFAULT } else { format };
        let mut pieces = Vec::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                pieces.push(Piece::Literal(c));
                continue;
            }
            let specifier: String = chars.by_ref().take(1).collect();
            match specifier.as_str() {
                "Y" => pieces.push(Piece::Year),
                "m" => pieces.push(Piece::Month),
                "d" => pieces.push(Piece::Day),
                "H" => pieces.push(Piece::Hour),
                "M" => pieces.push(Piece::Minute),
                "S" => pieces.push(Piece::Second),
                "s" => pieces.push(Piece::UnixSeconds),
                "f" => pieces.push(Piece::Fraction(9)),
                "z" => pieces.push(Piece::Offset),
                "%" => pieces.push(Piece::Literal('%')),
                "F" => pieces.extend(Self::new("%Y-%m-%d")?.0),
                "T" => pieces.extend(Self::new("%H:%M:%S")?.0),
                "E" => {
                    let rest: String = chars.by_ref().take(2).collect();
                    pieces.push(Piece::SecondAndFraction(digits(&rest, 'S', "E")?));
                }
                digit => {
                    let is_digit = digit.starts_with(|c: char| c.is_ascii_digit());
                    let rest: String = chars.by_ref().take(usize::from(is_digit)).collect();
                    let both = format!("{digit}{rest}");
                    pieces.push(Piece::Fraction(digits(&both, 'f', "")?));
                }
            }
        }
        Ok(Self(pieces))
    }

    /// The text for a moment.
    pub(super) fn write(&self, moment: UnixNanos) -> String {
        const NANOS: u64 = 1_000_000_000;
        let (seconds, nanos) = (moment.0 / NANOS, moment.0 % NANOS);
        let (year, month, day) = civil((seconds / 86_400).cast_signed());
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let fraction = |count: usize| {
            let digits = format!("{nanos:09}");
            digits.get(..count).unwrap_or(&digits).to_owned()
        };
        let write = |piece: &Piece| match piece {
            Piece::Literal(c) => c.to_string(),
            Piece::Year => format!("{year:04}"),
            Piece::Month => format!("{month:02}"),
            Piece::Day => format!("{day:02}"),
            Piece::Hour => format!("{hour:02}"),
            Piece::Minute => format!("{minute:02}"),
            Piece::Second => format!("{second:02}"),
            Piece::SecondAndFraction(count) => format!("{second:02}.{}", fraction(*count)),
            Piece::UnixSeconds => seconds.to_string(),
            Piece::Fraction(count) => fraction(*count),
            Piece::Offset => "+0000".to_owned(),
        };
        self.0.iter().map(write).collect()
    }
}

/// The digit count in `3f` or, after an `E`, in `3S`.
fn digits(specifier: &str, letter: char, prefix: &str) -> Result<usize, String> {
    let count = specifier.strip_suffix(letter).and_then(|digit| digit.parse().ok());
    count.filter(|count| (1..=9).contains(count)).ok_or_else(|| {
        format!("time specifier '%{prefix}{specifier}' is not simulated by host-sim")
    })
}
