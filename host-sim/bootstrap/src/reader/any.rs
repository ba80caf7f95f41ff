//! `Any` fields: a message that says itself what it is.
//!
//! Extensions have a second spelling, which Envoy took before it knew every type at hand and which
//! examples and control planes still use: a `TypedStruct`, whose `type_url` names the message and
//! whose `value` holds its fields.

use serde_json::{Map, Value};

use super::{Message, Reader, describe, open};
use crate::problem::Problem;
use crate::schema;

/// What Envoy unwraps where it looks for an extension.
const TYPED_STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

impl<'a> Reader<'a> {
    /// An `Any` field, by its `@type`.
    pub(crate) fn any<T>(&mut self, field: &'static str, kinds: &[Message<T>]) -> Option<T> {
        let value = self.take(field)?;
        self.any_value(value, self.path_of(field), kinds)
    }

    /// The configuration of an extension: an `Any` field that must be set, perhaps as a typed struct.
    pub(crate) fn extension<T>(&mut self, field: &'static str, kinds: &[Message<T>]) -> Option<T> {
        if !self.has(field) {
            self.asked.push(field);
            self.missing(field);
            return None;
        }
        let value = self.take(field)?;
        let path = self.path_of(field);
        let name = value.get("@type").and_then(Value::as_str).map_or("", message_name);
        match TYPED_STRUCTS.iter().find(|wrapper| **wrapper == name) {
            Some(wrapper) => self.typed_struct(value, path, wrapper, kinds),
            None => self.any_value(value, path, kinds),
        }
    }

    /// A `map<string, Any>` field.
    pub(crate) fn any_map<T>(
        &mut self,
        field: &'static str,
        kinds: &[Message<T>],
    ) -> Vec<(String, T)> {
        let path = self.path_of(field);
        let entries = self.entries(field);
        let read = |(key, value): (&String, _)| {
            let value = self.any_value(value, format!("{path}[{key:?}]"), kinds)?;
            Some((key.clone(), value))
        };
        entries.into_iter().flatten().filter_map(read).collect()
    }

    fn any_value<T>(&self, value: &Value, path: String, kinds: &[Message<T>]) -> Option<T> {
        let Some(name) = value.get("@type") else {
            let text = format!("expected an object with '@type', got {}", describe(value));
            return self.refuse(path, text);
        };
        let name = message_name(name.as_str().unwrap_or_default());
        match kinds.iter().find(|kind| kind.name == name) {
            Some(kind) => open(value, *kind, path, self.problems),
            None => self.refuse(path, format!("@type {}", unknown(name, kinds))),
        }
    }

    fn typed_struct<T>(
        &self,
        value: &'a Value,
        path: String,
        wrapper: &'static str,
        kinds: &[Message<T>],
    ) -> Option<T> {
        let fields = value.as_object()?;
        let problems = self.problems;
        let mut reader = Reader { message: wrapper, path, fields, asked: Vec::new(), problems };
        let url = reader.required_text("type_url");
        let inner = reader.take("value");
        reader.report_unread();
        let url = url?;
        let name = message_name(&url);
        let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
            reader.problem_at("type_url", unknown(name, kinds));
            return None;
        };
        let nothing = Value::Object(Map::new());
        open(inner.unwrap_or(&nothing), *kind, reader.path_of("value"), problems)
    }

    fn refuse<T>(&self, path: String, message: String) -> Option<T> {
        self.problems.borrow_mut().push(Problem { path, message });
        None
    }
}

/// The part before the slash is a host name that nobody asks.
fn message_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

fn unknown<T>(name: &str, kinds: &[Message<T>]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    let hint = match schema::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("simulated here: {}", names.join(", ")),
    };
    format!("'{name}' is not simulated by host-sim; {hint}")
}
