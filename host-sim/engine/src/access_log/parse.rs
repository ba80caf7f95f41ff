//! Cuts a format string into literals and operators: `%NAME%`, `%NAME(ARGUMENT)%`, `%NAME:LENGTH%`.

use super::FormatError;
use super::operator::Operator;

/// A piece of a format string.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Operator { operator: Operator, max_length: Option<usize> },
}

/// Compiles a format string.
pub(super) fn parse(format: &str) -> Result<Vec<Part>, FormatError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("%%") {
            literal.push('%');
            rest = after;
            continue;
        }
        let error = |message: String| FormatError {
            format: format.to_owned(),
            position: format.len() - from.len(),
            message,
        };
        let (part, after) = operator(from).map_err(error)?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(part);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// One operator at the start of `text`, and what follows it.
fn operator(text: &str) -> Result<(Part, &str), String> {
    const SHAPE: &str = "expected '%NAME%', '%NAME(ARGUMENT)%' or '%NAME(ARGUMENT):LENGTH%'; \
                         a percent sign itself is '%%'";
    let body = text.strip_prefix('%').unwrap_or(text);
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let end = body.find(|c| !is_name(c)).unwrap_or(body.len());
    let (name, mut rest) = body.split_at(end);
    if name.is_empty() {
        return Err(SHAPE.to_owned());
    }
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (inside, after) = inner.split_once(')').ok_or_else(|| SHAPE.to_owned())?;
        argument = Some(inside);
        rest = after;
    }
    let mut max_length = None;
    if let Some(number) = rest.strip_prefix(':') {
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(end);
        max_length = Some(digits.parse().map_err(|_| SHAPE.to_owned())?);
        rest = after;
    }
    let rest = rest.strip_prefix('%').ok_or_else(|| SHAPE.to_owned())?;
    let operator = Operator::new(name, argument)?;
    Ok((Part::Operator { operator, max_length }, rest))
}
