//! Words of an expression: the whole text first, so that the parser looks at tokens only.
//!
//! Escapes and numbers are Envoy's: what its parser refuses (`\q`, a number that does not fit) is
//! refused here, and not left to evaluation.

use super::value::Value;

/// A word.
#[derive(Clone, Debug)]
pub(super) enum Token {
    Literal(Value),
    Ident(String),
    /// An operator or bracket.
    Sign(&'static str),
}

/// Longest first, so that `<=` is not read as `<`.
const SIGNS: [&str; 23] = [
    "||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{",
];

/// Splits the text into words; none if some of it is not one.
pub(super) fn words(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some((token, after)) = string(rest) {
            tokens.push(token?);
            rest = after;
        } else if first.is_ascii_digit()
            || (first == '.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit))
        {
            let (token, after) = number(rest)?;
            tokens.push(token);
            rest = after;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (name, after) = rest.split_at(len);
            tokens.push(match name {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                "in" => Token::Sign("in"),
                _ => Token::Ident(name.to_owned()),
            });
            rest = after;
        } else if let Some(after) = rest.strip_prefix('}') {
            tokens.push(Token::Sign("}"));
            rest = after;
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
            tokens.push(Token::Sign(sign));
            rest = rest.strip_prefix(sign)?;
        }
        rest = rest.trim_start();
    }
    Some(tokens)
}

fn number(text: &str) -> Option<(Token, &str)> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let len = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let (digits, rest) = hex.split_at(len);
        return integer(u64::from_str_radix(digits, 16).ok()?, rest);
    }
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut len = digits(0);
    let mut double = false;
    if bytes.get(len) == Some(&b'.') && bytes.get(len + 1).is_some_and(u8::is_ascii_digit) {
        len += 1 + digits(len + 1);
        double = true;
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let exponent = digits(len + 1 + sign);
        if exponent > 0 {
            len += 1 + sign + exponent;
            double = true;
        }
    }
    let (number, rest) = text.split_at(len);
    if double {
        return Some((Token::Literal(Value::Double(number.parse().ok()?)), rest));
    }
    integer(number.parse().ok()?, rest)
}

/// An integer, unsigned with a `u` behind it. The one below the smallest positive number that does
/// not fit is left to the parser's minus.
fn integer(value: u64, rest: &str) -> Option<(Token, &str)> {
    if let Some(rest) = rest.strip_prefix(['u', 'U']) {
        return Some((Token::Literal(Value::Uint(value)), rest));
    }
    let value = match i64::try_from(value) {
        Ok(value) => value,
        Err(_) if value == 1 << 63 => i64::MIN,
        Err(_) => return None,
    };
    Some((Token::Literal(Value::Int(value)), rest))
}

/// A string or bytes, if the text begins with one; the inner `None` is one that never ends.
fn string(text: &str) -> Option<(Option<Token>, &str)> {
    let (mut raw, mut bytes, mut body) = (false, false, text);
    loop {
        match body.chars().next()? {
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes => bytes = true,
            '\'' | '"' => break,
            _ => return None,
        }
        body = body.get(1..)?;
    }
    let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| body.starts_with(quote))?;
    let Some(found) = contents(body.strip_prefix(quote)?, quote, raw, bytes) else {
        return Some((None, ""));
    };
    let (content, rest) = found;
    let value = if bytes { Value::Bytes(content.into()) } else { Value::Text(content.into()) };
    Some((Some(Token::Literal(value)), rest))
}

fn contents<'a>(text: &'a str, quote: &str, raw: bool, bytes: bool) -> Option<(Vec<u8>, &'a str)> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix(quote) {
            return Some((out, after));
        }
        let mut chars = rest.chars();
        let c = chars.next()?;
        rest = chars.as_str();
        match c {
            '\n' if quote.len() == 1 => return None,
            '\\' if !raw => rest = escape(rest, bytes, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn escape<'a>(text: &'a str, bytes: bool, out: &mut Vec<u8>) -> Option<&'a str> {
    let kind = *text.as_bytes().first()?;
    let digits = |from: usize, len: usize, radix: u32| {
        let code = u32::from_str_radix(text.get(from..from + len)?, radix).ok()?;
        Some((code, text.get(from + len..)?))
    };
    let (code, rest) = match kind {
        b'n' => (10, text.get(1..)?),
        b't' => (9, text.get(1..)?),
        b'r' => (13, text.get(1..)?),
        b'a' => (7, text.get(1..)?),
        b'b' => (8, text.get(1..)?),
        b'f' => (12, text.get(1..)?),
        b'v' => (11, text.get(1..)?),
        b'\\' | b'\'' | b'"' | b'`' | b'?' => (u32::from(kind), text.get(1..)?),
        b'x' | b'X' => digits(1, 2, 16)?,
        b'u' if !bytes => digits(1, 4, 16)?,
        b'U' if !bytes => digits(1, 8, 16)?,
        b'0'..=b'3' => digits(0, 3, 8)?,
        _ => return None,
    };
    if bytes {
        out.push(u8::try_from(code).ok()?);
    } else {
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(rest)
}
