//! Upstreams that do what the rig's endpoints do not: echo bodies and trailers, wait, report aborts.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

type Reply = Response<BoxBody<Bytes, hyper::Error>>;

/// Serves until the test's runtime ends.
async fn serve<F, R>(handle: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handle = handle.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let reply = handle(request);
                    async move { Ok::<_, Infallible>(reply.await) }
                });
                let codec = auto::Builder::new(TokioExecutor::new());
                let _ = codec.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Sends the body back as it comes, trailers included.
pub(crate) async fn echo() -> SocketAddr {
    serve(|request| async move { Response::new(request.into_body().boxed()) }).await
}

/// An upstream that answers when told to.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    /// One message a request that has arrived.
    pub(crate) arrived: mpsc::UnboundedReceiver<()>,
    /// One message a request that was given up.
    pub(crate) aborted: mpsc::UnboundedReceiver<()>,
    pub(crate) open: Arc<Notify>,
}

/// Holds every request until the gate opens for it.
pub(crate) async fn gate() -> Gate {
    let (arrive, arrived) = mpsc::unbounded_channel();
    let (abort, aborted) = mpsc::unbounded_channel();
    let open = Arc::new(Notify::new());
    let waiting = open.clone();
    let address = serve(move |request| {
        let (arrive, waiting) = (arrive.clone(), waiting.clone());
        let guard = Guard { abort: abort.clone(), answered: false };
        async move {
            let mut guard = guard;
            arrive.send(()).unwrap();
            tokio::select! {
                () = waiting.notified() => guard.answered = true,
                () = broken_off(request.into_body()) => {}
            }
            Response::new(Empty::new().map_err(|never| match never {}).boxed())
        }
    })
    .await;
    Gate { address, arrived, aborted, open }
}

/// Waits for the body to break: with a body left unread hyper would not notice.
async fn broken_off(mut body: Incoming) {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return;
        }
    }
    std::future::pending().await
}

struct Guard {
    abort: mpsc::UnboundedSender<()>,
    answered: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.answered {
            // The test may be over.
            let _ = self.abort.send(());
        }
    }
}
