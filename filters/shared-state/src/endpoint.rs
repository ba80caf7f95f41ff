//! An endpoint's address, as the host prints it and as records store it.

use crate::{DecodeError, Reader, Writer};
use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
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
        match text.trim().parse() {
            Ok(address) => Ok(Self(address)),
            // Names, pipes and internal listeners have no ip:port and cannot be steered to.
            Err(_) => Err(ParseEndpointError),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
