//! One accepted connection: HTTP/1.1 or HTTP/2 (by preface or ALPN), plaintext or TLS, with an
//! emergency exit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::answer::answer;
use crate::sync::lock;

/// Streams a client may open on one HTTP/2 connection: what queues should queue in the slots,
/// where it is measured, not in the client's stream budget.
const MAX_CONCURRENT_STREAMS: u32 = 10_000;

/// Resets a connection from within the request it carries.
#[derive(Debug, Default)]
pub(crate) struct Abort {
    requested: AtomicBool,
    wake: Notify,
}

impl Abort {
    /// Ends the connection with a TCP RST.
    pub(crate) fn reset(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Answers are small: waiting to fill a segment would show up as latency.
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("{}: TCP_NODELAY: {error}", shared.name);
    }
    let _open = Open::count(&shared);
    let abort = Arc::new(Abort::default());
    let stream = Resettable { stream, abort: Arc::clone(&abort) };
    let Some(config) = shared.tls.clone() else {
        return exchange(stream, &shared, &abort).await;
    };
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => exchange(stream, &shared, &abort).await,
        Err(error) => log::debug!("{}: TLS handshake: {error}", shared.name),
    }
}

async fn exchange<I>(stream: I, shared: &Arc<Shared>, abort: &Arc<Abort>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (shared, abort) = (Arc::clone(shared), Arc::clone(abort));
        async move { answer(&shared, request, &abort).await }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(MAX_CONCURRENT_STREAMS);
    tokio::select! {
        served = builder.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                log::debug!("{}: connection: {error}", shared.name);
            }
        }
        () = abort.wake.notified() => {}
    }
}

/// Counts an open connection.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn count(shared: &'a Shared) -> Self {
        let counters = &mut lock(&shared.ledger).counters;
        counters.connections_accepted += 1;
        counters.connections += 1;
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.0.ledger).counters.connections -= 1;
    }
}

/// A stream that closes with RST instead of FIN when asked to.
struct Resettable {
    stream: TcpStream,
    abort: Arc<Abort>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.abort.requested.load(Ordering::Acquire)
            && let Err(error) = self.stream.set_zero_linger()
        {
            log::debug!("SO_LINGER: {error}");
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
