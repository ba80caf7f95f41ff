//! `envoy.config.core.v3.Address`: socket addresses only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::reader::{Message, Reader};

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

pub(crate) const ADDRESS: Message<Address> =
    Message { name: "envoy.config.core.v3.Address", read: address };

const SOCKET_ADDRESS: Message<Address> =
    Message { name: "envoy.config.core.v3.SocketAddress", read: socket_address };

fn address(message: &mut Reader<'_>) -> Option<Address> {
    message.one_of(&["socket_address", "pipe", "envoy_internal_address"], true);
    message.message("socket_address", SOCKET_ADDRESS)
}

fn socket_address(message: &mut Reader<'_>) -> Option<Address> {
    message.choice("protocol", &[("TCP", 0, Some(())), ("UDP", 1, None)]);
    message.one_of(&["port_value", "named_port"], true);
    let host = message.required_text("address");
    let port = message.integer("port_value", 0..=65_535);
    Some(Address { host: host?, port: u16::try_from(port?).ok()? })
}
