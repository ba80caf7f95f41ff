//! JSON as it was written, bounded and without surprises.
//!
//! serde_json reads the text. Its own tree would bring maps, exact numbers and their printing along,
//! which no module needs: an object here is a sorted list, and a number is whole or it is not.

use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, written with a fraction of zero or without one.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// An object, sorted by key. Each key stands once.
    Object(Vec<(String, Value)>),
}

/// A document, and where it is more than a careful reader takes.
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Pointer to the first key that stands twice. The last one counts.
    pub(crate) duplicate: Option<String>,
    /// Levels of nesting.
    pub(crate) depth: usize,
}

impl Value {
    /// Reads a JSON text that another program has written; `None` if it is none.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        read(json).ok().map(|document| document.value)
    }

    /// The same, if it is nested no deeper than `depth` levels.
    pub fn from_json_within(json: &[u8], depth: usize) -> Option<Self> {
        read(json).ok().filter(|document| document.depth <= depth).map(|document| document.value)
    }

    /// The entry `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        if let Self::Object(entries) = self { lookup(entries, name) } else { None }
    }

    /// The elements of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        if let Self::Array(items) = self { items } else { &[] }
    }

    /// The entries of an object, by name; none of anything else.
    pub fn entries(&self) -> &[(String, Self)] {
        if let Self::Object(entries) = self { entries } else { &[] }
    }

    /// The value at an RFC 6901 pointer.
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        if pointer.is_empty() {
            return Some(self);
        }
        let mut place = self;
        for step in pointer.strip_prefix('/')?.split('/') {
            let step = step.replace("~1", "/").replace("~0", "~");
            place = match place {
                Self::Object(entries) => lookup(entries, &step)?,
                Self::Array(items) => items.get(index(&step)?)?,
                _ => return None,
            };
        }
        Some(place)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The truth value, if it is one.
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The number, if it is one.
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }
}

/// An index as RFC 6901 writes it: digits without a leading zero.
fn index(step: &str) -> Option<usize> {
    let plain = step == "0" || !step.starts_with(['0', '+']);
    if plain { step.parse().ok() } else { None }
}

/// The value of `key` in a sorted object.
pub(crate) fn lookup<'a>(entries: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    let at = entries.binary_search_by(|(other, _)| other.as_str().cmp(key)).ok()?;
    entries.get(at).map(|(_, value)| value)
}

/// Reads `json`, which serde_json takes to a depth of 128.
pub(crate) fn read(json: &[u8]) -> Result<Document, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut place = Place::default();
    let value = Reader(&mut place).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Document { value, duplicate: place.duplicate, depth: place.deepest })
}

/// Where the reader is, and what it met. It never fails: making serde_json's errors costs two KiB.
#[derive(Default)]
struct Place {
    pointer: String,
    duplicate: Option<String>,
    depth: usize,
    deepest: usize,
}

impl Place {
    fn enter(&mut self) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
    }
}

/// Adds a step to an RFC 6901 pointer, and returns the length it had.
pub(crate) fn step_into(pointer: &mut String, step: &str) -> usize {
    let length = pointer.len();
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(c),
        }
    }
    length
}

struct Reader<'a>(&'a mut Place);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Istio carries the configuration in a Struct, whose numbers are all doubles, and may
        // print 100 as 100.0: an integral number is that integer.
        let integral = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        Ok(if integral { Value::Integer(value as i64) } else { Value::Number(value) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let place = self.0;
        place.enter();
        let mut list: Vec<Value> = Vec::new();
        loop {
            let length = step_into(&mut place.pointer, &list.len().to_string());
            let Some(item) = items.next_element_seed(Reader(place))? else {
                place.pointer.truncate(length);
                break;
            };
            place.pointer.truncate(length);
            list.push(item);
        }
        place.depth -= 1;
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let place = self.0;
        place.enter();
        let mut object: Vec<(String, Value)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let length = step_into(&mut place.pointer, &key);
            let at = object.binary_search_by(|(other, _)| other.cmp(&key));
            if at.is_ok() && place.duplicate.is_none() {
                place.duplicate = Some(place.pointer.clone());
            }
            let value = entries.next_value_seed(Reader(place))?;
            place.pointer.truncate(length);
            match at {
                Ok(at) => object.splice(at..=at, [(key, value)]).for_each(drop),
                Err(at) => object.insert(at, (key, value)),
            }
        }
        place.depth -= 1;
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_whole_number_is_whole_however_it_is_written() {
        for json in ["3", "3.0", "0.3e1"] {
            assert_eq!(value(json), Value::Integer(3), "{json}");
        }
        assert_eq!(value("-0.5"), Value::Number(-0.5));
        assert_eq!(value("18446744073709551615").as_f64(), Some(u64::MAX as f64));
    }

    #[test]
    fn of_a_foreign_documents_equal_keys_the_last_one_counts() {
        let document = value(r#"{"b":1,"a":2,"b":[{"c/d":null,"e~":true}]}"#);
        assert_eq!(document.pointer("/b/0/e~0").and_then(Value::as_bool), Some(true));
        assert_eq!(document.pointer("/b/0/c~1d"), Some(&Value::Null));
        assert_eq!(document.pointer(""), Some(&document));
        for absent in ["b", "/b/1", "/b/00", "/b/+0", "/a/0", "/"] {
            assert_eq!(document.pointer(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_foreign_document_may_be_too_deep() {
        assert!(Value::from_json_within(b"[[{}]]", 3).is_some());
        assert!(Value::from_json_within(b"[[{}]]", 2).is_none());
        let document = value(r#"{"a":[1,2]}"#);
        assert_eq!(document.get("a").map(|list| list.items().len()), Some(2));
        assert_eq!(document.entries().len(), 1);
        assert!(document.items().is_empty() && document.get("b").is_none());
    }

    #[test]
    fn what_is_no_json_is_no_value() {
        for text in ["", "{", "[1,]", "{} x", "nul", &"[".repeat(200)] {
            assert_eq!(Value::from_json(text.as_bytes()), None, "{text}");
        }
    }
}
