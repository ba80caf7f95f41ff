//! One object of the configuration, field by field.
//!
//! A module reads its configuration as a list of calls: a field's name, its range, and what holds
//! where it is absent. The calls are the only description of the format. Deriving readers from
//! structs says the same in attributes, but generates some three hundred bytes for each field, which
//! in a module of two hundred KiB was a fifth of the whole; here a field costs one call.
//!
//! Reading never stops. A field that is wrong is noted, and reads as its default or the least of its
//! range, so that all mistakes are told at once; the value that comes out of it is never used. Rules
//! over several fields ask [`Fields::is_clean`] first, lest a stand-in be blamed.
//!
//! As in proto3 JSON, `null` stands for an absent field.

use crate::notes::Notes;
use crate::value::lookup;
use crate::words::{expected, not_known, shown};
use crate::{Span, Value, nearest};
use core::ops::RangeInclusive;
use core::time::Duration;

/// What stands for a field that is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence<T> {
    /// Nothing: the field must be there.
    Required,
    /// This.
    Or(T),
}

impl<T> Presence<T> {
    fn default(self) -> Option<T> {
        match self {
            Self::Required => None,
            Self::Or(value) => Some(value),
        }
    }
}

/// A word that stands for a value.
pub trait Choice: Copy + 'static {
    /// All words, as they are written.
    const CHOICES: &'static [(&'static str, Self)];
}

/// An element of a list in which a text stands for an object with one field.
#[derive(Debug)]
pub enum TextOrFields<'a> {
    /// A text.
    Text(&'a str),
    /// An object.
    Fields(Fields<'a>),
}

/// The fields of one object. Dropped, it reports those that nobody has asked for.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Sorted by name.
    entries: &'a [(String, Value)],
    asked: Vec<&'a str>,
    /// Required, and absent.
    lacking: Vec<&'a str>,
    notes: &'a mut Notes,
    /// The place of what contains the object.
    above: usize,
    /// Problems there were before this object.
    before: usize,
    /// There is no object, and that is noted: what it lacks is not worth a word.
    missing: bool,
}

impl<'a> Fields<'a> {
    /// Of the whole document.
    pub(crate) fn root(document: &'a Value, notes: &'a mut Notes) -> Self {
        let before = notes.count();
        let entries = entries(notes, "", Some(document));
        Self::new(entries, notes, 0, before)
    }

    fn new(
        entries: Option<&'a [(String, Value)]>,
        notes: &'a mut Notes,
        above: usize,
        before: usize,
    ) -> Self {
        let missing = entries.is_none();
        Self {
            entries: entries.unwrap_or_default(),
            asked: Vec::new(),
            lacking: Vec::new(),
            notes,
            above,
            before,
            missing,
        }
    }

    /// A whole number.
    pub fn integer<T>(&mut self, name: &'a str, range: RangeInclusive<T>, absent: Presence<T>) -> T
    where
        T: Copy + Into<u64> + TryFrom<u64>,
    {
        let (least, most) = (*range.start(), *range.end());
        let default = absent.default().map(Into::into);
        self.whole(name, least.into(), most.into(), default).try_into().unwrap_or(least)
    }

    #[inline(never)]
    fn whole(&mut self, name: &'a str, least: u64, most: u64, default: Option<u64>) -> u64 {
        let otherwise = default.unwrap_or(least);
        match self.take(name, default.is_none()) {
            None => otherwise,
            Some(Value::Integer(value)) => match u64::try_from(*value) {
                Ok(value) if (least..=most).contains(&value) => value,
                _ => {
                    self.out_of_range(
                        name,
                        &value.to_string(),
                        &least.to_string(),
                        &most.to_string(),
                    );
                    otherwise
                }
            },
            Some(other) => {
                self.wrong_kind(name, "a whole number", other);
                otherwise
            }
        }
    }

    /// A number that may have a fraction.
    #[inline(never)]
    pub fn number(
        &mut self,
        name: &'a str,
        range: RangeInclusive<f64>,
        absent: Presence<f64>,
    ) -> f64 {
        let (least, most) = (*range.start(), *range.end());
        let otherwise = absent.default().unwrap_or(least);
        let Some(value) = self.take(name, absent.default().is_none()) else { return otherwise };
        match value.as_f64() {
            Some(number) if range.contains(&number) => number,
            Some(number) => {
                self.out_of_range(name, &shown(number), &shown(least), &shown(most));
                otherwise
            }
            None => {
                self.wrong_kind(name, "a number", value);
                otherwise
            }
        }
    }

    /// A length of time, written as a [`Span`].
    pub fn duration(
        &mut self,
        name: &'a str,
        range: RangeInclusive<Duration>,
        absent: Presence<Duration>,
    ) -> Duration {
        let (least, most) = (nanos(*range.start()), nanos(*range.end()));
        Duration::from_nanos(self.nanos(name, least, most, absent.default().map(nanos)))
    }

    #[inline(never)]
    fn nanos(&mut self, name: &'a str, least: u64, most: u64, default: Option<u64>) -> u64 {
        let otherwise = default.unwrap_or(least);
        let Some(value) = self.take(name, default.is_none()) else { return otherwise };
        let Value::String(text) = value else {
            self.wrong_kind(name, "a duration in seconds such as \"0.5s\"", value);
            return otherwise;
        };
        match text.parse::<Span>() {
            Ok(Span(span)) if (least..=most).contains(&nanos(span)) => nanos(span),
            Ok(span) => {
                let shown = |nanos| Span(Duration::from_nanos(nanos)).to_string();
                self.out_of_range(name, &span.to_string(), &shown(least), &shown(most));
                otherwise
            }
            Err(message) => {
                self.problem_at(name, message);
                otherwise
            }
        }
    }

    /// `true` or `false`; `absent` where it is absent.
    #[inline(never)]
    pub fn flag(&mut self, name: &'a str, absent: bool) -> bool {
        match self.take(name, false) {
            Some(Value::Bool(value)) => return *value,
            Some(other) => self.wrong_kind(name, "true or false", other),
            None => {}
        }
        absent
    }

    /// A text.
    #[inline(never)]
    pub fn text(&mut self, name: &'a str, absent: Presence<&str>) -> String {
        match self.take(name, absent.default().is_none()) {
            Some(Value::String(text)) => return text.clone(),
            Some(other) => self.wrong_kind(name, "a text", other),
            None => {}
        }
        absent.default().unwrap_or_default().to_owned()
    }

    /// A name of the configuration, part of metric names and shared-data keys: 1 to 64 characters
    /// of `a-z`, `0-9`, `_`, `.` and `-`.
    pub fn name(&mut self, name: &'a str, absent: Presence<&str>) -> String {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
        let text = self.text(name, absent);
        if self.has(name) && (text.is_empty() || text.len() > 64 || !text.bytes().all(plain)) {
            self.problem_at(
                name,
                format!(
                    "'{text}' is no usable name: 1 to 64 characters of a-z, 0-9, '_', '.', '-'"
                ),
            );
        }
        text
    }

    /// A request or response header that a plugin may read or write.
    pub fn header_name(&mut self, name: &'a str, absent: Presence<&str>) -> String {
        let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        let text = self.text(name, absent);
        if self.has(name) && (text.is_empty() || text.len() > 128 || !text.bytes().all(token)) {
            self.problem_at(
                name,
                format!(
                    "'{text}' is no usable header name: lower case, without ':', such as x-client"
                ),
            );
        }
        text
    }

    /// A header to be written, as an object of its `name` and its `value`.
    pub fn header(&mut self) -> (String, String) {
        let name = self.header_name("name", Presence::Required);
        let value = self.text("value", Presence::Required);
        let is_plain = value.bytes().all(|byte| byte >= b' ' && byte != 0x7f);
        let message = "a header's value is one line: leave control characters out";
        self.require("value", is_plain, message);
        (name, value)
    }

    /// One of some words; `absent` where it is absent.
    pub fn choice<T: Choice>(&mut self, name: &'a str, absent: T) -> T {
        let words = |at| T::CHOICES.get(at).map(|(word, _)| *word);
        let chosen = self.position(name, &words);
        chosen.and_then(|at| T::CHOICES.get(at)).map_or(absent, |(_, value)| *value)
    }

    #[inline(never)]
    fn position(
        &mut self,
        name: &'a str,
        words: &dyn Fn(usize) -> Option<&'static str>,
    ) -> Option<usize> {
        let value = self.take(name, false)?;
        let words: Vec<&str> = (0..).map_while(words).collect();
        let Value::String(text) = value else {
            self.wrong_kind(name, &format!("one of {}", words.join(", ")), value);
            return None;
        };
        let found = words.iter().position(|word| word == text);
        if found.is_none() {
            self.problem_at(name, not_known(text, &words));
        }
        found
    }

    /// A list of words.
    pub fn choices<T: Choice>(&mut self, name: &'a str, absent: Presence<&[T]>) -> Vec<T> {
        if let (Presence::Or(absent), false) = (absent, self.has(name)) {
            return absent.to_vec();
        }
        self.take(name, true);
        let mut chosen = Vec::new();
        self.texts(name, &[], &mut |text| {
            let found = T::CHOICES.iter().find(|(word, _)| *word == text);
            chosen.extend(found.map(|(_, value)| *value));
            match found {
                Some(_) => Ok(()),
                None => {
                    let words: Vec<&str> = T::CHOICES.iter().map(|(word, _)| *word).collect();
                    Err(not_known(text, &words))
                }
            }
        });
        chosen
    }

    /// A list of texts. Each goes through `read`, whose error is told at its place.
    pub fn texts(
        &mut self,
        name: &'a str,
        absent: &[&str],
        read: &mut dyn FnMut(&str) -> Result<(), String>,
    ) {
        self.read_texts(name, absent, false, read);
    }

    /// A list of texts that may be written as its only element.
    pub fn one_or_many(
        &mut self,
        name: &'a str,
        absent: &[&str],
        read: &mut dyn FnMut(&str) -> Result<(), String>,
    ) {
        self.read_texts(name, absent, true, read);
    }

    #[inline(never)]
    fn read_texts(
        &mut self,
        name: &'a str,
        absent: &[&str],
        or_one: bool,
        read: &mut dyn FnMut(&str) -> Result<(), String>,
    ) {
        let items = match self.take(name, false) {
            Some(Value::Array(items)) => items.as_slice(),
            // It has no index that a problem could lie at.
            Some(Value::String(one)) if or_one => {
                return read(one).unwrap_or_else(|message| self.notes.problem(name, message));
            }
            Some(other) => return self.wrong_kind(name, "a list of texts", other),
            None => {
                // Defaults are written as a configuration would write them.
                return absent.iter().for_each(|text| {
                    let _ = read(text);
                });
            }
        };
        for (at, item) in items.iter().enumerate() {
            let told = match item {
                Value::String(text) => read(text),
                other => Err(expected("a text", other)),
            };
            if let Err(message) = told {
                let above = self.notes.enter(name);
                self.notes.problem(&at.to_string(), message);
                self.notes.leave(above);
            }
        }
    }

    /// An object that may be absent: then every field of it is.
    #[inline(never)]
    pub fn object(&mut self, name: &'a str) -> Fields<'_> {
        let value = self.take(name, false);
        self.below(name, value, self.missing)
    }

    /// An object that must be there.
    #[inline(never)]
    pub fn required_object(&mut self, name: &'a str) -> Fields<'_> {
        let value = self.take(name, true);
        self.below(name, value, value.is_none())
    }

    fn below(&mut self, name: &str, value: Option<&'a Value>, missing: bool) -> Fields<'_> {
        let before = self.notes.count();
        let above = self.notes.enter(name);
        let entries = if missing { None } else { entries(self.notes, "", value) };
        Fields::new(entries, self.notes, above, before)
    }

    /// A list of objects. Each goes through `read`, with its index.
    pub fn each<T>(
        &mut self,
        name: &'a str,
        mut read: impl FnMut(usize, Fields<'_>) -> T,
    ) -> Vec<T> {
        let items = self.items(name);
        let read = |(at, item)| read(at, self.element(name, at, item));
        items.iter().enumerate().map(read).collect()
    }

    /// As [`Fields::each`], for a list of objects that may be written as its only element. That one
    /// has no index.
    pub fn each_or_one<T>(
        &mut self,
        name: &'a str,
        mut read: impl FnMut(Fields<'_>) -> T,
    ) -> Vec<T> {
        if self.is_object(name) {
            return vec![read(self.object(name))];
        }
        self.each(name, |_, fields| read(fields))
    }

    /// The value of the field, whatever it is.
    pub fn value(&mut self, name: &'a str) -> Option<&'a Value> {
        self.take(name, false)
    }

    /// A list of which each element is a text or an object. Each goes through the reader of its kind;
    /// an error of the text's is told at its place.
    #[inline(never)]
    pub fn texts_or_objects(
        &mut self,
        name: &'a str,
        read: &mut dyn FnMut(TextOrFields<'_>) -> Result<(), String>,
    ) {
        for (at, item) in self.items(name).iter().enumerate() {
            let told = match item {
                Value::String(text) => read(TextOrFields::Text(text)),
                Value::Object(_) => read(TextOrFields::Fields(self.element(name, at, item))),
                other => Err(expected("a text or an object", other)),
            };
            if let Err(message) = told {
                let above = self.notes.enter(name);
                self.notes.problem(&at.to_string(), message);
                self.notes.leave(above);
            }
        }
    }

    #[inline(never)]
    fn items(&mut self, name: &'a str) -> &'a [Value] {
        match self.take(name, false) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_kind(name, "a list", other);
                &[]
            }
        }
    }

    #[inline(never)]
    fn element(&mut self, list: &str, at: usize, item: &'a Value) -> Fields<'_> {
        let before = self.notes.count();
        let above = self.notes.enter(list);
        self.notes.enter(&at.to_string());
        let entries = entries(self.notes, "", Some(item));
        Fields::new(entries, self.notes, above, before)
    }

    /// Notes a problem at each later object of the list `name` that repeats the text `field`.
    pub fn unique(&mut self, name: &str, field: &str) {
        let Some(Value::Array(items)) = lookup(self.entries, name) else { return };
        let mut seen: Vec<&str> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let Value::Object(entries) = item else { continue };
            let text = lookup(entries, field).and_then(Value::as_str).unwrap_or_default();
            if let Some(first) = seen.iter().position(|other| *other == text && !text.is_empty()) {
                let above = self.notes.enter(name);
                self.notes.enter(&at.to_string());
                self.notes
                    .problem(field, format!("'{text}' is taken by entry {first}: rename one"));
                self.notes.leave(above);
            }
            seen.push(text);
        }
    }

    /// Whether the field is there; if not, `null` or nothing stands for it. This asks for it.
    pub fn has(&mut self, name: &'a str) -> bool {
        self.take(name, false).is_some()
    }

    /// Whether `name` is an object, for a field that may also be something else.
    pub fn is_object(&self, name: &str) -> bool {
        matches!(lookup(self.entries, name), Some(Value::Object(_)))
    }

    /// Elements of the list `name`, none of an absent one. `None` for what is no list.
    pub fn count(&self, name: &str) -> Option<usize> {
        match lookup(self.entries, name) {
            Some(Value::Array(items)) => Some(items.len()),
            None | Some(Value::Null) => Some(0),
            Some(_) => None,
        }
    }

    /// The names of all fields, for an object in which they are data.
    pub fn names(&self) -> Vec<&'a str> {
        self.entries.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// True while nothing in this object is wrong.
    pub const fn is_clean(&self) -> bool {
        !self.missing && self.lacking.is_empty() && self.notes.count() == self.before
    }

    /// Notes a problem of the object.
    pub fn problem(&mut self, message: impl Into<String>) {
        self.notes.problem("", message.into());
    }

    /// Notes a problem of the field `name`.
    pub fn problem_at(&mut self, name: &str, message: impl Into<String>) {
        self.notes.problem(name, message.into());
    }

    /// Notes a problem of the field `name` unless `holds`.
    #[inline(never)]
    pub fn require(&mut self, name: &str, holds: bool, message: &str) {
        if !holds {
            self.problem_at(name, message);
        }
    }

    #[inline(never)]
    fn take(&mut self, name: &'a str, required: bool) -> Option<&'a Value> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
            #[cfg(feature = "record")]
            self.notes.asked(name);
        }
        let found = lookup(self.entries, name).filter(|value| **value != Value::Null);
        if found.is_none() && required && !self.missing {
            self.lacking.push(name);
        }
        found
    }

    #[cold]
    #[inline(never)]
    fn wrong_kind(&mut self, name: &str, wanted: &str, found: &Value) {
        self.notes.problem(name, expected(wanted, found));
    }

    #[cold]
    #[inline(never)]
    fn out_of_range(&mut self, name: &str, value: &str, least: &str, most: &str) {
        self.notes.problem(name, format!("{value} is out of range: {least} to {most}"));
    }

    #[cold]
    #[inline(never)]
    fn unknown(&mut self, name: &str) {
        let message = match nearest(name, &self.asked) {
            Some(meant) => {
                // That explains its absence.
                self.lacking.retain(|lacking| *lacking != meant);
                format!("unknown field: did you mean '{meant}'?")
            }
            None if self.asked.is_empty() => "unknown field: none is expected here".to_owned(),
            None => format!("unknown field: expected one of {}", self.asked.join(", ")),
        };
        self.notes.problem(name, message);
    }
}

impl Drop for Fields<'_> {
    #[inline(never)]
    fn drop(&mut self) {
        for (name, _) in self.entries {
            if !self.asked.contains(&name.as_str()) {
                self.unknown(name);
            }
        }
        for name in core::mem::take(&mut self.lacking) {
            self.problem(format!("missing field '{name}': add it, it has no default"));
        }
        self.notes.leave(self.above);
    }
}

/// What an object holds; an absent one, nothing. Anything else is noted, and `None`.
fn entries<'a>(
    notes: &mut Notes,
    name: &str,
    value: Option<&'a Value>,
) -> Option<&'a [(String, Value)]> {
    match value {
        None => Some(&[]),
        Some(Value::Object(entries)) => Some(entries),
        Some(other) => {
            notes.problem(name, expected("an object", other));
            None
        }
    }
}

/// Five hundred years at the most: no range reaches as far.
fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}

#[cfg(test)]
mod tests;
