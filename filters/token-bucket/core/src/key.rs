//! What a policy counts by.
//!
//! A key is a list of parts of the request. Their values are written one after the other, each with
//! its length in front so that `a` + `bc` is not `ab` + `c`, and hashed to 64 bits: the bucket's
//! fingerprint. Nothing a client sends is stored, and nothing it sends has a cost by its length but
//! that of hashing. Two clients share a fingerprint with a probability of 2^-64 for each pair of
//! buckets in use.

use crate::siphash::siphash_2_4;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;
use shared_state::HashSeed;

/// The request, as far as keys and matches read it.
pub trait Attributes {
    /// Value of a request header.
    fn header(&self, name: &str) -> Option<String>;
    /// `:path` without its query.
    fn path(&self) -> Option<String>;
    /// `:method`.
    fn method(&self) -> Option<String>;
    /// Address of the client, `ip:port`, as the proxy trusts it.
    fn source_address(&self) -> Option<String>;
    /// Name of the route.
    fn route(&self) -> Option<String>;
    /// Name of the cluster that the route names.
    fn cluster(&self) -> Option<String>;
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// `source.address`, or `source.address/24/64`: so many leading bits of an IPv4 and of an IPv6
    /// address. The port is never part of it.
    SourceAddress(u8, u8),
    /// `header:NAME`.
    Header(String),
    /// `path`, without the query.
    Path,
    /// `method`.
    Method,
    /// `host`: the `:authority`.
    Host,
    /// `route`.
    Route,
    /// `cluster`.
    Cluster,
}

impl KeyPart {
    /// The value of this part, as bytes; nothing and an empty value are the same.
    fn value(&self, request: &impl Attributes) -> Option<Vec<u8>> {
        let text = match self {
            Self::SourceAddress(v4, v6) => return network(request.source_address()?, *v4, *v6),
            Self::Header(name) => request.header(name),
            Self::Path => request.path(),
            Self::Method => request.method(),
            Self::Host => request.header(":authority"),
            Self::Route => request.route(),
            Self::Cluster => request.cluster(),
        };
        text.filter(|text| !text.is_empty()).map(String::into_bytes)
    }
}

/// The fingerprint of a policy's bucket for this request; `None` if a part has no value.
pub(crate) fn fingerprint(
    seed: HashSeed,
    policy: &str,
    parts: &[KeyPart],
    request: &impl Attributes,
) -> Option<u64> {
    let mut bytes = Vec::with_capacity(64);
    push(&mut bytes, policy.as_bytes());
    for part in parts {
        push(&mut bytes, &part.value(request)?);
    }
    Some(siphash_2_4(seed.0, &bytes))
}

fn push(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// The network of an `ip:port`. What is neither, such as the path of a Unix socket, stays whole.
fn network(address: String, v4_bits: u8, v6_bits: u8) -> Option<Vec<u8>> {
    let Ok(socket) = address.parse::<SocketAddr>() else {
        return (!address.is_empty()).then(|| address.into_bytes());
    };
    Some(match socket.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(v4_bits.into())).unwrap_or(0);
            (ip.to_bits() & mask).to_be_bytes().to_vec()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(v6_bits.into())).unwrap_or(0);
            (ip.to_bits() & mask).to_be_bytes().to_vec()
        }
    })
}

impl FromStr for KeyPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected source.address, source.address/24/64, header:NAME, path, \
                                method, host, route or cluster";
        if let Some(name) = text.strip_prefix("header:") {
            let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
            return if !name.is_empty() && name.len() <= 128 && name.bytes().all(token) {
                Ok(Self::Header(name.to_owned()))
            } else {
                Err(format!("'{name}' is no usable header name: lower case, such as x-client"))
            };
        }
        if let Some(bits) = text.strip_prefix("source.address") {
            return source_address(bits).ok_or_else(|| {
                format!(
                    "'{text}' is no part of a key: write source.address/A/B with A from 1 to 32 \
                     bits of an IPv4 and B from 1 to 128 bits of an IPv6 address"
                )
            });
        }
        match text {
            "path" => Ok(Self::Path),
            "method" => Ok(Self::Method),
            "host" => Ok(Self::Host),
            "route" => Ok(Self::Route),
            "cluster" => Ok(Self::Cluster),
            _ => Err(format!("'{text}' is no part of a key: {EXPECTED}")),
        }
    }
}

fn source_address(bits: &str) -> Option<KeyPart> {
    if bits.is_empty() {
        return Some(KeyPart::SourceAddress(32, 128));
    }
    let (v4, v6) = bits.strip_prefix('/')?.split_once('/')?;
    let (v4, v6) = (v4.parse().ok()?, v6.parse().ok()?);
    let fits = (1..=32).contains(&v4) && (1..=128).contains(&v6);
    fits.then_some(KeyPart::SourceAddress(v4, v6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Request;

    fn print(parts: &[&str], request: &Request) -> Option<u64> {
        let parts: Vec<_> = parts.iter().map(|part| part.parse().unwrap()).collect();
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
            assert!(text.parse::<KeyPart>().unwrap_err().contains("source.address/"), "{text}");
        }
        assert!("header:X-Client".parse::<KeyPart>().unwrap_err().contains("lower case"));
    }
}
