//! Envoy's format strings, compiled: access log lines and header values.
//!
//! A string is cut into literals and operators once, at load, so that an unknown operator is an
//! error with its position and not a `-` in a log that nobody reads until it matters. What an
//! operator yields is the caller's affair ([`Values`]); how absence, length limits and JSON types are
//! written is decided here, as Envoy writes them: text shows `-`, JSON `null`, and a JSON string that
//! is one numeric operator becomes a number.

mod operator;
mod parse;
mod time;

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use host_sim_bootstrap::AccessLogFormat;
use serde_json::{Map, Value as Json};

use crate::UnixNanos;

pub use operator::{Field, HeadersOf};

use operator::{Operator, Serialization};
use parse::Part;

/// Envoy's format when none is configured.
pub const DEFAULT_FORMAT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" "#,
    r#"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "#,
    r#"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#,
    r#""%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%""#,
    "\n",
);

/// What an exchange can say about itself.
pub trait Values {
    /// The first value of a header, by its lower-case name.
    fn header(&self, of: HeadersOf, name: &str) -> Option<Cow<'_, str>>;
    /// A field; `None` = not known (yet).
    fn field(&self, field: Field) -> Option<Value>;
    /// The bytes of a filter state object.
    fn filter_state(&self, key: &str) -> Option<Cow<'_, [u8]>>;
    /// When the exchange began.
    fn start_time(&self) -> UnixNanos;
}

/// What a field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number: unquoted in JSON.
    Number(u64),
}

/// A format string that does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The format string.
    pub format: String,
    /// Byte position in it.
    pub position: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "format {:?}, at {}: {}", self.format, self.position, self.message)
    }
}

impl std::error::Error for FormatError {}

/// A compiled format string.
#[derive(Clone, Debug, PartialEq)]
pub struct Formatter {
    parts: Vec<Part>,
    omit_empty: bool,
}

impl Formatter {
    /// Compiles. With `omit_empty`, what has no value leaves nothing instead of `-`.
    pub fn new(format: &str, omit_empty: bool) -> Result<Self, FormatError> {
        Ok(Self { parts: parse::parse(format)?, omit_empty })
    }

    /// The text for one exchange.
    #[must_use]
    pub fn format(&self, values: &dyn Values) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Operator { operator, max_length } => {
                    match value(operator, *max_length, values) {
                        Some(Value::Text(value)) => text.push_str(&value),
                        Some(Value::Number(number)) => text.push_str(&number.to_string()),
                        None if self.omit_empty => {}
                        None => text.push('-'),
                    }
                }
            }
        }
        text
    }

    /// As a JSON value: one operator alone keeps its type, and its absence.
    fn json(&self, values: &dyn Values) -> Option<Json> {
        if let [Part::Operator { operator, max_length }] = &self.parts[..] {
            return value(operator, *max_length, values).map(|value| match value {
                Value::Text(text) => Json::String(text),
                Value::Number(number) => Json::from(number),
            });
        }
        Some(Json::String(self.format(values)))
    }
}

/// A compiled access log format.
#[derive(Clone, Debug, PartialEq)]
pub enum LineFormatter {
    /// A text; its line feed is part of the format.
    Text(Formatter),
    /// A JSON object a line, keys sorted.
    Json {
        /// Keys and what they get.
        template: Vec<(String, Template)>,
        /// Leave out keys without a value instead of writing `null`.
        omit_empty: bool,
    },
}

/// One value of a JSON format.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// A format string.
    Format(Formatter),
    /// A number, a boolean or `null`.
    Constant(Json),
    /// Nested.
    Object(Vec<(String, Template)>),
    /// Nested.
    List(Vec<Template>),
}

impl LineFormatter {
    /// Compiles what an access logger is configured with.
    pub fn new(format: &AccessLogFormat, omit_empty: bool) -> Result<Self, FormatError> {
        Ok(match format {
            AccessLogFormat::Default => Self::Text(Formatter::new(DEFAULT_FORMAT, omit_empty)?),
            AccessLogFormat::Text(text) => Self::Text(Formatter::new(text, omit_empty)?),
            AccessLogFormat::Json(fields) => {
                Self::Json { template: Template::object(fields, omit_empty)?, omit_empty }
            }
        })
    }

    /// The line for one exchange.
    #[must_use]
    pub fn line(&self, values: &dyn Values) -> String {
        match self {
            Self::Text(formatter) => formatter.format(values),
            Self::Json { template, omit_empty } => {
                let mut line = fill(template, values, *omit_empty).to_string();
                line.push('\n');
                line
            }
        }
    }
}

impl Template {
    fn object(
        fields: &Map<String, Json>,
        omit_empty: bool,
    ) -> Result<Vec<(String, Self)>, FormatError> {
        let compiled =
            fields.iter().map(|(key, value)| Ok((key.clone(), Self::new(value, omit_empty)?)));
        let mut compiled: Vec<_> = compiled.collect::<Result<_, FormatError>>()?;
        compiled.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(compiled)
    }

    fn new(value: &Json, omit_empty: bool) -> Result<Self, FormatError> {
        Ok(match value {
            Json::String(format) => Self::Format(Formatter::new(format, omit_empty)?),
            Json::Object(fields) => Self::Object(Self::object(fields, omit_empty)?),
            Json::Array(values) => {
                let values = values.iter().map(|value| Self::new(value, omit_empty));
                Self::List(values.collect::<Result<_, _>>()?)
            }
            constant => Self::Constant(constant.clone()),
        })
    }

    fn value(&self, values: &dyn Values, omit_empty: bool) -> Option<Json> {
        match self {
            Self::Format(formatter) => formatter.json(values),
            Self::Constant(constant) => Some(constant.clone()),
            Self::Object(fields) => Some(fill(fields, values, omit_empty)),
            Self::List(items) => {
                let item = |item: &Self| item.value(values, omit_empty).unwrap_or(Json::Null);
                Some(Json::Array(items.iter().map(item).collect()))
            }
        }
    }
}

fn fill(template: &[(String, Template)], values: &dyn Values, omit_empty: bool) -> Json {
    let filled = template.iter().filter_map(|(key, template)| {
        let value = template.value(values, omit_empty);
        let is_kept = value.is_some() || !omit_empty;
        is_kept.then(|| (key.clone(), value.unwrap_or(Json::Null)))
    });
    Json::Object(filled.collect())
}

/// An operator's value, cut to its length limit.
fn value(operator: &Operator, max_length: Option<usize>, values: &dyn Values) -> Option<Value> {
    let value = match operator {
        Operator::Field(field) => {
            let value = values.field(*field);
            // The one field whose absence is a dash in JSON too.
            let is_flags = *field == Field::ResponseFlags;
            value.or_else(|| is_flags.then(|| Value::Text("-".to_owned())))
        }
        Operator::Header { of, name, alternative, without_query } => {
            let text = values.header(*of, name);
            let text = text.or_else(|| values.header(*of, alternative.as_deref()?));
            text.map(|text| {
                let end = if *without_query { text.find('?') } else { None };
                Value::Text(text.get(..end.unwrap_or(text.len())).unwrap_or(&text).to_owned())
            })
        }
        Operator::FilterState { key, serialization } => {
            let bytes = values.filter_state(key);
            bytes.map(|bytes| Value::Text(serialization.write(&bytes)))
        }
        Operator::StartTime(format) => Some(Value::Text(format.write(values.start_time()))),
    }?;
    Some(match (value, max_length) {
        (Value::Text(text), Some(max)) => Value::Text(cut(&text, max).to_owned()),
        (value, _) => value,
    })
}

/// The first `max` bytes, or fewer, so that no character is cut apart.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Serialization {
    /// `PLAIN` is the object's own text. Otherwise Envoy writes what a plugin stored as a
    /// `BytesValue` in proto3-JSON.
    fn write(self, bytes: &[u8]) -> String {
        match self {
            Self::Plain => String::from_utf8_lossy(bytes).into_owned(),
            Self::Typed => {
                let value = base64::engine::general_purpose::STANDARD.encode(bytes);
                let kind = "type.googleapis.com/google.protobuf.BytesValue";
                format!(r#"{{"@type":"{kind}","value":"{value}"}}"#)
            }
        }
    }
}

#[cfg(test)]
mod tests;
