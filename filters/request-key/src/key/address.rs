//! The address of the client.
//!
//! The proxy knows one already: `source.address` is the peer of the connection, or what
//! `use_remote_address` and `xff_num_trusted_hops` made of it. Where neither can be set, the plugin
//! reads `x-forwarded-for` itself, by the rule of `xff_num_trusted_hops`: with N trusted hops the
//! client is the entry that has N entries to its right. That is the same entry whether the proxy
//! has appended its peer (then the peer is the last one) or not. What stands further left was
//! written by somebody not trusted.

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

/// The address with `hops` addresses to its right; `None` if there is none, or if what stands there
/// is no address.
pub(super) fn forwarded(header: &str, hops: u8) -> Option<IpAddr> {
    let entry = header.as_bytes().rsplit(|byte| *byte == b',').nth(hops.into())?;
    ip(core::str::from_utf8(entry.trim_ascii()).ok()?)
}

/// `ip`, `[ip]` or `ip:port`: some proxies write the port.
fn ip(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let socket = || bare.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    text.parse().ok().or_else(socket).map(|socket| socket.ip())
}

/// So many leading bits of the forwarded address, or of the peer's if there is none. A peer that is
/// no `ip:port`, such as the path of a Unix socket, stays whole. An IPv4 address in an IPv6 one is
/// that IPv4 address.
pub(super) fn network(forwarded: Option<IpAddr>, peer: Vec<u8>, v4: u8, v6: u8) -> Vec<u8> {
    let Some(ip) = forwarded.or_else(|| ip(core::str::from_utf8(&peer).ok()?)) else {
        return peer;
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => leading(&ip.octets(), v4),
        IpAddr::V6(ip) => leading(&ip.octets(), v6),
    }
}

/// What [`network`] gave, as text: `10.0.0.1`, or `10.0.0.0/24` where not all bits were kept.
pub(super) fn text(network: Vec<u8>, v4: u8, v6: u8) -> Option<String> {
    let (mut text, bits, all) = match network.len() {
        4 => (dotted(&network), v4, 32),
        16 => (in_groups(&network), v6, 128),
        _ => return String::from_utf8(network).ok(),
    };
    if bits < all {
        // Writing to a String cannot fail.
        let _ = write!(text, "/{bits}");
    }
    Some(text)
}

fn dotted(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        let dot = if text.is_empty() { "" } else { "." };
        let _ = write!(text, "{dot}{octet}");
    }
    text
}

/// As RFC 5952 writes it: the first longest run of two or more zero groups is left out. The standard
/// library would do it, in four times the code.
fn in_groups(octets: &[u8]) -> String {
    let group = |two: &[u8]| two.iter().fold(0, |all, octet| all << 8 | u16::from(*octet));
    let groups: Vec<u16> = octets.chunks_exact(2).map(group).collect();
    let zeros = |at: usize| groups.iter().skip(at).take_while(|group| **group == 0).count();
    let (mut gap, mut length) = (groups.len(), 1);
    for at in 0..groups.len() {
        if zeros(at) > length {
            (gap, length) = (at, zeros(at));
        }
    }
    let mut text = String::new();
    for (at, group) in groups.iter().enumerate() {
        if at == gap {
            text.push_str("::");
        } else if at < gap || at >= gap.saturating_add(length) {
            let colon = if text.is_empty() || text.ends_with(':') { "" } else { ":" };
            let _ = write!(text, "{colon}{group:x}");
        }
    }
    text
}

/// The address with all but its first `bits` bits zero.
fn leading(octets: &[u8], bits: u8) -> Vec<u8> {
    let mut left = u32::from(bits);
    let kept = octets.iter().map(|octet| {
        let mask = !0xff_u8.checked_shr(left).unwrap_or(0);
        left = left.saturating_sub(8);
        octet & mask
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(header: &str, hops: u8) -> Option<String> {
        forwarded(header, hops).map(|ip| ip.to_string())
    }

    #[test]
    fn the_client_has_the_trusted_hops_to_its_right() {
        let header = "6.6.6.6, 1.2.3.4,10.0.0.1 ,\t10.0.0.2";
        let by_hops = [0, 1, 2, 3, 4].map(|hops| found(header, hops));
        let expected = ["10.0.0.2", "10.0.0.1", "1.2.3.4", "6.6.6.6"].map(|ip| Some(ip.to_owned()));
        assert_eq!(by_hops[..4], expected);
        assert_eq!(by_hops[4], None, "there are not as many");
    }

    #[test]
    fn a_service_is_told_the_address_or_the_network() {
        let told = |peer: &str, v4, v6| {
            text(network(None, peer.as_bytes().to_vec(), v4, v6), v4, v6).unwrap()
        };
        assert_eq!(told("10.1.2.3:80", 32, 128), "10.1.2.3");
        assert_eq!(told("10.1.2.3:80", 24, 64), "10.1.2.0/24");
        assert_eq!(told("[2001:db8::5:1]:80", 32, 128), "2001:db8::5:1");
        assert_eq!(told("[2001:db8::5:1]:80", 24, 64), "2001:db8::/64");
        assert_eq!(told("/run/app.sock", 24, 64), "/run/app.sock");
    }

    proptest! {
        #[test]
        fn addresses_are_written_as_everybody_writes_them(
            groups in proptest::collection::vec(0u16..3, 8), v4 in any::<[u8; 4]>(),
        ) {
            let octets: Vec<u8> =
                groups.iter().flat_map(|group| (group * 0x7ff).to_be_bytes()).collect();
            let ip = IpAddr::from(<[u8; 16]>::try_from(octets.as_slice()).unwrap());
            prop_assert_eq!(text(octets, 32, 128), Some(ip.to_string()));
            prop_assert_eq!(text(v4.to_vec(), 32, 128), Some(IpAddr::from(v4).to_string()));
        }
    }

    #[test]
    fn ports_and_brackets_are_left_out() {
        assert_eq!(found("1.2.3.4:5000", 0).as_deref(), Some("1.2.3.4"));
        assert_eq!(found("[2001:db8::1]:5000", 0).as_deref(), Some("2001:db8::1"));
        assert_eq!(found("[2001:db8::1]", 0).as_deref(), Some("2001:db8::1"));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for header in ["", "unknown", "_hidden", "1.2.3", "1.2.3.4 5", "fe80::1%eth0", "[1.2.3.4"] {
            assert_eq!(found(header, 0), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_has_an_address_or_none(header in ".{0,60}", hops in any::<u8>()) {
            let _ = forwarded(&header, hops);
        }

        #[test]
        fn what_a_client_writes_on_the_left_changes_nothing(
            forged in "[^,]{0,20}(,[^,]{0,20}){0,3}", hops in 0_u8..2,
        ) {
            let honest = "1.2.3.4, 10.0.0.1";
            prop_assert_eq!(forwarded(&format!("{forged},{honest}"), hops), forwarded(honest, hops));
        }
    }
}
