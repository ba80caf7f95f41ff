//! Scalar getters: strings, numbers, durations, enums, bytes, as proto3-JSON spells them.

use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::{Reader, describe, quoted};
use crate::pattern::Pattern;

/// protobuf's JSON accepts base64 with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// One value of an enum: its name, its number, and what it means here (`None` = not simulated).
pub(crate) type Choice<T> = (&'static str, i64, Option<T>);

impl<'a> Reader<'a> {
    /// A string; empty when unset.
    pub(crate) fn text(&mut self, field: &'static str) -> String {
        self.optional_text(field).unwrap_or_default()
    }

    /// A string, when set.
    pub(crate) fn optional_text(&mut self, field: &'static str) -> Option<String> {
        let value = self.take(field)?;
        self.as_text(value, field)
    }

    /// A string that must be set and not empty.
    pub(crate) fn required_text(&mut self, field: &'static str) -> Option<String> {
        if !self.has(field) {
            self.asked.push(field);
            self.missing(field);
            return None;
        }
        let text = self.optional_text(field)?;
        if text.is_empty() {
            self.problem_at(field, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, field: &'static str) -> Vec<String> {
        let values = self.elements(field).iter().enumerate();
        values
            .filter_map(|(index, value)| self.as_text(value, &format!("{field}[{index}]")))
            .collect()
    }

    /// A `map<string, string>`.
    pub(crate) fn text_map(&mut self, field: &'static str) -> Vec<(String, String)> {
        let entries = self.entries(field);
        let read = |(key, value): (&String, _)| {
            Some((key.clone(), self.as_text(value, &format!("{field}[{key:?}]"))?))
        };
        entries.into_iter().flatten().filter_map(read).collect()
    }

    /// A `Struct`.
    pub(crate) fn json_object(&mut self, field: &'static str) -> Option<Map<String, Value>> {
        self.entries(field).cloned()
    }

    /// A boolean.
    pub(crate) fn flag(&mut self, field: &'static str, default: bool) -> bool {
        self.optional_flag(field).unwrap_or(default)
    }

    /// A boolean, when set.
    pub(crate) fn optional_flag(&mut self, field: &'static str) -> Option<bool> {
        let value = self.take(field)?;
        if value.as_bool().is_none() {
            self.expected(field, "true or false", value);
        }
        value.as_bool()
    }

    /// A `uint32` within `range`, when set.
    pub(crate) fn integer(
        &mut self,
        field: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = self.take(field)?;
        self.as_integer(value, field, range)
    }

    /// A list of `uint32` within `range`.
    pub(crate) fn integers(&mut self, field: &'static str, range: RangeInclusive<u32>) -> Vec<u32> {
        let values = self.elements(field).iter().enumerate();
        values
            .filter_map(|(index, value)| {
                self.as_integer(value, &format!("{field}[{index}]"), range.clone())
            })
            .collect()
    }

    /// An `int64`, zero when unset.
    pub(crate) fn signed(&mut self, field: &'static str) -> i64 {
        let Some(value) = self.take(field) else { return 0 };
        whole(value).unwrap_or_else(|| {
            self.expected(field, "an integer", value);
            0
        })
    }

    /// A `double` within `range`, when set.
    pub(crate) fn number(
        &mut self,
        field: &'static str,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        let value = self.take(field)?;
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        let inside = number.filter(|number| range.contains(number));
        if inside.is_none() {
            let what = format!("a number from {} to {}", range.start(), range.end());
            self.expected(field, &what, value);
        }
        inside
    }

    /// A duration such as `"0.5s"`, when set.
    pub(crate) fn duration(&mut self, field: &'static str) -> Option<Duration> {
        let value = self.take(field)?;
        let duration = value.as_str().and_then(parse_duration);
        if duration.is_none() {
            self.expected(field, "a duration such as \"0.5s\"", value);
        }
        duration
    }

    /// A duration that must be more than nothing, when set.
    pub(crate) fn positive_duration(&mut self, field: &'static str) -> Option<Duration> {
        let duration = self.duration(field)?;
        if duration.is_zero() {
            self.problem_at(field, "must be greater than 0s");
            return None;
        }
        Some(duration)
    }

    /// A duration whose zero means "off": unset gives `default`, `0s` gives `None`.
    pub(crate) fn limit(
        &mut self,
        field: &'static str,
        default: Option<Duration>,
    ) -> Option<Duration> {
        if !self.has(field) {
            self.take(field);
            return default;
        }
        self.duration(field).filter(|duration| !duration.is_zero())
    }

    /// An enum by name or number; the first choice when unset.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        field: &'static str,
        choices: &[Choice<T>],
    ) -> Option<T> {
        let Some(value) = self.take(field) else {
            return choices.first().and_then(|(_, _, meaning)| *meaning);
        };
        let chosen = choices.iter().find(|(name, number, _)| {
            value.as_str() == Some(name) || value.as_i64() == Some(*number)
        });
        match chosen {
            Some((_, _, Some(meaning))) => Some(*meaning),
            Some((name, _, None)) => {
                self.problem_at(field, format!("{name} is not simulated by host-sim"));
                None
            }
            None => {
                let names: Vec<&str> = choices.iter().map(|(name, ..)| *name).collect();
                self.expected(field, &format!("one of {}", quoted(&names)), value);
                None
            }
        }
    }

    /// Bytes in base64 (standard or URL-safe), when set.
    pub(crate) fn bytes(&mut self, field: &'static str) -> Option<Vec<u8>> {
        let value = self.take(field)?;
        let bytes = value.as_str().and_then(decode_base64);
        if bytes.is_none() {
            self.expected(field, "bytes in base64", value);
        }
        bytes
    }

    /// A header name, folded to lower case, when set.
    pub(crate) fn header_name(&mut self, field: &'static str) -> Option<String> {
        let name = self.optional_text(field)?;
        self.as_header_name(&name, field)
    }

    /// A list of header names, folded to lower case.
    pub(crate) fn header_names(&mut self, field: &'static str) -> Vec<String> {
        let names = self.texts(field).into_iter().enumerate();
        names
            .filter_map(|(index, name)| self.as_header_name(&name, &format!("{field}[{index}]")))
            .collect()
    }

    /// Compiles an expression that a field gave.
    pub(crate) fn pattern(
        &self,
        field: &str,
        compiled: Result<Pattern, regex::Error>,
    ) -> Option<Pattern> {
        let report = |error: &regex::Error| {
            // The crate's own text draws the expression over several lines; its last line is the cause.
            let text = error.to_string();
            let cause = text.lines().last().unwrap_or_default();
            let cause = cause.trim_start_matches("error: ");
            self.problem_at(field, format!("invalid regular expression: {cause}"));
        };
        compiled.inspect_err(report).ok()
    }

    /// The elements of a repeated field; none when unset. Envoy takes one that stands there without
    /// a list around it, as its published examples have it: `listeners: {address: ...}`.
    pub(super) fn elements(&mut self, field: &'static str) -> &'a [Value] {
        match self.take(field) {
            Some(Value::Array(values)) => values,
            Some(value) => std::slice::from_ref(value),
            None => &[],
        }
    }

    /// The entries of a map field.
    pub(super) fn entries(&mut self, field: &'static str) -> Option<&'a Map<String, Value>> {
        match self.take(field)? {
            Value::Object(entries) => Some(entries),
            value => {
                self.expected(field, "an object", value);
                None
            }
        }
    }

    fn expected(&self, field: &str, what: &str, got: &Value) {
        self.problem_at(field, format!("expected {what}, got {}", describe(got)));
    }

    fn as_text(&self, value: &Value, field: &str) -> Option<String> {
        if let Value::String(text) = value {
            return Some(text.clone());
        }
        let mend = if value.is_number() || value.is_boolean() { " (put it in quotes)" } else { "" };
        self.problem_at(field, format!("expected a string, got {}{mend}", describe(value)));
        None
    }

    fn as_integer(&self, value: &Value, field: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let integer = whole(value).and_then(|number| u32::try_from(number).ok());
        let inside = integer.filter(|integer| range.contains(integer));
        if inside.is_none() {
            let what = format!("an integer from {} to {}", range.start(), range.end());
            self.expected(field, &what, value);
        }
        inside
    }

    fn as_header_name(&self, name: &str, field: &str) -> Option<String> {
        let token = name.strip_prefix(':').unwrap_or(name);
        let valid = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if token.is_empty() || !token.chars().all(valid) {
            self.problem_at(field, format!("'{}' is no header name", name.escape_debug()));
            return None;
        }
        Some(name.to_ascii_lowercase())
    }
}

/// proto3-JSON spells a 64-bit integer as a string, and takes `1.0` for 1.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            let exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
            #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number")]
            exact.then_some(float as i64)
        }),
        _ => None,
    }
}

/// proto3-JSON's duration: seconds, up to nine decimals, `s`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    // protobuf's own bound: ten thousand years.
    let seconds = seconds.parse().ok().filter(|seconds| *seconds <= 315_576_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// base64, standard or URL-safe, padded or not.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let url_safe = text.contains(['-', '_']);
    let alphabet = if url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()
}
