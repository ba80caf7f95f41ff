//! The two sides of a connection, and how each is read and written.

use super::byte_queue::{ByteQueue, Close, Write};
use super::read::read;
use crate::driver::Driver;
use bytes::Bytes;
use host_sim_engine::ConnectionId;
use socket2::SockRef;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::{client, server};

/// What the driver has of a connection.
#[derive(Clone, Default)]
pub(crate) struct Sides {
    client: Rc<ByteQueue>,
    upstream: Rc<ByteQueue>,
    /// Something has happened: whoever waits to read asks again.
    changed: Rc<Notify>,
    /// The connection is over, or its upstream is to go.
    upstream_gone: Rc<Notify>,
    /// What serves HTTP behind network filters; set while the connection is new.
    pub(super) http: Rc<RefCell<Option<ServeHttp>>>,
}

/// Gives one end of a pipe to an HTTP codec.
pub(crate) type ServeHttp = Box<dyn FnOnce(DuplexStream)>;

/// Which side of a connection.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Client,
    Upstream,
}

/// A stream of bytes that can be cut.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether the runtime asks the kernel what there is to read, and so may know less than is true.
    const POLLED: bool = true;

    /// The next close is a reset.
    fn reset_on_close(&self);
}

impl Socket for TcpStream {
    fn reset_on_close(&self) {
        // A socket that is gone already needs no reset.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Socket for server::TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

impl Socket for client::TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

impl Socket for DuplexStream {
    const POLLED: bool = false;

    fn reset_on_close(&self) {}
}

impl Sides {
    /// `http` takes the far end of a pipe when the filters let the connection through.
    pub(crate) fn serving(http: Option<ServeHttp>) -> Self {
        Self { http: Rc::new(RefCell::new(http)), ..Self::default() }
    }

    /// Bytes for the client.
    pub(crate) fn to_client(&self, data: Bytes, end: bool) {
        self.client.push(data, end);
        self.changed.notify_waiters();
    }

    /// Bytes for the upstream.
    pub(crate) fn to_upstream(&self, data: Bytes, end: bool) {
        self.upstream.push(data, end);
        self.changed.notify_waiters();
    }

    pub(crate) fn close_client(&self, reset: bool) {
        self.client.close(if reset { Close::Reset } else { Close::Flush });
        self.changed.notify_waiters();
    }

    pub(crate) fn close_upstream(&self, reset: bool) {
        self.upstream.close(if reset { Close::Reset } else { Close::Flush });
        self.upstream_gone.notify_one();
        self.changed.notify_waiters();
    }

    pub(super) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until the engine wants no upstream any more.
    pub(super) async fn upstream_gone(&self) {
        self.upstream_gone.notified().await;
    }

    /// Moves bytes between a socket and the engine until the engine closes that side.
    pub(super) async fn run<S: Socket>(
        &self,
        driver: &Rc<Driver>,
        id: ConnectionId,
        side: Side,
        socket: S,
    ) {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let reset = {
            let reading = self.read_all(driver, id, side, &mut reader);
            let writing = self.write_all(side, &mut writer);
            tokio::pin!(reading, writing);
            tokio::select! {
                biased;
                reset = &mut writing => reset,
                // Whatever ended the reading, the engine says how the connection ends.
                () = &mut reading => writing.await,
            }
        };
        self.queue(side).abandon();
        if reset {
            reader.unsplit(writer).reset_on_close();
        }
    }

    async fn read_all<S: Socket>(
        &self,
        driver: &Rc<Driver>,
        id: ConnectionId,
        side: Side,
        reader: &mut ReadHalf<S>,
    ) {
        let opposite = match side {
            Side::Client => Side::Upstream,
            Side::Upstream => Side::Client,
        };
        loop {
            self.may_read(driver, id, side).await;
            self.queue(opposite).drained().await;
            match (read(reader, S::POLLED).await, side) {
                (Ok((data, end)), Side::Client) => {
                    driver.feed(|worker| worker.connection_data(id, data, end));
                    if end {
                        return;
                    }
                }
                (Ok((data, end)), Side::Upstream) => {
                    driver.feed(|worker| worker.connection_upstream_data(id, data, end));
                    if end {
                        return;
                    }
                }
                (Err(_), Side::Client) => {
                    return driver.feed(|worker| worker.connection_reset(id));
                }
                (Err(_), Side::Upstream) => {
                    return driver.feed(|worker| worker.connection_upstream_reset(id));
                }
            }
            self.changed();
        }
    }

    /// Waits until the engine takes bytes of that side.
    async fn may_read(&self, driver: &Driver, id: ConnectionId, side: Side) {
        loop {
            let changed = self.changed.notified();
            let reads = match side {
                Side::Client => driver.reads_downstream(id),
                Side::Upstream => driver.reads_upstream(id),
            };
            if reads {
                return;
            }
            changed.await;
        }
    }

    /// Writes until the side is closed; true: with a reset.
    async fn write_all<S: Socket>(&self, side: Side, writer: &mut WriteHalf<S>) -> bool {
        let queue = self.queue(side);
        let mut broken = false;
        loop {
            let written = match queue.next().await {
                Write::Bytes(bytes) if !broken => writer.write_all(&bytes).await,
                Write::End if !broken => writer.shutdown().await,
                Write::Close(Close::Reset) => return true,
                Write::Close(Close::Flush) => {
                    // For TLS: the close must be said before the socket goes.
                    let _ = writer.shutdown().await;
                    return false;
                }
                Write::Bytes(_) | Write::End => Ok(()),
            };
            if written.is_ok() && !broken {
                let _ = writer.flush().await;
            } else if !broken {
                // The reader finds out why, and tells the engine.
                broken = true;
                queue.abandon();
            }
        }
    }

    fn queue(&self, side: Side) -> &ByteQueue {
        match side {
            Side::Client => &self.client,
            Side::Upstream => &self.upstream,
        }
    }
}
