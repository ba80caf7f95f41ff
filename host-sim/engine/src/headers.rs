//! Header maps as the codec hands them over: ordered, multi-valued, names in lower case.
//!
//! A vector and not a hash map: a request has about a dozen headers, the order is visible to
//! plugins and on the wire, and a linear scan over a dozen short names beats hashing one of them.
//! Writing follows Envoy's `HeaderMapImpl`: pseudo headers stay in front, `set` removes every
//! value of the name and appends one.

use bytes::Bytes;

/// Ordered, multi-valued header map. Pseudo headers (`:method`, `:status`, ...) come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Bytes, Bytes)>);

impl Headers {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A map from pairs; names are lower-cased, pseudo headers move to the front.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.add(name.as_ref(), value.as_ref());
        }
        headers
    }

    /// The first value of `name`, which must be lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_bytes(name.as_bytes())
    }

    /// The first value of a name given as bytes, which must be lower case.
    #[must_use]
    pub fn get_bytes(&self, name: &[u8]) -> Option<&[u8]> {
        self.value(name).map(AsRef::as_ref)
    }

    /// The first value of `name` as text; absent when it is not UTF-8.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0.iter().filter(move |(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_ref())
    }

    /// Whether `name` is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.value(name.as_bytes()).is_some()
    }

    /// Appends a value; earlier values of the name stay.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.add_bytes(lower_case(name), Bytes::copy_from_slice(value));
    }

    /// Appends a pair whose name is already lower case, without copying.
    pub fn add_bytes(&mut self, name: Bytes, value: Bytes) {
        if name.first() == Some(&b':') {
            let at = self.0.iter().take_while(|(n, _)| n.first() == Some(&b':')).count();
            self.0.insert(at, (name, value));
        } else {
            self.0.push((name, value));
        }
    }

    /// Makes `value` the only value of `name`.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let name = lower_case(name);
        self.0.retain(|(n, _)| *n != name);
        self.add_bytes(name, Bytes::copy_from_slice(value));
    }

    /// Makes `value` the only value of a header of ours, whose name needs no copy.
    pub fn set_static(&mut self, name: &'static str, value: impl Into<Bytes>) {
        self.0.retain(|(n, _)| n != name.as_bytes());
        self.add_bytes(Bytes::from_static(name.as_bytes()), value.into());
    }

    /// Removes every value of `name`; says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.0.len();
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.0.len() != before
    }

    /// Keeps the pairs for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        self.0.retain(|(n, v)| keep(n, v));
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sum of the lengths of names and values: what Envoy calls `byteSize`.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.len()).sum()
    }

    /// Pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.0.iter().map(|(n, v)| (n.as_ref(), v.as_ref()))
    }

    /// The pairs themselves, for a codec that wants to keep the bytes without copying.
    #[must_use]
    pub fn into_pairs(self) -> Vec<(Bytes, Bytes)> {
        self.0
    }

    /// The `:status` of a response, if it is a number.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.get_str(":status").and_then(|s| s.parse().ok())
    }

    /// What makes these request headers impossible to send, in Envoy's words.
    pub(crate) fn request_defect(&self) -> Option<String> {
        if let Some(missing) = [":method", ":path"].iter().find(|name| !self.contains(name)) {
            return Some(format!("missing required header: {missing}"));
        }
        let bad = |(name, value): &&(Bytes, Bytes)| !is_name(name) || !is_value(value);
        let (name, _) = self.0.iter().find(bad)?;
        let what = if is_name(name) { "value for" } else { "name" };
        Some(format!("invalid header {what}: {}", name.escape_ascii()))
    }

    pub(crate) fn value(&self, name: &[u8]) -> Option<&Bytes> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::from_pairs(pairs)
    }
}

/// A token of RFC 9110 in lower case, after a colon for pseudo headers.
fn is_name(name: &[u8]) -> bool {
    let name = name.strip_prefix(b":").unwrap_or(name);
    let is_token =
        |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty() && name.iter().all(is_token)
}

/// No control characters but the tab.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|b| *b == b'\t' || !b.is_ascii_control())
}

fn lower_case(name: &[u8]) -> Bytes {
    if let Some(known) = well_known(name) {
        return Bytes::from_static(known.as_bytes());
    }
    if name.iter().any(u8::is_ascii_uppercase) {
        Bytes::from(name.to_ascii_lowercase())
    } else {
        Bytes::copy_from_slice(name)
    }
}

/// Names that nearly every message has cost no allocation, neither here nor when they are cloned.
fn well_known(name: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 16] = [
        ":method",
        ":path",
        ":scheme",
        ":authority",
        ":status",
        "accept",
        "content-length",
        "content-type",
        "date",
        "endpoint-load-metrics",
        "server",
        "user-agent",
        "x-envoy-upstream-service-time",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-request-id",
    ];
    NAMES.into_iter().find(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudo_header_added_late_still_comes_first() {
        let mut headers = Headers::from_pairs([(":status", "200"), ("a", "1")]);
        headers.add(b":protocol", b"x");
        let names: Vec<_> = headers.iter().map(|(n, _)| n.to_vec()).collect();
        assert_eq!(names, [b":status".to_vec(), b":protocol".to_vec(), b"a".to_vec()]);
    }

    #[test]
    fn a_well_known_name_is_shared_and_any_other_copied() {
        let headers =
            Headers::from_pairs([("X-Request-ID", "1"), ("x-request-id", "2"), ("x", "3")]);
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"x-request-id"[..], b"x-request-id", b"x"]);
    }

    #[test]
    fn set_leaves_one_value_and_add_keeps_all() {
        let mut headers = Headers::new();
        headers.add(b"X-A", b"1");
        headers.add(b"x-a", b"2");
        assert_eq!(headers.get_all("x-a").count(), 2);
        headers.set(b"X-a", b"3");
        assert_eq!(headers.get_all("x-a").collect::<Vec<_>>(), [b"3"]);
    }

    #[test]
    fn remove_says_whether_there_was_a_value() {
        let mut headers = Headers::from_pairs([("a", "1")]);
        assert!(headers.remove(b"A"));
        assert!(!headers.remove(b"a"));
    }

    #[test]
    fn what_no_codec_can_write_is_named() {
        let defect = |name: &str, value: &str| {
            Headers::from_pairs([(":method", "GET"), (":path", "/"), (name, value)])
                .request_defect()
        };
        assert_eq!(defect("x-a", "\u{e9}\t "), None);
        assert_eq!(defect("x a", "1").as_deref(), Some("invalid header name: x a"));
        assert_eq!(defect("", "1").as_deref(), Some("invalid header name: "));
        assert_eq!(defect("x-a", "1\n2").as_deref(), Some("invalid header value for: x-a"));
        let missing = Headers::from_pairs([(":method", "GET")]).request_defect();
        assert_eq!(missing.as_deref(), Some("missing required header: :path"));
    }

    #[test]
    fn byte_size_is_the_sum_of_names_and_values() {
        let headers = Headers::from_pairs([(":path", "/x"), ("ab", "c")]);
        assert_eq!(headers.byte_size(), 5 + 2 + 2 + 1);
    }
}
