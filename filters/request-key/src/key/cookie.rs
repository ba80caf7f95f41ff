//! The value of a cookie.
//!
//! RFC 6265 lets a value stand in double quotes, and servers disagree whether these belong to it.
//! Here they do not: `"a"` and `a` are one client, or every client would have two buckets.

use super::{cut, only};

/// The value of the cookie `name`; `None` if there is none, or if there are several that differ.
pub(super) fn value(header: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let found = header.split(|byte| *byte == b';').filter_map(|pair| {
        let (found, value) = cut(pair, b'=')?;
        (found.trim_ascii() == name).then(|| unquoted(value.trim_ascii()))
    });
    only(found).map(<[u8]>::to_vec)
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(header: &str) -> Option<String> {
        value(header.as_bytes(), b"id").map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        assert_eq!(found("a=1; id=alice; b=2").as_deref(), Some("alice"));
        assert_eq!(found("id=a=b").as_deref(), Some("a=b"));
        for header in ["", "xid=1", "ID=1", "id", "a=id; b=id=1"] {
            assert_eq!(found(header), None, "{header}");
        }
    }

    #[test]
    fn quotes_and_blanks_make_no_other_client() {
        for header in ["id=a", "id=\"a\"", " id = a ", "x=1;id=a", "id=a; id=\"a\""] {
            assert_eq!(found(header).as_deref(), Some("a"), "{header}");
        }
        assert_eq!(found("id=\"").as_deref(), Some("\""));
    }

    #[test]
    fn two_values_of_one_name_are_none() {
        assert_eq!(found("id=a; id=b"), None);
    }

    proptest! {
        #[test]
        fn any_header_has_a_value_or_none(header in ".{0,80}", name in "[a-z]{1,3}") {
            let _ = value(header.as_bytes(), name.as_bytes());
        }
    }
}
