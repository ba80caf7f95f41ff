//! Listening sockets: one a worker and listener, all on one port.

use crate::ProxyError;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listener's sockets, bound and not yet listening.
pub(crate) struct BoundListener {
    /// Where they are bound, the port filled in.
    pub(crate) address: SocketAddr,
    /// One for each worker.
    pub(crate) sockets: Vec<Socket>,
}

/// Binds one socket for each of `workers` to the same address.
///
/// `SO_REUSEPORT` lets the kernel spread connections over the workers without a shared accept
/// queue. Port 0 is resolved by the first socket. Nothing is accepted before [`activate`]: a
/// socket of the group that listens while its worker still compiles would swallow connections.
pub(crate) fn bind(
    name: &str,
    address: SocketAddr,
    workers: u32,
) -> Result<BoundListener, ProxyError> {
    let bound =
        |at, shared| bind_one(at, shared).map_err(|error| ProxyError::bind(name, at, error));
    if address.port() != 0 {
        // A shared port would silently halve the traffic of another process that has it.
        drop(bound(address, false)?);
    }
    let (first, address) = bound(address, true)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bound(address, true)?.0);
    }
    Ok(BoundListener { address, sockets })
}

/// Starts to listen, and hands the socket to the current event loop.
pub(crate) fn activate(socket: Socket) -> io::Result<tokio::net::TcpListener> {
    socket.listen(BACKLOG)?;
    tokio::net::TcpListener::from_std(TcpListener::from(socket))
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let local = socket.local_addr()?.as_socket();
    let local = local.ok_or_else(|| io::Error::other("not an internet address"))?;
    Ok((socket, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_share_the_port_the_kernel_chose() {
        let bound = bind("test", SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
        assert_ne!(bound.address.port(), 0);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(bound.address));
        }
    }

    #[test]
    fn a_port_that_another_process_serves_is_refused() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = taken.local_addr().unwrap();
        assert!(matches!(bind("test", address, 2), Err(ProxyError::Bind { .. })));
    }

    #[test]
    fn an_address_that_is_not_ours_names_the_listener() {
        let error = bind("edge", SocketAddr::from(([192, 0, 2, 1], 80)), 1).err().unwrap();
        let text = error.to_string();
        assert!(text.starts_with("listener \"edge\": cannot listen on 192.0.2.1:80: "), "{text}");
    }
}
