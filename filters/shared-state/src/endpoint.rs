//! An endpoint's address, as the host prints it and as records store it.

use crate::{DecodeError, Reader, Writer};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// One `ip:port` of a cluster. IPv6 is written in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(SocketAddr);

/// The text is no `ip:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseEndpointError;

impl Endpoint {
    /// From an address.
    pub const fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// The address.
    pub const fn address(self) -> SocketAddr {
        self.0
    }

    pub(crate) fn write(self, out: &mut Writer) {
        let ip = match self.0.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        out.raw(&ip.octets());
        out.u16(self.0.port());
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ip = Ipv6Addr::from(input.array::<16>()?);
        let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
        Ok(Self(SocketAddr::new(ip, input.u16()?)))
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        // The host names the endpoint of every answer, and nearly always like this.
        if let Some(endpoint) = plain(text.as_bytes()) {
            return Ok(endpoint);
        }
        match text.trim().parse() {
            Ok(address) => Ok(Self(address)),
            // Names, pipes and internal listeners have no ip:port and cannot be steered to.
            Err(_) => Err(ParseEndpointError),
        }
    }
}

/// The endpoint that the text names, if it is of IPv4 and nothing surrounds it: the library's parser,
/// which can go back and read the same as something else, takes several times as long.
fn plain(text: &[u8]) -> Option<Endpoint> {
    let mut numbers = [0u32; 5];
    let mut digits = 0;
    let mut at = 0;
    for byte in text {
        let number = numbers.get_mut(at)?;
        match byte {
            b'0'..=b'9' => {
                // No number has more digits than a port, and no octet begins with a zero.
                if digits == 5 || at < 4 && digits > 0 && *number == 0 {
                    return None;
                }
                *number = *number * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' | b':' if digits > 0 && (at == 3) == (*byte == b':') => (at, digits) = (at + 1, 0),
            _ => return None,
        }
    }
    if at != 4 || digits == 0 {
        return None;
    }
    let [a, b, c, d, port] = numbers;
    let octet = |number: u32| u8::try_from(number).ok();
    let ip = Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?);
    Some(Endpoint(SocketAddr::new(IpAddr::V4(ip), u16::try_from(port).ok()?)))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_plain_reads_as_the_library_reads_it(
            text in "[0-9]{1,4}(\\.[0-9]{1,4}){3}:[0-9]{0,6}|[0-9.: ]{0,24}",
            octets in any::<[u8; 4]>(),
            port in any::<u16>(),
        ) {
            let library = |text: &str| text.trim().parse().map(Endpoint).map_err(|_| ParseEndpointError);
            prop_assert_eq!(text.parse::<Endpoint>(), library(&text));
            let usual = SocketAddr::from((octets, port)).to_string();
            prop_assert_eq!(plain(usual.as_bytes()), library(&usual).ok());
        }
    }

    #[test]
    fn leading_zeros_are_read_as_the_library_reads_them() {
        for text in [
            "01.2.3.4:5",
            "0.0.0.0:0",
            "00.0.0.0:1",
            "1.2.3.4:00080",
            "1.2.3.4:000080",
            "1.2.3.4:65536",
            "1.2.3.256:1",
            "1.2.3.4:",
            "1.2.3.4.5:6",
            "1:2.3.4.5",
        ] {
            assert_eq!(text.parse::<Endpoint>().ok(), text.parse().ok().map(Endpoint), "{text}");
        }
    }

    #[test]
    fn prints_what_the_host_prints() {
        for text in ["127.0.0.1:80", "[::1]:8080"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_or_a_pipe_is_no_endpoint() {
        for text in ["", "localhost:80", "/var/run/x.sock", "127.0.0.1", "::1:80x"] {
            assert_eq!(text.parse::<Endpoint>(), Err(ParseEndpointError), "{text}");
        }
    }
}
