//! A cursor over one message: typed getters that know their path and remember what was read.
//!
//! serde could fill structs, but it stops at the first error, knows no proto3-JSON (durations,
//! enums by name or number, both spellings of a name, `null` for unset) and cannot say which field
//! exists in Envoy but not here. So each message is a short function over a [`Reader`]. A [`Message`]
//! pairs that function with the message's name; only [`Reader`]'s own methods call it, and after it
//! they report every field it did not ask for: forgetting the strictness is not possible.

mod any;
mod scalar;
mod value;

use std::cell::RefCell;

use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::schema;

pub(crate) use scalar::Choice;
pub(crate) use value::describe;

/// A protobuf message of Envoy's and how it is read. `None` means that a problem was reported.
pub(crate) struct Message<T: 'static> {
    /// Full name, as in `@type` after the slash and as in the field table.
    pub(crate) name: &'static str,
    /// Reads the fields.
    pub(crate) read: fn(&mut Reader<'_>) -> Option<T>,
}

impl<T> Clone for Message<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Message<T> {}

/// One message being read.
pub(crate) struct Reader<'a> {
    message: &'static str,
    path: String,
    fields: &'a Map<String, Value>,
    asked: Vec<&'static str>,
    problems: &'a RefCell<Vec<Problem>>,
}

/// Reads a whole document as `message`.
pub(crate) fn read_document<T>(document: &Value, message: Message<T>) -> Result<T, Vec<Problem>> {
    let problems = RefCell::new(Vec::new());
    let read = open(document, message, String::new(), &problems);
    match (read, problems.into_inner()) {
        (Some(value), problems) if problems.is_empty() => Ok(value),
        (_, problems) => Err(problems),
    }
}

/// Reads `value` as `message` and reports what the message's function left unread.
fn open<T>(
    value: &Value,
    message: Message<T>,
    path: String,
    problems: &RefCell<Vec<Problem>>,
) -> Option<T> {
    let Value::Object(fields) = value else {
        let message = format!("expected an object, got {}", describe(value));
        problems.borrow_mut().push(Problem { path, message });
        return None;
    };
    let before = problems.borrow().len();
    let mut reader = Reader { message: message.name, path, fields, asked: Vec::new(), problems };
    let read = (message.read)(&mut reader);
    reader.report_unread();
    // What a function could not read must not vanish, whatever it forgot to say.
    if read.is_none() && problems.borrow().len() == before {
        reader.problem("is not usable as it stands");
    }
    read
}

impl<'a> Reader<'a> {
    /// Reports a problem with the message as a whole.
    pub(crate) fn problem(&self, message: impl Into<String>) {
        let problem = Problem { path: self.path.clone(), message: message.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// Reports a problem with one field, or one of its elements (`domains[2]`).
    pub(crate) fn problem_at(&self, field: &str, message: impl Into<String>) {
        let problem = Problem { path: self.path_of(field), message: message.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// Whether nothing was reported at or below a field so far.
    pub(crate) fn is_sound(&self, field: &str) -> bool {
        let path = self.path_of(field);
        !self.problems.borrow().iter().any(|problem| problem.path.starts_with(&path))
    }

    /// Whether a field is set; does not count as reading it.
    pub(crate) fn has(&self, field: &str) -> bool {
        let set = |name: &str| self.fields.get(name).is_some_and(|value| !value.is_null());
        set(field) || set(&schema::json_name(field))
    }

    /// How many elements a repeated field has, readable or not; does not count as reading it.
    pub(crate) fn count(&self, field: &str) -> usize {
        let value = self.fields.get(field).or_else(|| self.fields.get(&schema::json_name(field)));
        match value {
            None | Some(Value::Null) => 0,
            Some(Value::Array(values)) => values.len(),
            Some(_) => 1,
        }
    }

    /// A one-of: reports when more than one field is set, or none although one is required.
    pub(crate) fn one_of(&self, fields: &[&'static str], required: bool) -> bool {
        let set: Vec<&str> = fields.iter().copied().filter(|field| self.has(field)).collect();
        if set.len() > 1 {
            self.problem(format!("only one of {} may be set", quoted(&set)));
        } else if required && set.is_empty() {
            self.problem(format!("one of {} is required", quoted(fields)));
        } else {
            return true;
        }
        false
    }

    /// Fields that change nothing host-sim simulates: read and dropped.
    pub(crate) fn accept(&mut self, fields: &[&'static str]) {
        for field in fields {
            self.take(field);
        }
    }

    /// The message as a whole is refused: its fields are nobody's fault.
    pub(crate) fn accept_all(&mut self) {
        self.accept(schema::fields(self.message));
    }

    /// Fields on host-sim's list that it does not simulate as yet.
    pub(crate) fn not_yet(&mut self, fields: &[&'static str]) {
        for field in fields {
            if self.take(field).is_some() {
                self.problem(format!("field '{field}' is not simulated by host-sim yet"));
            }
        }
    }

    /// A message field.
    pub(crate) fn message<T>(&mut self, field: &'static str, message: Message<T>) -> Option<T> {
        let value = self.take(field)?;
        open(value, message, self.path_of(field), self.problems)
    }

    /// A message field that must be set.
    pub(crate) fn required<T>(&mut self, field: &'static str, message: Message<T>) -> Option<T> {
        if !self.has(field) {
            self.asked.push(field);
            self.missing(field);
            return None;
        }
        self.message(field, message)
    }

    /// A repeated message field; elements with problems are left out.
    pub(crate) fn list<T>(&mut self, field: &'static str, message: Message<T>) -> Vec<T> {
        let path = self.path_of(field);
        let elements = self.elements(field).iter().enumerate();
        let read = |(index, value)| open(value, message, format!("{path}[{index}]"), self.problems);
        elements.filter_map(read).collect()
    }

    /// A `map<string, message>` field.
    pub(crate) fn map<T>(&mut self, field: &'static str, message: Message<T>) -> Vec<(String, T)> {
        let path = self.path_of(field);
        let entries = self.entries(field);
        let read = |(key, value): (&String, _)| {
            let value = open(value, message, format!("{path}[{key:?}]"), self.problems)?;
            Some((key.clone(), value))
        };
        entries.into_iter().flatten().filter_map(read).collect()
    }

    fn missing(&self, field: &str) {
        self.problem(format!("field '{field}' is required"));
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Both spellings of a name count, as in proto3-JSON; `null` is unset.
    fn take(&mut self, field: &'static str) -> Option<&'a Value> {
        let known = schema::fields(self.message).contains(&field);
        debug_assert!(known, "{} has no field {field}", self.message);
        self.asked.push(field);
        let camel = schema::json_name(field);
        let other = if camel == field { None } else { self.fields.get(&camel) };
        match (self.fields.get(field), other) {
            (Some(_), Some(_)) => {
                self.problem(format!("'{field}' and '{camel}' are one field, given twice"));
                None
            }
            (value, other) => value.or(other).filter(|value| !value.is_null()),
        }
    }

    fn report_unread(&self) {
        let all = schema::fields(self.message);
        let is = |field: &&&str, name: &str| **field == name || schema::json_name(field) == *name;
        for (name, value) in self.fields {
            if name == "@type" || self.asked.iter().any(|field| is(&field, name)) {
                continue;
            }
            if let Some(field) = all.iter().find(|field| is(field, name)) {
                if value.is_null() {
                    continue;
                }
                self.problem(format!("field '{field}' is not simulated by host-sim"));
                continue;
            }
            self.problem(match schema::nearest(name, all.iter().copied()) {
                Some(near) => format!("no such field '{name}'; did you mean '{near}'?"),
                None => format!("no such field '{name}'"),
            });
        }
    }
}

/// `'a', 'b', 'c'`.
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}
