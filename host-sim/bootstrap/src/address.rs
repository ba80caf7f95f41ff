//! `envoy.config.core.v3.Address`: socket addresses only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A `socket_address` over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// An IP address, or a host name where the message allows one (DNS clusters).
    pub host: String,
    /// TCP port; 0 on a listener lets the kernel choose.
    pub port: u16,
}

impl Address {
    /// The socket address, when the host is an IP literal.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
