//! Rules that a type cannot hold: ranges, uniqueness, one field against another.

use crate::{Problem, Problems};
use core::fmt::Display;
use core::ops::RangeInclusive;

/// Collects problems while a configuration is walked, keeping the place.
#[derive(Debug, Default)]
pub struct Check {
    pointer: String,
    problems: Vec<Problem>,
}

impl Check {
    /// At the root of the document, without problems.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `checks` one step deeper, at a field or an index.
    pub fn at<T>(&mut self, step: impl Display, checks: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        self.pointer.push('/');
        let step = step.to_string().replace('~', "~0").replace('/', "~1");
        self.pointer.push_str(&step);
        let result = checks(self);
        self.pointer.truncate(length);
        result
    }

    /// Notes a problem here.
    pub fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(Problem { pointer: self.pointer.clone(), message: message.into() });
    }

    /// Notes a problem here unless `holds`.
    pub fn require(&mut self, holds: bool, message: impl Into<String>) {
        if !holds {
            self.problem(message);
        }
    }

    /// Notes a problem at `field` unless `value` lies in `range`.
    pub fn range<T>(&mut self, field: &str, value: T, range: RangeInclusive<T>)
    where
        T: PartialOrd + Shown,
    {
        if !range.contains(&value) {
            let (least, most) = (range.start().shown(), range.end().shown());
            let message = format!("{} is out of range: {least} to {most}", value.shown());
            self.at(field, |check| check.problem(message));
        }
    }

    /// Notes a problem at each later occurrence of a name that `field` of a list repeats.
    pub fn unique<'a>(&mut self, field: &str, names: impl IntoIterator<Item = &'a str>) {
        let mut seen: Vec<&str> = Vec::new();
        for (at, name) in names.into_iter().enumerate() {
            if let Some(first) = seen.iter().position(|other| *other == name) {
                self.at(at, |check| {
                    check.at(field, |check| {
                        check.problem(format!("'{name}' is taken by entry {first}: rename one"));
                    });
                });
            }
            seen.push(name);
        }
    }

    /// A name of the configuration, part of metric names and shared-data keys: 1 to 64 characters
    /// of `a-z`, `0-9`, `_`, `.` and `-`.
    pub fn name(&mut self, field: &str, name: &str) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            self.at(field, |check| {
                check.problem(format!(
                    "'{name}' is no usable name: 1 to 64 characters of a-z, 0-9, '_', '.', '-'"
                ));
            });
        }
    }

    /// A request or response header that a plugin may read or write.
    pub fn header_name(&mut self, field: &str, name: &str) {
        let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
            self.at(field, |check| {
                check.problem(format!(
                    "'{name}' is no usable header name: lower case, without ':', such as x-client"
                ));
            });
        }
    }

    /// True while nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// `value`, if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(value) } else { Err(Problems(self.problems)) }
    }
}

/// A bound or a value in a message.
pub trait Shown {
    /// As one would write it in the configuration.
    fn shown(&self) -> String;
}

macro_rules! shown_as_it_prints {
    ($($kind:ty)+) => {$(
        impl Shown for $kind {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

shown_as_it_prints!(u8 u16 u32 u64 usize i32 i64 crate::Span);

impl Shown for f64 {
    /// With up to three decimals: printing any float exactly would cost a module ten KiB.
    fn shown(&self) -> String {
        let thousandths = (self.abs() * 1000.0).round() as u64;
        let sign = if *self < 0.0 { "-" } else { "" };
        let (whole, rest) = (thousandths / 1000, thousandths % 1000);
        if rest == 0 {
            return format!("{sign}{whole}");
        }
        let rest = format!("{rest:03}");
        format!("{sign}{whole}.{}", rest.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_keeps_its_place() {
        let mut check = Check::new();
        check.at("policies", |check| {
            check.at(2, |check| check.range("max_tokens", 0, 1..=10));
            check.unique("name", ["a", "b", "a"]);
        });
        let problems = check.finish(()).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "/policies/2/max_tokens: 0 is out of range: 1 to 10\n\
             /policies/2/name: 'a' is taken by entry 0: rename one"
        );
    }

    #[test]
    fn fractions_are_shown_as_they_are_written() {
        let shown: Vec<_> = [0.0, 0.5, 100.0, -2.25, 33.333].iter().map(Shown::shown).collect();
        assert_eq!(shown, ["0", "0.5", "100", "-2.25", "33.333"]);
    }

    #[test]
    fn a_pointer_escapes_what_rfc_6901_says() {
        let mut check = Check::new();
        check.at("a/b~c", |check| check.problem("x"));
        assert_eq!(check.finish(()).unwrap_err().0[0].pointer, "/a~1b~0c");
    }
}
