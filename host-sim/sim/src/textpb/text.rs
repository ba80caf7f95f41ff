//! Protobuf's text format: a tree of fields, each with its place.
//!
//! Only what the format is, nothing of any message: `name: value`, `name { ... }`, `name < ... >`,
//! lists, strings in parts, escapes, comments. What a field means is [`super::suite`]'s affair.

use crate::problem::{Place, Problem};

/// Deeper messages are not read: each level is a level of recursion.
const MAX_DEPTH: usize = 100;

/// The fields between two braces, or of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) place: Place,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Message(Message),
    /// A string, its parts joined and escapes undone.
    Bytes(Vec<u8>),
    /// A number, or a word such as `true` or an enum's value.
    Word(String),
}

/// Reads a file.
///
/// # Errors
/// The first fault, at its place.
pub(crate) fn parse(text: &str) -> Result<Message, Problem> {
    let mut parser = Parser { rest: text, place: Place { line: 1, column: 1 } };
    let place = parser.place;
    let fields = parser.fields(None, 0)?;
    Ok(Message { place, fields })
}

struct Parser<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Parser<'a> {
    fn fault<T>(&self, text: impl Into<String>) -> Result<T, Problem> {
        Err(Problem { place: self.place, text: text.into() })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        if next == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(next)
    }

    fn skip(&mut self) {
        while let Some(next) = self.peek() {
            if next == '#' {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.bump();
                }
            } else if next.is_whitespace() {
                self.bump();
            } else {
                return;
            }
        }
    }

    /// Takes the character if it is the next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip();
        let found = self.peek() == Some(wanted);
        if found {
            self.bump();
        }
        found
    }

    fn fields(&mut self, end: Option<char>, depth: usize) -> Result<Vec<Field>, Problem> {
        if depth > MAX_DEPTH {
            return self.fault(format!("deeper than {MAX_DEPTH} levels"));
        }
        let mut fields = Vec::new();
        loop {
            self.skip();
            match (self.peek(), end) {
                (None, None) => return Ok(fields),
                (None, Some(end)) => return self.fault(format!("the file ends before '{end}'")),
                (Some(next), Some(end)) if next == end => {
                    self.bump();
                    return Ok(fields);
                }
                _ => self.field(&mut fields, depth)?,
            }
        }
    }

    fn field(&mut self, fields: &mut Vec<Field>, depth: usize) -> Result<(), Problem> {
        let place = self.place;
        if self.peek() == Some('[') {
            return self.fault("extensions are not part of this format");
        }
        let name = self.word();
        if name.is_empty() {
            let next = self.peek().unwrap_or_default();
            return self.fault(format!("expected a field, got '{next}'"));
        }
        let colon = self.take(':');
        self.skip();
        let mut add = |value| fields.push(Field { name: name.to_owned(), place, value });
        if self.take('[') {
            if !self.take(']') {
                loop {
                    add(self.value(true, depth)?);
                    if self.take(']') {
                        break;
                    }
                    if !self.take(',') {
                        return self.fault("expected ',' or ']'");
                    }
                }
            }
        } else {
            add(self.value(colon, depth)?);
        }
        // Separators are allowed and mean nothing.
        let _ = self.take(',') || self.take(';');
        Ok(())
    }

    fn value(&mut self, colon: bool, depth: usize) -> Result<Value, Problem> {
        self.skip();
        let place = self.place;
        for (open, close) in [('{', '}'), ('<', '>')] {
            if self.take(open) {
                let fields = self.fields(Some(close), depth + 1)?;
                return Ok(Value::Message(Message { place, fields }));
            }
        }
        if !colon {
            return self.fault("expected ':' or '{' after the field's name");
        }
        if matches!(self.peek(), Some('"' | '\'')) {
            return self.string().map(Value::Bytes);
        }
        let sign = if self.take('-') { "-" } else { "" };
        self.skip();
        let word = self.word();
        if word.is_empty() {
            return self.fault("expected a value");
        }
        Ok(Value::Word(format!("{sign}{word}")))
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.+".contains(c)));
        let word = &self.rest[..end.unwrap_or(self.rest.len())];
        word.chars().for_each(|_| {
            self.bump();
        });
        word
    }

    /// Adjacent strings are one.
    fn string(&mut self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        loop {
            self.skip();
            let Some(quote @ ('"' | '\'')) = self.peek() else { return Ok(bytes) };
            self.bump();
            loop {
                match self.peek() {
                    None | Some('\n') => return self.fault("the string does not end in its line"),
                    Some('\\') => {
                        self.bump();
                        self.escape(&mut bytes)?;
                    }
                    Some(next) => {
                        self.bump();
                        if next == quote {
                            break;
                        }
                        bytes.extend(next.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Problem> {
        let Some(next) = self.peek() else { return self.fault("the string does not end") };
        if next.is_digit(8) {
            let code = self.digits(8, 3);
            return match code.and_then(|code| u8::try_from(code).ok()) {
                Some(byte) => {
                    bytes.push(byte);
                    Ok(())
                }
                None => self.fault("an octal escape goes up to \\377"),
            };
        }
        self.bump();
        let plain = match next {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '?' => next as u8,
            'x' | 'X' => match self.digits(16, 2) {
                Some(code) => u8::try_from(code).unwrap_or_default(),
                None => return self.fault("expected hexadecimal digits after \\x"),
            },
            'u' | 'U' => {
                let count = if next == 'u' { 4 } else { 8 };
                let before = self.rest.len();
                let letter = self.digits(16, count).and_then(char::from_u32);
                let Some(letter) = letter.filter(|_| before - self.rest.len() == count) else {
                    return self.fault(format!("expected {count} digits of a character's code"));
                };
                bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            other => return self.fault(format!("unknown escape '\\{other}'")),
        };
        bytes.push(plain);
        Ok(())
    }

    fn digits(&mut self, radix: u32, most: usize) -> Option<u32> {
        let mut code = None;
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|next| next.to_digit(radix)) else { break };
            self.bump();
            code = Some(code.unwrap_or(0) * radix + digit);
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Value {
        parse(text).unwrap().fields.remove(0).value
    }

    fn fault(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn fields_lists_and_messages_are_read_with_their_places() {
        let text = "# a comment\nenv { log_level: DEBUG; n: -1.5e3 }\ntest: <name: 'x'>, tag: [1, 2]\nempty: []";
        let message = parse(text).unwrap();
        let names: Vec<_> = message.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["env", "test", "tag", "tag"]);
        assert_eq!(message.fields[1].place, Place { line: 3, column: 1 });
        let Value::Message(env) = &message.fields[0].value else { panic!("no message") };
        assert_eq!(env.fields[0].value, Value::Word("DEBUG".to_owned()));
        assert_eq!(env.fields[1].value, Value::Word("-1.5e3".to_owned()));
        assert_eq!(message.fields[3].value, Value::Word("2".to_owned()));
    }

    #[test]
    fn strings_come_in_parts_with_escapes() {
        assert_eq!(one("a: \"x\" # between\n 'y'"), Value::Bytes(b"xy".to_vec()));
        let escapes = r#"a: "\n\t\"\\\'\x41\101\0\u00e9\U0001F600""#;
        let mut wanted = b"\n\t\"\\'AA\0".to_vec();
        wanted.extend("é😀".as_bytes());
        assert_eq!(one(escapes), Value::Bytes(wanted));
        assert_eq!(one(r#"a: "\377\xff""#), Value::Bytes(vec![255, 255]));
    }

    #[test]
    fn faults_have_line_and_column() {
        assert_eq!(fault("a {\n  b: 1\n"), "line 3 column 1: the file ends before '}'");
        assert_eq!(fault("a: \"x\ny\""), "line 1 column 6: the string does not end in its line");
        assert_eq!(fault("a 1"), "line 1 column 3: expected ':' or '{' after the field's name");
        assert_eq!(fault("a: \"\\q\""), "line 1 column 7: unknown escape '\\q'");
        assert_eq!(fault("}"), "line 1 column 1: expected a field, got '}'");
        assert_eq!(fault("a: [1 2]"), "line 1 column 7: expected ',' or ']'");
        assert!(fault(&"a{".repeat(200)).contains("deeper than"));
    }
}
