//! What ties a request to an endpoint: parts of the request that stay the same for one client.
//!
//! Their values are written one after the other, each with its length in front, and hashed to 64
//! bits. Nothing a client sends is kept. The hash has no seed: every worker, and every proxy with
//! the same configuration, must come to the same endpoint. A client can therefore choose a value
//! that goes to a certain endpoint; what keeps that endpoint from drowning is the bound on its load.

/// The request, as far as keys read it.
pub trait Attributes {
    /// Value of a request header.
    fn header(&self, name: &str) -> Option<String>;

    /// Address of the client, `ip:port`, as the proxy trusts it.
    fn source_address(&self) -> Option<String>;
}

/// A request without any.
impl Attributes for () {
    fn header(&self, _: &str) -> Option<String> {
        None
    }

    fn source_address(&self) -> Option<String> {
        None
    }
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// `header:NAME`.
    Header(String),
    /// `cookie:NAME`.
    Cookie(String),
    /// `source.address`, without the port.
    SourceAddress,
}

impl KeyPart {
    /// Reads a part as the configuration writes it. The error tells what can be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let part = match text.split_once(':') {
            None if text == "source.address" => return Ok(Self::SourceAddress),
            Some(("header", name)) if is_header_name(name) => Self::Header(name.to_owned()),
            Some(("cookie", name)) if is_cookie_name(name) => Self::Cookie(name.to_owned()),
            _ => {
                return Err(format!(
                    "'{text}' is no part of a key: expected header:NAME in lower case, cookie:NAME \
                     or source.address"
                ));
            }
        };
        Ok(part)
    }

    fn value(&self, request: &dyn Attributes) -> Option<String> {
        let value = match self {
            Self::Header(name) => request.header(name),
            Self::Cookie(name) => cookie(&request.header("cookie")?, name),
            Self::SourceAddress => request.source_address().map(without_port),
        };
        value.filter(|value| !value.is_empty())
    }
}

fn is_header_name(name: &str) -> bool {
    let usable = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    !name.is_empty() && name.bytes().all(usable)
}

fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && !name.bytes().any(|byte| b"=; \t".contains(&byte))
}

/// The value of the first cookie of that name, without the quotes it may stand in.
fn cookie(header: &str, name: &str) -> Option<String> {
    let mut pairs = header.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(found, _)| found.trim() == name)?;
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(bare.unwrap_or(value).to_owned())
}

/// The address alone: each connection of a client has a port of its own. A path has none.
fn without_port(address: String) -> String {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => address,
    }
}

/// The hash of these parts; `None` if one has no value.
pub(crate) fn hash(parts: &[KeyPart], request: &dyn Attributes) -> Option<u64> {
    let mut hash = SEED;
    for part in parts {
        let value = part.value(request)?;
        hash = fold(fold(hash, &(value.len() as u64).to_le_bytes()), value.as_bytes());
    }
    Some(scrambled(hash))
}

/// The hash of one text.
pub(crate) fn hash_text(text: &str) -> u64 {
    scrambled(fold(SEED, text.as_bytes()))
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a.
fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finaliser of MurmurHash3: texts that differ in their last byte differ everywhere.
fn scrambled(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request with one header, and from one address.
    pub(crate) struct Request(pub(crate) &'static str, pub(crate) String);

    impl Attributes for Request {
        fn header(&self, name: &str) -> Option<String> {
            (name == self.0).then(|| self.1.clone())
        }

        fn source_address(&self) -> Option<String> {
            (self.0 == "source").then(|| self.1.clone())
        }
    }

    fn of(part: &str, name: &'static str, value: &str) -> Option<u64> {
        hash(&[KeyPart::parse(part).unwrap()], &Request(name, value.to_owned()))
    }

    #[test]
    fn the_same_value_is_the_same_key_wherever_it_stands() {
        let alice = of("header:x-user", "x-user", "alice");
        assert!(alice.is_some());
        assert_eq!(of("cookie:id", "cookie", "a=1; id=\"alice\"; b=2"), alice);
        assert_ne!(of("header:x-user", "x-user", "bob"), alice);
    }

    #[test]
    fn all_connections_of_one_address_are_one_client() {
        let from = |address| of("source.address", "source", address);
        assert_eq!(from("10.0.0.1:5000"), from("10.0.0.1:5001"));
        assert_ne!(from("10.0.0.1:5000"), from("10.0.0.2:5000"));
        assert_eq!(from("[fd00::1]:1"), from("[fd00::1]:2"));
        assert!(from("/run/app.sock").is_some());
    }

    #[test]
    fn a_request_without_a_value_has_no_key_and_neither_has_an_empty_one() {
        assert_eq!(of("header:x-user", "x-other", "alice"), None);
        assert_eq!(of("header:x-user", "x-user", ""), None);
        assert_eq!(of("cookie:id", "cookie", "xid=1; ID=2"), None);
    }

    #[test]
    fn what_is_no_part_says_what_is() {
        for text in ["", "header:", "header:X-User", "cookie:a b", "query:q", "source"] {
            assert!(KeyPart::parse(text).unwrap_err().contains("source.address"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_cookie_header_has_a_value_or_none(header in ".{0,60}", name in "[a-z]{1,3}") {
            let _ = cookie(&header, &name);
        }
    }
}
