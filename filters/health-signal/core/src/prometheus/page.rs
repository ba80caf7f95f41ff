//! The lines of a page.
//!
//! ```text
//! # TYPE http_requests_total counter
//! http_requests_total{method="post",code="200"} 1027 1395066363000
//! http_requests_total{method="get"} 4 # {trace_id="a"} 0.67     an exemplar, in OpenMetrics
//! # EOF
//! ```

use super::Sample;
use plugin_config::parse_decimal;

/// The page is not of the format, or has too many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) enum Line<'a> {
    /// What kind of metric a family is.
    Type { name: &'a str, kind: &'a str },
    /// A series and its value.
    Sample(SampleLine<'a>),
}

/// A line of a series, of which only the name has been read.
pub(super) struct SampleLine<'a> {
    pub(super) name: &'a str,
    /// Name and labels, as they stand there, after [`SampleLine::rest`] is known to succeed.
    pub(super) text: &'a str,
    rest: &'a str,
    in_seconds: bool,
}

/// What a line of a wanted series holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) value: f64,
    /// The upper bound of a histogram's bucket.
    pub(super) le: Option<f64>,
    pub(super) timestamp_ms: Option<i64>,
}

pub(super) struct Lines<'a> {
    lines: core::str::Lines<'a>,
    left: usize,
    /// OpenMetrics: timestamps are in seconds.
    in_seconds: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, most: usize) -> Self {
        let in_seconds = text.trim_end().ends_with("# EOF");
        Self { lines: text.lines(), left: most, in_seconds }
    }

    /// The next line that says something; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'a>>, Malformed> {
        loop {
            let Some(line) = self.lines.next() else { return Ok(None) };
            self.left = self.left.checked_sub(1).ok_or(Malformed)?;
            let line = line.trim_matches([' ', '\t']);
            if let Some(comment) = line.strip_prefix('#') {
                let mut words = comment.split_ascii_whitespace();
                match (words.next(), words.next(), words.next()) {
                    (Some("EOF"), None, None) => return Ok(None),
                    (Some("TYPE"), Some(name), Some(kind)) => {
                        return Ok(Some(Line::Type { name, kind }));
                    }
                    _ => {}
                }
            } else if !line.is_empty() {
                let end = line.find(['{', ' ', '\t']).ok_or(Malformed)?;
                let (name, rest) = line.split_at_checked(end).ok_or(Malformed)?;
                let labels = if rest.starts_with('{') { closing(rest)? } else { 0 };
                let text = line.get(..end + labels).ok_or(Malformed)?;
                let in_seconds = self.in_seconds;
                return Ok(Some(Line::Sample(SampleLine { name, text, rest, in_seconds })));
            }
        }
    }
}

/// Where the braces that `text` begins with end.
fn closing(text: &str) -> Result<usize, Malformed> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Ok(at + 1),
            _ => {}
        }
    }
    Err(Malformed)
}

impl SampleLine<'_> {
    /// Reads labels and value. `None` if the labels are not those of the sample.
    pub(super) fn rest(&self, sample: &Sample) -> Result<Option<Found>, Malformed> {
        let mut rest = self.rest;
        let mut le = None;
        let mut missing = sample.labels.iter().filter(|(_, wanted)| !wanted.is_empty()).count();
        let mut matches = true;
        if let Some(mut labels) = rest.strip_prefix('{') {
            loop {
                labels = labels.trim_start_matches([' ', '\t', ',']);
                if let Some(after) = labels.strip_prefix('}') {
                    rest = after;
                    break;
                }
                let (name, after) = labels.split_once('=').ok_or(Malformed)?;
                let name = name.trim_end();
                let (value, after) = quoted(after.trim_start())?;
                labels = after;
                if name == "le" {
                    le = Some(number(&value)?);
                }
                for (_, wanted) in sample.labels.iter().filter(|(wanted, _)| wanted == name) {
                    matches &= *wanted == value;
                    missing = missing.saturating_sub(usize::from(!wanted.is_empty()));
                }
                let is_barred =
                    |(barred, other): &(String, String)| barred == name && *other == value;
                matches &= !sample.labels_not.iter().any(is_barred);
            }
        }
        let mut words = rest.split_ascii_whitespace();
        let value = number(words.next().ok_or(Malformed)?)?;
        let timestamp = words.next().filter(|word| !word.starts_with('#'));
        let timestamp_ms = timestamp.map(|word| self.timestamp(word)).transpose()?;
        // A label that must not be empty and is absent does not match; one that must not be of some
        // value, and is absent, does.
        let found = Found { value, le, timestamp_ms };
        Ok((matches && missing == 0).then_some(found))
    }

    fn timestamp(&self, word: &str) -> Result<i64, Malformed> {
        let number = parse_decimal(word).filter(|number| number.is_finite()).ok_or(Malformed)?;
        Ok((if self.in_seconds { number * 1000.0 } else { number }) as i64)
    }
}

/// A quoted text at the beginning, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), Malformed> {
    let inside = text.strip_prefix('"').ok_or(Malformed)?;
    let mut value = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, inside.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next().ok_or(Malformed)?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    Err(Malformed)
}

/// A value as Go writes it.
fn number(text: &str) -> Result<f64, Malformed> {
    parse_decimal(text).ok_or(Malformed)
}
