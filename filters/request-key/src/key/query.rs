//! The value of a parameter of the query.
//!
//! Names and values are taken as forms write them (`application/x-www-form-urlencoded`, WHATWG URL):
//! parameters between `&`, `+` for a space, `%41` for `A`, and a `%` without two hex digits for
//! itself. A client that writes one value in many ways therefore has one bucket.

use super::{cut, only};

/// The value of the parameter `name`; `None` if there is none, or if there are several that differ.
pub(super) fn value(query: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let found = query.split(|byte| *byte == b'&').filter_map(|pair| {
        let (found, value) = cut(pair, b'=').unwrap_or((pair, b""));
        let is_it = Decoded(found).eq(name.iter().copied());
        is_it.then(|| Decoded(value).collect::<Vec<u8>>())
    });
    only(found)
}

/// The bytes that a text stands for.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, mut rest) = self.0.split_first()?;
        let byte = match (first, rest) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match crate::path::escaped(*high, *low) {
                Some(byte) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            _ => *first,
        };
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(query: &str) -> Option<String> {
        value(query.as_bytes(), b"api key").map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn however_it_is_written_it_is_one_value() {
        for query in ["api+key=a+b", "x=1&api%20key=%61%20b", "%61pi key=a b", "api+key=a%20b&y"] {
            assert_eq!(found(query).as_deref(), Some("a b"), "{query}");
        }
        assert_eq!(found("api+key=%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(found("api+key").as_deref(), Some(""));
    }

    #[test]
    fn another_name_is_not_it() {
        for query in ["", "api=1", "API+key=1", "x=api+key=1", "xapi+key=1"] {
            assert_eq!(found(query), None, "{query}");
        }
    }

    #[test]
    fn two_values_of_one_name_are_none() {
        assert_eq!(found("api+key=a&api+key=b"), None);
        assert_eq!(found("api+key=a&api+key=%61").as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn any_query_has_a_value_or_none(query in ".{0,80}", name in ".{1,4}") {
            let _ = value(query.as_bytes(), name.as_bytes());
        }

        #[test]
        fn every_byte_escaped_is_the_same_value(text in "[a-z0-9]{1,20}") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(value(format!("k={escaped}").as_bytes(), b"k"), Some(text.into_bytes()));
        }
    }
}
