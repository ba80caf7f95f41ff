//! What requests are told apart by.
//!
//! A key is a list of parts of the request. Their values are written one after the other, each with
//! its length in front so that `a` + `bc` is not `ab` + `c`, and hashed to 64 bits: the
//! fingerprint. Nothing a client sends is stored, and nothing it sends has a cost by its length but
//! that of hashing. Two clients share a fingerprint with a probability of 2^-64 for each pair of
//! buckets in use.
//!
//! **One value, one bucket.** Whoever can write one value in several ways has several buckets, so
//! each part has one spelling: hosts and paths as [`crate::path`] argues, cookies without quotes,
//! parameters of the query and claims with their escapes resolved. A cookie, parameter or claim that
//! stands twice with different values has none: backends disagree which of them counts, and a client
//! could put a new one beside the real one with every request. What makes keys equal errs towards
//! fewer buckets, which is never more than the limit.

mod address;
mod claim;
mod cookie;
mod query;

use crate::siphash::siphash_2_4;
use shared_state::HashSeed;

/// The request, as far as keys and matches read it.
pub trait Attributes {
    /// Value of a request header.
    fn header(&self, name: &str) -> Option<String>;

    /// `:method`.
    fn method(&self) -> Option<String>;

    /// Address of the client, `ip:port`, as the proxy trusts it.
    fn source_address(&self) -> Option<String>;

    /// Name of the route.
    fn route(&self) -> Option<String>;

    /// Name of the cluster that the route names.
    fn cluster(&self) -> Option<String>;

    /// Whether a body follows the headers.
    fn has_body(&self) -> bool {
        false
    }

    /// A number drawn for this request: the same one, however often it is asked for.
    fn draw(&self) -> u64 {
        0
    }

    /// Length of the body; `None` for one that does not tell.
    fn content_length(&self) -> Option<u64> {
        if self.has_body() { self.header("content-length")?.parse().ok() } else { Some(0) }
    }

    /// `:path`, with its query.
    fn target(&self) -> Option<String> {
        self.header(":path")
    }

    /// `:path` without its query, in one spelling.
    fn path(&self) -> Option<String> {
        Some(crate::path::canonical(&self.target()?))
    }

    /// `:authority` without its port, in one spelling.
    fn host(&self) -> Option<String> {
        Some(crate::path::host(&self.header(":authority")?))
    }
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// `source.address`, or `source.address/24/64`: so many leading bits of an IPv4 and of an IPv6
    /// address. The port is never part of it.
    SourceAddress {
        /// Bits of an IPv4 address, 1 to 32.
        v4: u8,
        /// Bits of an IPv6 address, 1 to 128.
        v6: u8,
        /// Trusted entries of `x-forwarded-for` right of the client's; `None` to leave it unread.
        hops: Option<u8>,
    },
    /// `header:NAME`.
    Header(String),
    /// `cookie:NAME`.
    Cookie(String),
    /// `query:NAME`.
    Query(String),
    /// `jwt:CLAIM`, unverified.
    Claim(String),
    /// `constant:VALUE`.
    Constant(String),
    /// `path`, without the query.
    Path,
    /// `method`.
    Method,
    /// `host`: the `:authority`, without the port.
    Host,
    /// `route`.
    Route,
    /// `cluster`.
    Cluster,
}

/// A kind of part that is followed by a name.
type Named = (&'static str, fn(String) -> KeyPart);

const NAMED: [Named; 5] = [
    ("header:", KeyPart::Header),
    ("cookie:", KeyPart::Cookie),
    ("query:", KeyPart::Query),
    ("jwt:", KeyPart::Claim),
    ("constant:", KeyPart::Constant),
];

/// Longest name, in bytes.
const MAX_NAME: usize = 128;

impl KeyPart {
    /// Reads a part as the configuration writes it. `hops` is the plugin's `xff_trusted_hops`. The
    /// error tells what can be written.
    pub fn parse(text: &str, hops: Option<u8>) -> Result<Self, String> {
        for (kind, part) in NAMED {
            if let Some(name) = text.strip_prefix(kind) {
                return named(kind, name).map(|()| part(name.to_owned()));
            }
        }
        Ok(match text {
            "source.address" => Self::SourceAddress { v4: 32, v6: 128, hops },
            "path" => Self::Path,
            "method" => Self::Method,
            "host" => Self::Host,
            "route" => Self::Route,
            "cluster" => Self::Cluster,
            _ => return prefixed(text, hops),
        })
    }

    /// The value of this part, as bytes; nothing and an empty value are the same.
    #[inline(never)]
    pub fn value(&self, request: &impl Attributes) -> Option<Vec<u8>> {
        let text = match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Header(name) => request.header(name),
            Self::Cookie(_) => request.header("cookie"),
            Self::Query(_) => request.target(),
            Self::Claim(_) => request.header("authorization"),
            Self::SourceAddress { .. } => request.source_address(),
            Self::Path => request.path(),
            Self::Method => request.method(),
            Self::Host => request.host(),
            Self::Route => request.route(),
            Self::Cluster => request.cluster(),
        };
        let text = text?.into_bytes();
        let value = match self {
            Self::SourceAddress { v4, v6, hops } => {
                let forwarded = hops
                    .and_then(|hops| address::forwarded(&request.header("x-forwarded-for")?, hops));
                Some(address::network(forwarded, text, *v4, *v6))
            }
            Self::Cookie(name) => cookie::value(&text, name.as_bytes()),
            Self::Query(name) => query::value(cut(&text, b'?')?.1, name.as_bytes()),
            Self::Claim(name) => claim::value(&text, name.as_bytes()),
            _ => Some(text),
        };
        value.filter(|value| !value.is_empty())
    }

    /// The value of this part in a request that has `text` for it, as an operator would write it.
    /// `None` for what is only found inside a text: cookies, parameters of the query, claims.
    pub fn value_of(&self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Cookie(_) | Self::Query(_) | Self::Claim(_) => None,
            // The port is left out of an address, and need not be written.
            Self::SourceAddress { v4, v6, .. } => {
                let is_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
                let address = if is_v6 { format!("[{text}]:0") } else { format!("{text}:0") };
                Some(address::network(None, address.into_bytes(), *v4, *v6))
            }
            _ => self.value(&Literal(text)),
        }
    }

    /// The value of this part as a service is told it: a network as in `10.0.0.0/24`. `None` for
    /// what is no text.
    pub fn text(&self, request: &impl Attributes) -> Option<String> {
        let value = self.value(request)?;
        match self {
            Self::SourceAddress { v4, v6, .. } => address::text(value, *v4, *v6),
            _ => String::from_utf8(value).ok(),
        }
    }
}

/// A request of which everything is this text.
struct Literal<'a>(&'a str);

impl Attributes for Literal<'_> {
    fn header(&self, _name: &str) -> Option<String> {
        Some(self.0.to_owned())
    }

    fn method(&self) -> Option<String> {
        Some(self.0.to_owned())
    }

    fn source_address(&self) -> Option<String> {
        None
    }

    fn route(&self) -> Option<String> {
        Some(self.0.to_owned())
    }

    fn cluster(&self) -> Option<String> {
        Some(self.0.to_owned())
    }
}

fn named(kind: &str, name: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!(
            "'{kind}{name}' is no part of a key: 1 to {MAX_NAME} bytes follow the ':'"
        ));
    }
    if kind == "header:" && !name.bytes().all(token) {
        return Err(format!("'{name}' is no usable header name: lower case, such as x-client"));
    }
    if kind == "cookie:" && name.bytes().any(|byte| b"=; \t".contains(&byte)) {
        return Err(format!("'{name}' is no cookie name: leave out '=', ';' and blanks"));
    }
    Ok(())
}

fn prefixed(text: &str, hops: Option<u8>) -> Result<KeyPart, String> {
    const EXPECTED: &str = "expected source.address, source.address/24/64, header:NAME, \
                            cookie:NAME, query:NAME, jwt:CLAIM, constant:VALUE, path, method, \
                            host, route or cluster";
    let Some(bits) = text.strip_prefix("source.address/") else {
        return Err(format!("'{text}' is no part of a key: {EXPECTED}"));
    };
    let parsed = bits.split_once('/').and_then(|(v4, v6)| {
        let (v4, v6) = (v4.parse::<u8>().ok()?, v6.parse::<u8>().ok()?);
        ((1..=32).contains(&v4) && (1..=128).contains(&v6)).then_some((v4, v6))
    });
    let Some((v4, v6)) = parsed else {
        return Err(format!(
            "'{text}' is no part of a key: write source.address/A/B with A from 1 to 32 bits of an \
             IPv4 and B from 1 to 128 bits of an IPv6 address"
        ));
    };
    Ok(KeyPart::SourceAddress { v4, v6, hops })
}

/// What stands before and after the first such byte.
#[inline(never)]
fn cut(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|byte| *byte == at)?;
    let (before, after) = bytes.split_at_checked(position)?;
    Some((before, after.get(1..)?))
}

/// The one value that all agree on; `None` if there is none, or if two differ.
fn only<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

/// The fingerprint of a request among those of one policy or scope; `None` if a part has no value.
pub fn fingerprint(
    seed: HashSeed,
    policy: &str,
    parts: &[KeyPart],
    request: &impl Attributes,
) -> Option<u64> {
    fingerprint_of(seed, policy, parts.iter().map(|part| part.value(request)))
}

/// The fingerprint of the values that the parts have; `None` if one has none.
pub fn fingerprint_of(
    seed: HashSeed,
    policy: &str,
    values: impl Iterator<Item = Option<Vec<u8>>>,
) -> Option<u64> {
    let mut bytes = Vec::with_capacity(64);
    push(&mut bytes, policy.as_bytes());
    for value in values {
        push(&mut bytes, &value?);
    }
    Some(siphash_2_4(seed.0, &bytes))
}

fn push(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Request;

    fn print(parts: &[&str], request: &Request) -> Option<u64> {
        let parts: Vec<_> = parts.iter().map(|part| KeyPart::parse(part, None).unwrap()).collect();
        fingerprint(HashSeed([1, 2]), "policy", &parts, request)
    }

    fn from(source: &str) -> Request {
        Request::default().source(source)
    }

    #[test]
    fn all_connections_of_one_address_are_one_client() {
        let key = &["source.address"];
        assert_eq!(print(key, &from("10.0.0.1:5000")), print(key, &from("10.0.0.1:5001")));
        assert_ne!(print(key, &from("10.0.0.1:5000")), print(key, &from("10.0.0.2:5000")));
        assert_eq!(print(key, &from("10.0.0.1:1")), print(key, &from("[::ffff:10.0.0.1]:1")));
    }

    #[test]
    fn a_network_counts_as_one_client_where_configured() {
        let key = &["source.address/24/64"];
        assert_eq!(print(key, &from("10.0.0.1:1")), print(key, &from("10.0.0.200:1")));
        assert_ne!(print(key, &from("10.0.0.1:1")), print(key, &from("10.0.1.1:1")));
        assert_eq!(print(key, &from("[2001:db8::1]:1")), print(key, &from("[2001:db8::2:1]:1")));
        assert_ne!(print(key, &from("[2001:db8::1]:1")), print(key, &from("[2001:db8:0:1::1]:1")));
    }

    #[test]
    fn a_unix_socket_is_one_client() {
        assert!(print(&["source.address"], &from("/run/app.sock")).is_some());
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        let key = &["header:x-a", "header:x-b"];
        let request = |a, b| Request::default().with("x-a", a).with("x-b", b);
        assert_ne!(print(key, &request("a", "bc")), print(key, &request("ab", "c")));
    }

    #[test]
    fn a_part_without_a_value_is_missing_and_so_is_an_empty_one() {
        let key = &["method", "header:x-a"];
        assert_eq!(print(key, &Request::default()), None);
        assert_eq!(print(key, &Request::default().with("x-a", "")), None);
        assert!(print(key, &Request::default().with("x-a", "1")).is_some());
    }

    #[test]
    fn the_same_value_is_another_bucket_in_another_policy_and_under_another_seed() {
        let request = Request::default().with("x-a", "1");
        let parts = [KeyPart::Header("x-a".into())];
        let print = |seed, policy| fingerprint(HashSeed(seed), policy, &parts, &request);
        assert_ne!(print([1, 2], "one"), print([1, 2], "two"));
        assert_ne!(print([1, 2], "one"), print([1, 3], "one"));
    }

    #[test]
    fn what_is_no_part_says_what_is() {
        for text in ["source.address/24", "source.address/0/64", "source.address/24/129", "ip", ""]
        {
            assert!(KeyPart::parse(text, None).unwrap_err().contains("source.address/"), "{text}");
        }
        let error = |text| KeyPart::parse(text, None).unwrap_err();
        assert!(error("header:X-Client").contains("lower case"));
        assert!(error("cookie:a b").contains("blanks"));
        for kind in ["header:", "cookie:", "query:", "jwt:", "constant:"] {
            assert!(error(kind).contains("1 to 128 bytes"), "{kind}");
        }
    }

    #[test]
    fn behind_trusted_hops_the_client_is_in_the_header() {
        let print = |hops, request: &Request| {
            let parts = [KeyPart::parse("source.address/24/64", hops).unwrap()];
            fingerprint(HashSeed([1, 2]), "policy", &parts, request).unwrap()
        };
        let peer = from("10.0.0.1:5000");
        let through = |header| peer.clone().with("x-forwarded-for", header);
        let client = print(None, &from("1.2.3.4:1"));
        assert_eq!(print(Some(1), &through("1.2.3.9, 10.0.0.1")), client);
        assert_eq!(print(Some(1), &through("6.6.6.6, 1.2.3.9, 10.0.0.1")), client, "forged");
        assert_eq!(print(None, &through("1.2.3.9, 10.0.0.1")), print(None, &peer), "unread");
        for header in ["1.2.3.9", "evil, 10.0.0.1", ""] {
            assert_eq!(print(Some(1), &through(header)), print(None, &peer), "{header}");
        }
        assert_eq!(print(Some(1), &peer), print(None, &peer));
    }

    #[test]
    fn a_value_that_is_written_down_is_that_of_the_requests_which_have_it() {
        let request = Request::default().with("x-a", "acme").source("[2001:db8::1]:5000");
        for (part, text) in [
            ("header:x-a", "acme"),
            ("source.address", "2001:db8::1"),
            ("host", "EXAMPLE.com"),
            ("method", "GET"),
            ("route", "route"),
            ("cluster", "backend"),
            ("constant:a", "whatever"),
        ] {
            let part = KeyPart::parse(part, None).unwrap();
            assert_eq!(part.value_of(text), part.value(&request), "{part:?}");
        }
        let v4 = KeyPart::parse("source.address/24/64", None).unwrap();
        assert_eq!(v4.value_of("10.0.0.9"), v4.value(&from("10.0.0.1:5000")));
        assert_eq!(KeyPart::parse("cookie:c", None).unwrap().value_of("1"), None);
    }

    #[test]
    fn every_part_tells_requests_apart_by_what_it_names() {
        let plain = Request::default()
            .with(":path", "/p?q=1")
            .with("cookie", "c=1")
            .with("authorization", "Bearer e30.eyJzdWIiOiJhIn0.");
        for (part, header, same, other) in [
            ("cookie:c", "cookie", "d=2; c=1", "c=2"),
            ("query:q", ":path", "/x?q=%31", "/p?q=2"),
            ("path", ":path", "/%70?q=2", "/q"),
            (
                "jwt:sub",
                "authorization",
                "bearer e30.eyJzdWIiOiAiYSJ9.",
                "Bearer e30.eyJzdWIiOiJiIn0.",
            ),
            ("host", ":authority", "EXAMPLE.com:80", "example.org"),
            ("method", ":method", "GET", "PUT"),
        ] {
            let of = |value| print(&[part], &plain.clone().with(header, value));
            let found = print(&[part], &plain);
            assert!(found.is_some(), "{part}");
            assert_eq!(of(same), found, "{part}");
            assert!(of(other).is_some_and(|other| Some(other) != found), "{part}");
        }
        assert_ne!(print(&["constant:a"], &plain), print(&["constant:b"], &plain));
    }
}
