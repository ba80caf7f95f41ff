//! Paths and hosts in one spelling each.
//!
//! A limit on `/login` that `/%6Cogin` gets round is none, and a client that can write one path in
//! many ways has as many buckets. Spellings that RFC 3986 (6.2.2) calls equivalent are therefore one
//! here: escapes of characters that need none are resolved, those that remain are in upper case,
//! `.` and `..` segments are removed. What only some servers take as equal stays apart: `//` and
//! `/`, upper and lower case, `;` parameters. `merge_slashes` and `normalize_path` of Envoy's
//! connection manager change the path itself, for the backend too.

/// The path of a request target, without its query. What does not begin with `/` has no segments.
pub fn canonical(target: &str) -> String {
    let bytes = target.as_bytes();
    let path = bytes.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let mut text = Vec::with_capacity(path.len());
    match path.strip_prefix(b"/") {
        Some(rooted) => segments(rooted, &mut text),
        None => unescape(path, &mut text),
    }
    // What was UTF-8 is, as only ASCII characters have replaced others.
    String::from_utf8(text).unwrap_or_default()
}

fn segments(rooted: &[u8], text: &mut Vec<u8>) {
    let mut is_folder = false;
    for segment in rooted.split(|byte| *byte == b'/') {
        let start = text.len();
        text.push(b'/');
        unescape(segment, text);
        is_folder = match text.get(start..) {
            Some(b"/.") => {
                text.truncate(start);
                true
            }
            Some(b"/..") => {
                text.truncate(start);
                let parent = text.iter().rposition(|byte| *byte == b'/');
                text.truncate(parent.unwrap_or(0));
                true
            }
            _ => false,
        };
    }
    if is_folder {
        text.push(b'/');
    }
}

fn unescape(path: &[u8], text: &mut Vec<u8>) {
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let (b'%', [high, low, beyond @ ..]) = (first, after) else {
            text.push(*first);
            continue;
        };
        match escaped(*high, *low) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                text.push(byte)
            }
            Some(_) => text.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
            None => {
                text.push(b'%');
                continue;
            }
        }
        rest = beyond;
    }
}

/// The byte that two hex digits write.
#[inline(never)]
pub(crate) fn escaped(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// A host in lower case, without port and without the dot of a fully qualified name.
pub fn host(authority: &str) -> String {
    let mut name = authority.as_bytes();
    // An IPv6 address in brackets has colons of its own.
    if let Some(colon) = name.iter().rposition(|byte| *byte == b':')
        && let Some((before, port)) = name.split_at_checked(colon)
        && port.iter().skip(1).all(u8::is_ascii_digit)
    {
        name = before;
    }
    name = name.strip_suffix(b".").unwrap_or(name);
    String::from_utf8(name.to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equivalent_spellings_are_one_path() {
        for target in [
            "/a/login",
            "/a/login?x=/../",
            "/%61/%6Cogin",
            "/a/./login",
            "/a/b/../login",
            "/../a/login#top",
            "/a/%2e%2E/a/login",
        ] {
            assert_eq!(canonical(target), "/a/login", "{target}");
        }
        assert_eq!(canonical("/a%2fb%c3%a9"), "/a%2Fb%C3%A9", "a slash in a segment stays one");
    }

    #[test]
    fn dots_at_the_end_name_the_folder() {
        for (target, path) in
            [("/a/.", "/a/"), ("/a/b/..", "/a/"), ("/..", "/"), ("/.a/..b", "/.a/..b"), ("/", "/")]
        {
            assert_eq!(canonical(target), path, "{target}");
        }
    }

    #[test]
    fn what_is_not_equivalent_stays_apart() {
        for target in ["//a", "/a/", "/A", "/a;v=1", "/%zz%4", "/%", "*", "", "/a%"] {
            assert_eq!(canonical(target), target, "{target}");
        }
    }

    #[test]
    fn a_host_has_one_spelling() {
        for authority in ["example.com", "EXAMPLE.com:8080", "example.com.", "Example.Com.:443"] {
            assert_eq!(host(authority), "example.com", "{authority}");
        }
        for (authority, expected) in
            [("[::1]:80", "[::1]"), ("[2001:DB8::1]", "[2001:db8::1]"), ("10.0.0.1:80", "10.0.0.1")]
        {
            assert_eq!(host(authority), expected);
        }
    }

    proptest! {
        #[test]
        fn one_spelling_has_itself_as_spelling(target in "(/|\\.|%2[eE]|%[0-9a-fA-F]{2}|[a-zé?]){0,24}") {
            let once = canonical(&target);
            prop_assert_eq!(canonical(&once), once);
        }

        #[test]
        fn any_target_has_a_path_and_any_authority_a_host(text in ".{0,60}") {
            let _ = (canonical(&text), host(&text));
        }
    }
}
