//! The address of the client.
//!
//! The proxy knows one already: `source.address` is the peer of the connection, or what
//! `use_remote_address` and `xff_num_trusted_hops` made of it. Where neither can be set, the plugin
//! reads `x-forwarded-for` itself, by the rule of `xff_num_trusted_hops`: with N trusted hops the
//! client is the entry that has N entries to its right. That is the same entry whether the proxy
//! has appended its peer (then the peer is the last one) or not. What stands further left was
//! written by somebody not trusted.

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
