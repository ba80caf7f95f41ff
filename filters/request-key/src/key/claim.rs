//! A claim of the bearer token, unverified.
//!
//! The signature is not looked at: this module has no keys and is no place for any. Whoever wants
//! the claim to be true puts `envoy.filters.http.jwt_authn` in front, which refuses forged tokens.
//!
//! The payload is scanned, not read into a tree: one pass, no recursion, and no memory but a copy
//! of the payload and of the claim, whatever a client nests. What a verifier would refuse in other
//! places of the token may pass here; with a verifier in front such a token never comes.

use super::{cut, only};

/// Longest token that is looked at, in bytes. What identity providers issue has a tenth of it.
const MAX_TOKEN: usize = 16 * 1024;

/// The claim `name` of the token in an `authorization` header: a text, or a number or truth value
/// as it is written. `None` for any other kind, for two that differ, and where there is no token.
pub(super) fn value(authorization: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let (scheme, token) = cut(authorization, b' ')?;
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.len() > MAX_TOKEN {
        return None;
    }
    let (_, token) = cut(token, b'.')?;
    let (payload, signature) = cut(token, b'.')?;
    if signature.contains(&b'.') {
        return None;
    }
    let payload = base64url(payload)?;
    let values = Scan(&payload).members(name)?;
    only(values.into_iter()).flatten()
}

/// Base64 in the alphabet for URLs and without padding, as RFC 7515 has it.
fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for digit in text {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // One digit alone, or bits that encode nothing: another spelling of some other text.
    (count < 6 && bits == 0).then_some(bytes)
}

/// What is left of a JSON text.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// The values of all members `name` of the outermost object; `None` for what has no value here.
    fn members(&mut self, name: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
        let mut found = Vec::new();
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return Some(found);
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            let value = self.value()?;
            if key == name {
                found.push(value);
            }
            match self.take()? {
                b',' => {}
                b'}' => return Some(found),
                _ => return None,
            }
        }
    }

    fn value(&mut self) -> Option<Option<Vec<u8>>> {
        match self.peek()? {
            b'"' => self.string().map(Some),
            b'{' | b'[' => self.skip().map(|()| None),
            _ => {
                let is_end = |byte: &u8| b",}] \t\r\n".contains(byte);
                let length = self.0.iter().position(is_end)?;
                let (word, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                match word {
                    b"null" => Some(None),
                    b"true" | b"false" => Some(Some(word.to_vec())),
                    [b'-' | b'0'..=b'9', ..] => Some(Some(word.to_vec())),
                    _ => None,
                }
            }
        }
    }

    /// Passes over an object or a list.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.take();
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// A string, with its escapes resolved.
    fn string(&mut self) -> Option<Vec<u8>> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(text),
                b'\\' => self.escape(&mut text)?,
                _ => text.push(*byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Option<()> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        text.push(match byte {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = self.unit()?;
                let mut point = unit;
                if let (0xd800..=0xdbff, [b'\\', b'u', after @ ..]) = (unit, self.0) {
                    let mut ahead = Scan(after);
                    if let Some(low @ 0xdc00..=0xdfff) = ahead.unit() {
                        self.0 = ahead.0;
                        point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                let c = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            other => *other,
        });
        Some(())
    }

    /// Four hex digits.
    fn unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(4)?;
        self.0 = rest;
        let [a, b, c, d] = digits else { return None };
        let byte = |high, low| crate::path::escaped(high, low).map(u32::from);
        Some(byte(*a, *b)? << 8 | byte(*c, *d)?)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    fn take(&mut self) -> Option<u8> {
        let next = self.peek()?;
        self.0 = self.0.get(1..)?;
        Some(next)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(payload: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for group in payload.chunks(3) {
            let bits = group
                .iter()
                .enumerate()
                .fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
            for at in 0..=group.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]));
            }
        }
        text
    }

    fn claim(payload: &str, name: &str) -> Option<String> {
        let header = format!("Bearer e30.{}.c2ln", encoded(payload.as_bytes()));
        value(header.as_bytes(), name.as_bytes()).map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn texts_numbers_and_truth_values_are_claims() {
        let payload = r#"{"iss":"x","sub" : "alice", "org":42 ,"n":-1.5e3,"admin":true}"#;
        for (name, expected) in
            [("iss", "x"), ("sub", "alice"), ("org", "42"), ("n", "-1.5e3"), ("admin", "true")]
        {
            assert_eq!(claim(payload, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_claim_behind_nested_ones_is_found_and_nested_ones_are_not() {
        let payload =
            r#"{"realm":{"sub":"no","a":["}","]",{"b":"\"}"}]},"aud":["a"],"sub":"yes","z":null}"#;
        assert_eq!(claim(payload, "sub").as_deref(), Some("yes"));
        for name in ["realm", "aud", "z", "b", "absent"] {
            assert_eq!(claim(payload, name), None, "{name}");
        }
    }

    #[test]
    fn escapes_make_no_other_client() {
        for payload in [r#"{"sub":"aé😀"}"#, r#"{"s\u0075b":"\u0061\u00e9\ud83d\uDE00"}"#] {
            assert_eq!(claim(payload, "sub").as_deref(), Some("aé😀"), "{payload}");
        }
        assert_eq!(claim(r#"{"sub":"\ud83dx\/\n"}"#, "sub").as_deref(), Some("\u{fffd}x/\n"));
    }

    #[test]
    fn two_values_of_one_claim_are_none() {
        assert_eq!(claim(r#"{"sub":"a","sub":"b"}"#, "sub"), None);
        assert_eq!(claim(r#"{"sub":"a","sub":["b"]}"#, "sub"), None);
        assert_eq!(claim(r#"{"sub":"a","sub":"\u0061"}"#, "sub").as_deref(), Some("a"));
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        let token = format!("e30.{}.", encoded(br#"{"sub":"a"}"#));
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(
                value(format!("{scheme} {token}").as_bytes(), b"sub"),
                Some(b"a".to_vec()),
                "{scheme}"
            );
        }
        for header in [format!("Basic {token}"), token.clone(), format!("Bearer {token}.x")] {
            assert_eq!(value(header.as_bytes(), b"sub"), None, "{header}");
        }
    }

    #[test]
    fn what_is_no_object_has_no_claim() {
        for payload in
            ["", "[]", "{}", "\"sub\"", "{\"sub\"", "{\"sub\":", "{\"sub\":\"a", "{\"sub\":a}"]
        {
            assert_eq!(claim(payload, "sub"), None, "{payload}");
        }
        for header in ["Bearer", "Bearer a.b", "Bearer a.!.c", "Bearer ..", "Bearer a.e30=.c"] {
            assert_eq!(value(header.as_bytes(), b"sub"), None, "{header}");
        }
    }

    #[test]
    fn a_token_that_is_too_long_is_none_and_a_deep_one_is_no_burden() {
        let deep = format!("{{\"x\":{},\"sub\":\"a\"}}", "[".repeat(5_000) + &"]".repeat(5_000));
        assert_eq!(claim(&deep, "sub").as_deref(), Some("a"));
        let long = format!("{{\"sub\":\"{}\"}}", "a".repeat(MAX_TOKEN));
        assert_eq!(claim(&long, "sub"), None);
    }

    proptest! {
        #[test]
        fn any_header_has_a_claim_or_none(header in ".{0,80}") {
            let _ = value(format!("Bearer {header}").as_bytes(), b"sub");
        }

        #[test]
        fn any_payload_has_a_claim_or_none(payload in any::<Vec<u8>>()) {
            let _ = value(format!("Bearer a.{}.c", encoded(&payload)).as_bytes(), b"sub");
        }

        #[test]
        fn broken_json_has_a_claim_or_none(
            payload in r#"\{("(sub|\\u00|\\)"?:?[\[{]?("a"|1|null)?[\]},]?){0,8}"#
        ) {
            let _ = claim(&payload, "sub");
        }

        #[test]
        fn what_was_encoded_is_decoded(payload in any::<Vec<u8>>()) {
            prop_assert_eq!(base64url(encoded(&payload).as_bytes()), Some(payload));
        }

        #[test]
        fn a_reader_of_json_finds_the_same(sub in ".{0,12}", before in any::<i64>()) {
            let document = format!("{{\"n\":{before},\"sub\":{}}}", quoted(&sub));
            prop_assert_eq!(claim(&document, "sub"), Some(sub));
            prop_assert_eq!(claim(&document, "n"), Some(before.to_string()));
        }
    }

    /// As a careful writer of JSON does it.
    fn quoted(text: &str) -> String {
        let escaped: String = text
            .chars()
            .map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
                c => c.to_string(),
            })
            .collect();
        format!("\"{escaped}\"")
    }
}
