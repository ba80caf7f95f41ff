//! The document before it has a type: JSON that a plugin may receive, bounded, without surprises.

use crate::{MAX_BYTES, MAX_DEPTH, Problems};
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads `bytes` as JSON. Refuses what serde_json would let pass: duplicate keys (the last would
/// win in silence), great depth, great size, and a `google.protobuf.Struct`, which Envoy hands over
/// as protobuf bytes although its documentation says JSON.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, Problems> {
    if bytes.len() > MAX_BYTES {
        let message = format!("{} bytes are too many: the limit is {MAX_BYTES}", bytes.len());
        return Err(Problems::one("", message));
    }
    if looks_like_protobuf(bytes) {
        return Err(Problems::one(
            "",
            "the configuration arrived as protobuf bytes, not JSON: Envoy does this to a \
             google.protobuf.Struct; wrap the JSON text in a google.protobuf.StringValue",
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut duplicate = None;
    let seed = Strict { depth: 0, pointer: String::new(), duplicate: &mut duplicate };
    let value = seed.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match (value, duplicate) {
        (_, Some(pointer)) => Err(Problems::one(pointer, "this key stands twice: keep one")),
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(Problems::one("", format!("not valid JSON: {error}"))),
    }
}

/// A serialized `Struct` begins with the tag of its map field, a length, and the tag of the key.
fn looks_like_protobuf(bytes: &[u8]) -> bool {
    matches!(bytes, [0x0a, _, 0x0a, ..] | [0x0a, _, _, 0x0a, ..])
        && core::str::from_utf8(bytes).map_or(true, |text| !text.trim_start().starts_with('{'))
}

struct Strict<'a> {
    depth: usize,
    pointer: String,
    duplicate: &'a mut Option<String>,
}

impl Strict<'_> {
    fn below(&mut self, step: &str) -> Strict<'_> {
        let step = step.replace('~', "~0").replace('/', "~1");
        let pointer = format!("{}/{step}", self.pointer);
        Strict { depth: self.depth + 1, pointer, duplicate: self.duplicate }
    }

    fn check_depth<E: Error>(&self) -> Result<(), E> {
        if self.depth < MAX_DEPTH {
            return Ok(());
        }
        Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Istio carries the configuration in a Struct, whose numbers are all doubles, and may
        // print 100 as 100.0: an integral number is that integer.
        let integral = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        Ok(if integral { (value as i64).into() } else { value.into() })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below(&list.len().to_string()))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let below = self.below(&key);
            if object.contains_key(&key) {
                let pointer = below.pointer.clone();
                *below.duplicate = Some(pointer);
                return Err(A::Error::custom("duplicate key"));
            }
            let value = entries.next_value_seed(below)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
