//! Lengths of time, as a configuration writes them.

use core::fmt;
use core::time::Duration;

/// A length of time as proto3 JSON writes it: decimal seconds with an `s`, such as `"0.5s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            return write!(f, "{secs}s");
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{secs}.{}s", fraction.trim_end_matches('0'))
    }
}

impl core::str::FromStr for Span {
    type Err = String;

    /// The error tells how to write it.
    fn from_str(text: &str) -> Result<Self, String> {
        parse_seconds(text).map(Self).ok_or_else(|| {
            format!("'{text}' is no duration: write decimal seconds with an 's', such as \"0.5s\"")
        })
    }
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    // 315 576 000 000 s is the limit of google.protobuf.Duration.
    if whole.is_empty() || whole.len() > 12 || fraction.len() > 9 {
        return None;
    }
    if !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Result<Duration, String> {
        text.parse().map(|Span(span)| span)
    }

    #[test]
    fn seconds_with_a_fraction_are_exact() {
        assert_eq!(span("0.000000001s"), Ok(Duration::from_nanos(1)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("30s"), Ok(Duration::from_secs(30)));
    }

    #[test]
    fn anything_else_says_how_to_write_it() {
        for text in ["500ms", "-1s", "s", "1.s", "1e3s", "", "5", "9999999999999s"] {
            assert!(span(text).unwrap_err().contains("such as \"0.5s\""), "{text}");
        }
    }

    #[test]
    fn a_span_prints_as_it_is_written() {
        for text in ["0.5s", "30s", "0.000000001s"] {
            assert_eq!(Span(parse_seconds(text).unwrap()).to_string(), text);
        }
    }
}
