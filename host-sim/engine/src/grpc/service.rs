//! Whom a plugin calls: the bytes of an `envoy.config.core.v3.GrpcService`, or a cluster's name.

use crate::Headers;
use crate::protobuf::Message;

/// A service that can be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Service {
    pub(crate) cluster: String,
    /// `:authority`; the cluster's name if empty.
    pub(crate) authority: String,
    /// Longest message of a response; 0 is any.
    pub(crate) max_message: u32,
    /// Leaves out `x-envoy-internal`.
    pub(crate) skip_envoy_headers: bool,
    pub(crate) initial_metadata: Headers,
}

/// What the bytes are.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed {
    Service(Service),
    /// A message without a target, on which Envoy aborts.
    NoTarget,
    /// A service behind Google's own client.
    Google,
    /// No message: at best the name of a cluster.
    Name,
}

/// Takes the bytes for a message first, as Envoy does: a cluster whose name happens to be one
/// cannot be called by its name.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    message(bytes).unwrap_or(Parsed::Name)
}

fn message(bytes: &[u8]) -> Option<Parsed> {
    let outer = Message::parse(bytes)?;
    let (envoy, google) = (outer.bytes(1), outer.bytes(2));
    let mut metadata = Headers::new();
    for header in outer.all_bytes(5) {
        let header = Message::parse(header)?;
        let (key, value) = (header.text(1)?, header.text(2)?);
        let raw = header.bytes(3).unwrap_or_default();
        metadata.set(key.as_bytes(), if raw.is_empty() { value.as_bytes() } else { raw });
    }
    for nested in [3, 6].into_iter().filter_map(|number| outer.bytes(number)) {
        Message::parse(nested)?;
    }
    if let Some(google) = google {
        let google = Message::parse(google)?;
        google.text(1)?;
        if envoy.is_none() {
            return Some(Parsed::Google);
        }
    }
    let Some(envoy) = envoy else { return Some(Parsed::NoTarget) };
    let envoy = Message::parse(envoy)?;
    if let Some(retry) = envoy.bytes(3) {
        Message::parse(retry)?;
    }
    let max = envoy.bytes(4).map_or(Some(Message::default()), Message::parse)?;
    Some(Parsed::Service(Service {
        cluster: envoy.text(1)?.to_owned(),
        authority: envoy.text(2)?.to_owned(),
        max_message: max.varint(1) as u32,
        skip_envoy_headers: envoy.varint(5) != 0,
        initial_metadata: metadata,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::{put_message, put_number, put_string};

    fn envoy(cluster: &str) -> Vec<u8> {
        let (mut inner, mut out) = (Vec::new(), Vec::new());
        put_string(&mut inner, 1, cluster);
        put_string(&mut inner, 2, "auth.example");
        let mut limit = Vec::new();
        put_number(&mut limit, 1, 9);
        put_message(&mut inner, 4, &limit);
        put_message(&mut out, 1, &inner);
        out
    }

    #[test]
    fn a_service_names_cluster_authority_and_limit() {
        let Parsed::Service(service) = parse(&envoy("checks")) else { panic!("no service") };
        assert_eq!((service.cluster.as_str(), service.max_message), ("checks", 9));
        assert_eq!(service.authority, "auth.example");
    }

    #[test]
    fn initial_metadata_is_taken_along() {
        let (mut header, mut bytes) = (Vec::new(), envoy("c"));
        put_string(&mut header, 1, "X-A");
        put_string(&mut header, 2, "1");
        put_message(&mut bytes, 5, &header);
        let Parsed::Service(service) = parse(&bytes) else { panic!("no service") };
        assert_eq!(service.initial_metadata, Headers::from_pairs([("x-a", "1")]));
    }

    #[test]
    fn a_name_that_is_a_message_by_accident_has_no_target() {
        assert_eq!(parse(b"empty"), Parsed::NoTarget);
        assert_eq!(parse(b""), Parsed::NoTarget);
        assert_eq!(parse(b"backend"), Parsed::Name);
    }

    #[test]
    fn text_that_is_not_utf_8_makes_it_no_message() {
        assert_eq!(parse(&[0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe]), Parsed::Name);
    }
}
