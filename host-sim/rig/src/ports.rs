//! Loopback ports that stay reserved until somebody listens on them.
//!
//! The usual trick, "bind port 0, note the number, close", loses the port to any process that
//! connects or binds in between. Here the socket stays bound but does not listen, with
//! `SO_REUSEADDR` set: connects are refused, the kernel gives the port to nobody who asks for an
//! arbitrary one, and a process that names the port (with `SO_REUSEADDR`, as Envoy and tokio do)
//! may listen on it while the reservation lasts. So a reservation needs no hand-over and leaves no
//! gap: keep it alive for as long as the port is needed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Backlog of [`ReservedPort::listen`], the value tokio uses for `TcpListener::bind`.
const LISTEN_BACKLOG: u32 = 1024;

/// A bound socket that does not listen.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let reserved = host_sim_rig::ports::ReservedPort::any()?;
/// // Refused now, and free for a child process that names the port.
/// assert!(tokio::net::TcpStream::connect(reserved.address()).await.is_err());
/// let listener = tokio::net::TcpListener::bind(reserved.address()).await?;
/// # drop(listener);
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct ReservedPort {
    socket: TcpSocket,
    address: SocketAddr,
}

impl ReservedPort {
    /// Reserves a port the kernel picks, on 127.0.0.1.
    pub fn any() -> io::Result<Self> {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Reserves this address; port 0 lets the kernel pick.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The reserved address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reserved port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Turns the reservation into a listener.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(LISTEN_BACKLOG)
    }
}

/// Reserves `count` different ports on 127.0.0.1.
pub fn reserve(count: usize) -> io::Result<Vec<ReservedPort>> {
    (0..count).map(|_| ReservedPort::any()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn reserved_ports_are_different_and_refuse_connections() {
        let reserved = reserve(20).unwrap();
        let distinct: HashSet<u16> = reserved.iter().map(ReservedPort::port).collect();
        assert_eq!(distinct.len(), 20);
        let error = TcpStream::connect(reserved[0].address()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_reservation_becomes_a_listener() {
        let reserved = ReservedPort::any().unwrap();
        let address = reserved.address();
        let listener = reserved.listen().unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        TcpStream::connect(address).await.unwrap();
    }

    #[tokio::test]
    async fn another_socket_may_listen_while_the_reservation_lasts() {
        let reserved = ReservedPort::any().unwrap();
        let _listener = TcpListener::bind(reserved.address()).await.unwrap();
        TcpStream::connect(reserved.address()).await.unwrap();
    }
}
