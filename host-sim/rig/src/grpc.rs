//! A gRPC service over HTTP/2 whose methods are the ways a service can answer, and fail to.
//!
//! Written against hyper and not a gRPC framework: half of the answers are ones that no framework
//! would give. A test that needs a service with a mind of its own gives [`GrpcServer::unary`] or
//! [`GrpcServer::streaming`] a function.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

/// Between metadata and reset: a client's HTTP/2 library may drop headers that a reset overtakes.
const BEFORE_CUT: Duration = Duration::from_millis(50);

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// What a unary method answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unary {
    /// A message, then status 0.
    Message(Vec<u8>),
    /// A status and its message, in headers.
    Status(u32, String),
    /// Nothing, ever.
    Silence,
}

/// What a method answers.
enum Answer {
    Unary(Unary),
    /// Messages until the sender of them is dropped, then status 0.
    Stream(UnboundedReceiver<Vec<u8>>),
}

/// A function from path and message to an answer, for all connections.
type Handler = dyn Fn(String, Bytes) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// A running service; dropping it stops accepting.
///
/// Methods, by the last segment of the path:
///
/// | method | answers |
/// |---|---|
/// | `Echo` | every message as it comes, then status 0 |
/// | `Fail` | metadata, then status 7 "no way" in trailers |
/// | `FailAtOnce` | status 5 "gone" in headers |
/// | `NoTrailers` | one message, and no status at all |
/// | `NotGrpc` | HTTP 404 with text |
/// | `Garbage` | bytes that are no message |
/// | `CutOff` | metadata, a moment later a reset |
/// | `Hang` | nothing |
/// | any other | status 12 in headers |
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl GrpcServer {
    /// Listens on a port of the kernel's choice.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::listen(None).await
    }

    /// The same, but every call is unary, and answered by `handler`, which gets the path and the
    /// message.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn unary<F>(
        handler: impl Fn(String, Bytes) -> F + Send + Sync + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = Unary> + Send + 'static,
    {
        let handler: Arc<Handler> = Arc::new(move |path, said| {
            let answer = handler(path, said);
            Box::pin(async { Answer::Unary(answer.await) })
        });
        Self::listen(Some(handler)).await
    }

    /// The same, but every call is answered by a stream of the messages that come out of the receiver
    /// which `handler` gives, until their sender is dropped.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn streaming(
        handler: impl Fn(String, Bytes) -> UnboundedReceiver<Vec<u8>> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let handler: Arc<Handler> = Arc::new(move |path, said| {
            let messages = handler(path, said);
            Box::pin(async { Answer::Stream(messages) })
        });
        Self::listen(Some(handler)).await
    }

    async fn listen(handler: Option<Arc<Handler>>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone()));
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, handler: Option<Arc<Handler>>) {
    let service = service_fn(|request| {
        let handler = handler.clone();
        async move {
            Ok::<_, Infallible>(match handler {
                Some(handler) => answer_as_told(request, &*handler).await,
                None => answer(request).await,
            })
        }
    });
    let codec = http2::Builder::new(TokioExecutor::new());
    if let Err(error) = codec.serve_connection(TokioIo::new(stream), service).await {
        log::debug!("gRPC connection: {error}");
    }
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let said = request.into_body();
    let method = path.rsplit('/').next().unwrap_or_default();
    match method {
        "Echo" => speak(|sender| echo(said, sender)),
        "Fail" => {
            let _ = said.collect().await;
            speak(|sender| end(sender, 7, "no way"))
        }
        "NoTrailers" => {
            let _ = said.collect().await;
            grpc(Full::new(frame(b"alone")).map_err(|never| match never {}).boxed_unsync())
        }
        "NotGrpc" => {
            let body = Full::new(Bytes::from_static(b"not here"));
            let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
        "Garbage" => {
            let _ = said.collect().await;
            let body = Full::new(Bytes::from_static(b"no frame"));
            grpc(body.map_err(|never| match never {}).boxed_unsync())
        }
        "CutOff" => {
            let _ = said.collect().await;
            speak(|sender| async move {
                tokio::time::sleep(BEFORE_CUT).await;
                sender.abort(io::Error::other("cut off"));
            })
        }
        "Hang" => std::future::pending().await,
        "FailAtOnce" => at_once(5, "gone"),
        _ => at_once(12, "no such method"),
    }
}

async fn answer_as_told(request: Request<Incoming>, handler: &Handler) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let said = match request.into_body().collect().await {
        Ok(said) => said.to_bytes(),
        Err(error) => return at_once(13, &error.to_string()),
    };
    // Compression flag and length, then the message.
    let Some(message) = said.get(5..) else { return at_once(13, "no message") };
    match handler(path, said.slice_ref(message)).await {
        Answer::Unary(Unary::Message(message)) => speak(|mut sender| async move {
            if sender.send_data(frame(&message)).await.is_ok() {
                end(sender, 0, "").await;
            }
        }),
        Answer::Unary(Unary::Status(status, message)) => at_once(status, &message),
        Answer::Unary(Unary::Silence) => std::future::pending().await,
        Answer::Stream(mut messages) => speak(|mut sender| async move {
            while let Some(message) = messages.recv().await {
                if sender.send_data(frame(&message)).await.is_err() {
                    return;
                }
            }
            end(sender, 0, "").await;
        }),
    }
}

async fn echo(mut said: Incoming, mut sender: Sender<Bytes, io::Error>) {
    while let Some(Ok(frame)) = said.frame().await {
        if let Ok(data) = frame.into_data()
            && sender.send_data(data).await.is_err()
        {
            return;
        }
    }
    end(sender, 0, "").await;
}

async fn end(mut sender: Sender<Bytes, io::Error>, status: u32, message: &str) {
    let mut trailers = HeaderMap::new();
    put_status(&mut trailers, status, message);
    // A client that is gone needs no status.
    let _ = sender.send(Frame::trailers(trailers)).await;
}

/// A response whose body is written by a task of its own.
fn speak<F>(write: impl FnOnce(Sender<Bytes, io::Error>) -> F) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, body) = Channel::new(16);
    tokio::spawn(write(sender));
    grpc(body.boxed_unsync())
}

fn at_once(status: u32, message: &str) -> Response<Body> {
    let mut response = grpc(Empty::new().map_err(|never| match never {}).boxed_unsync());
    put_status(response.headers_mut(), status, message);
    response
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", content_type);
    response
}

fn put_status(headers: &mut HeaderMap, status: u32, message: &str) {
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Ok(message) = HeaderValue::from_str(message)
        && !message.is_empty()
    {
        headers.insert("grpc-message", message);
    }
}

fn frame(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &len[..], message].concat().into()
}
