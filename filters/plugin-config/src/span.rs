//! Value types that every configuration uses.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};

/// A length of time as proto3 JSON writes it: decimal seconds with an `s`, such as `"0.5s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// From seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

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

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration in seconds such as \"0.5s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        parse_seconds(text).map(Span).ok_or_else(|| {
            E::custom(format_args!(
                "'{text}' is no duration: write decimal seconds with an 's', such as \"0.5s\""
            ))
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

/// A list of names that may be written as its only element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData)).map(Self)
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Vec<T>, E> {
        T::deserialize(name.into_deserializer()).map(|one| vec![one])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(json: &str) -> Result<Duration, String> {
        serde_json::from_str::<Span>(json).map(|span| span.0).map_err(|error| error.to_string())
    }

    #[test]
    fn seconds_with_a_fraction_are_exact() {
        assert_eq!(span("\"0.000000001s\""), Ok(Duration::from_nanos(1)));
        assert_eq!(span("\"1.5s\""), Ok(Duration::from_millis(1500)));
        assert_eq!(span("\"30s\""), Ok(Duration::from_secs(30)));
    }

    #[test]
    fn anything_else_says_how_to_write_it() {
        for json in ["\"500ms\"", "\"-1s\"", "\"s\"", "\"1.s\"", "\"1e3s\"", "\"\"", "5", "null"] {
            assert!(span(json).unwrap_err().contains("such as \"0.5s\""), "{json}");
        }
    }

    #[test]
    fn a_span_prints_as_it_is_written() {
        for text in ["0.5s", "30s", "0.000000001s"] {
            assert_eq!(Span(parse_seconds(text).unwrap()).to_string(), text);
        }
    }
}
