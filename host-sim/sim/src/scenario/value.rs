//! The values of scenario files: durations, quantities, patterns, bytes, headers.
//!
//! Each is a type of its own that knows its place in the JSON Schema. The schema's `format` is what
//! [`crate::schema`] checks, so a slip is reported with its line; reading here cannot fail after it.

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Most that `repeat` makes.
const MAX_REPEATED: usize = 64 * 1024 * 1024;

/// A span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A span of time that may be negative, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedSpan(pub i64);

/// A regular expression, searched for anywhere in the text.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

/// Headers or trailers in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

/// A number to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Quantity {
    /// Equal.
    Is(f64),
    /// Another one.
    Not(f64),
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
    /// Within both, the bounds included.
    Within(f64, f64),
}

impl Quantity {
    pub(crate) fn holds(self, actual: f64) -> bool {
        match self {
            Self::Is(wanted) => (actual - wanted).abs() < 1e-9,
            Self::Not(other) => (actual - other).abs() >= 1e-9,
            Self::AtLeast(least) => actual >= least,
            Self::AtMost(most) => actual <= most,
            Self::Within(least, most) => (least..=most).contains(&actual),
        }
    }

    /// Reads a comparison.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |rest: &str| rest.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        if let Some(rest) = text.strip_prefix(">=") {
            return number(rest).map(Self::AtLeast);
        }
        if let Some(rest) = text.strip_prefix("<=") {
            return number(rest).map(Self::AtMost);
        }
        if let Some(rest) = text.strip_prefix("!=") {
            return number(rest).map(Self::Not);
        }
        let (least, most) = text.split_once("..")?;
        Some(Self::Within(number(least)?, number(most)?))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(wanted) => write!(f, "{wanted}"),
            Self::Not(other) => write!(f, "anything but {other}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::Within(least, most) => write!(f, "{least} to {most}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0)
    }
}

/// Reads `5ms`, `1.5s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

pub(crate) fn parse_signed(text: &str) -> Option<i64> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    Some(sign * i64::try_from(parse_duration(rest)?.as_nanos()).ok()?)
}

/// Bytes: a text as it is, or one of the other ways to write them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Other(ContentSpec),
}

/// Bytes in one of these forms, exactly one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContentSpec {
    /// UTF-8.
    pub text: Option<String>,
    /// Hexadecimal digits, spaces allowed.
    #[schemars(schema_with = "hex_schema")]
    pub hex: Option<String>,
    /// Base64, with padding.
    pub base64: Option<String>,
    /// Contents of a file, relative to the scenario's.
    pub file: Option<String>,
    /// A document, written as compact JSON.
    pub json: Option<Value>,
    /// A text that is repeated `times`.
    pub repeat: Option<String>,
    /// How often `repeat` is.
    pub times: Option<usize>,
    /// In a list of chunks: how long after the one before it this one comes. Default at once.
    pub after: Option<Span>,
}

impl Content {
    /// The bytes.
    ///
    /// # Errors
    /// When a file cannot be read or a form does not fit.
    pub(crate) fn bytes(&self, base: &Path) -> Result<Vec<u8>, String> {
        let spec = match self {
            Self::Text(text) => return Ok(text.clone().into_bytes()),
            Self::Other(spec) => spec,
        };
        let mut forms = Vec::new();
        if let Some(text) = &spec.text {
            forms.push(text.clone().into_bytes());
        }
        if let Some(hex) = &spec.hex {
            forms.push(parse_hex(hex).ok_or("hex: write pairs of hexadecimal digits")?);
        }
        if let Some(text) = &spec.base64 {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            forms.push(decoded.map_err(|error| format!("base64: {error}"))?);
        }
        if let Some(file) = &spec.file {
            let path = base.join(file);
            let read = std::fs::read(&path);
            forms.push(read.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        if let Some(document) = &spec.json {
            forms.push(document.to_string().into_bytes());
        }
        if let Some(text) = &spec.repeat {
            let times = spec.times.unwrap_or(1);
            if text.len().saturating_mul(times) > MAX_REPEATED {
                return Err(format!("repeat: more than {MAX_REPEATED} bytes"));
            }
            forms.push(text.repeat(times).into_bytes());
        }
        match (forms.pop(), forms.is_empty()) {
            (Some(bytes), true) => Ok(bytes),
            _ => Err("write one of text, hex, base64, file, json, repeat".to_owned()),
        }
    }

    pub(crate) fn after(&self) -> Duration {
        match self {
            Self::Other(ContentSpec { after: Some(after), .. }) => after.0,
            _ => Duration::ZERO,
        }
    }
}

/// A body: all of it, or a list of its chunks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Body {
    /// Chunks in order; each may come some time `after` the one before.
    Chunks(Vec<Content>),
    /// One chunk.
    Whole(Content),
}

impl Default for Body {
    fn default() -> Self {
        Self::Chunks(Vec::new())
    }
}

impl Body {
    pub(crate) fn chunks(&self) -> &[Content] {
        match self {
            Self::Chunks(chunks) => chunks,
            Self::Whole(Content::Text(text)) if text.is_empty() => &[],
            Self::Whole(content) => std::slice::from_ref(content),
        }
    }
}

pub(crate) fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

fn hex_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "hex"})
}

/// A type whose whole schema is a `format`.
macro_rules! formatted {
    ($type:ty, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

formatted!(Span, {"type": "string", "format": "duration", "examples": ["5ms", "1.5s", "2m"]});
formatted!(SignedSpan, {"type": "string", "format": "signed-duration", "examples": ["-30s"]});
formatted!(Pattern, {"type": "string", "format": "regex"});
formatted!(Quantity, {
    "type": ["number", "string"], "format": "quantity",
    "examples": [3, ">= 3", "<= 3", "!= 3", "1..3"]
});
formatted!(Fields, {
    "type": "object",
    "additionalProperties": {"type": ["string", "array"], "items": {"type": "string"}},
    "examples": [{"x-one": "a", "x-many": ["a", "b"]}]
});

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).ok_or_else(|| D::Error::custom("no duration"))
    }
}

impl<'de> Deserialize<'de> for SignedSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_signed(&text).map(Self).ok_or_else(|| D::Error::custom("no duration"))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let parsed = match (value.as_f64(), value.as_str()) {
            (Some(number), _) => Some(Self::Is(number)),
            (None, text) => text.and_then(Self::parse),
        };
        parsed.ok_or_else(|| D::Error::custom("no quantity"))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::deserialize(deserializer)?;
        let mut fields = Vec::new();
        for (name, value) in map {
            let name = name.to_ascii_lowercase();
            match value {
                Value::String(text) => fields.push((name, text)),
                Value::Array(texts) => fields.extend(
                    texts
                        .iter()
                        .filter_map(Value::as_str)
                        .map(|text| (name.clone(), text.to_owned())),
                ),
                _ => return Err(D::Error::custom("no header value")),
            }
        }
        Ok(Self(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        for wrong in ["5", "s", "-1s", "1.2.3s", "1 day"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(parse_signed("-30s"), Some(-30_000_000_000));
    }

    #[test]
    fn quantities_compare() {
        let holds = |text: &str, actual| Quantity::parse(text).unwrap().holds(actual);
        assert!(holds(">= 3", 3.0) && !holds(">= 3", 2.9));
        assert!(holds("<=3", 3.0) && !holds("<= 3", 3.1));
        assert!(holds("!= 3", 4.0) && !holds("!= 3", 3.0));
        assert!(holds("1..3", 2.0) && !holds("1..3", 3.5));
        for wrong in ["three", ">= x", "3 or so", "1.."] {
            assert_eq!(Quantity::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_are_written_in_several_ways_but_in_one() {
        let bytes = |value| {
            let content: Content = serde_json::from_value(value).unwrap();
            content.bytes(Path::new("."))
        };
        assert_eq!(bytes(json!("a")), Ok(b"a".to_vec()));
        assert_eq!(bytes(json!({"hex": "00 ff"})), Ok(vec![0, 255]));
        assert_eq!(bytes(json!({"base64": "AP8="})), Ok(vec![0, 255]));
        assert_eq!(bytes(json!({"repeat": "ab", "times": 2})), Ok(b"abab".to_vec()));
        assert_eq!(bytes(json!({"json": {"a": [1]}})), Ok(br#"{"a":[1]}"#.to_vec()));
        assert!(bytes(json!({"text": "a", "hex": "00"})).is_err());
        assert!(bytes(json!({"after": "1s"})).is_err());
        let too_much = json!({"repeat": "ab", "times": 10_000_000_000_000_000_000_u64});
        assert!(bytes(too_much).unwrap_err().contains("more than"));
        assert!(bytes(json!({"file": "no/such"})).unwrap_err().contains("no/such"));
    }

    #[test]
    fn a_header_can_be_repeated() {
        let fields: Fields = serde_json::from_value(json!({"X-A": ["1", "2"], "b": "3"})).unwrap();
        let wanted = [("x-a", "1"), ("x-a", "2"), ("b", "3")];
        assert_eq!(fields.0, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}
