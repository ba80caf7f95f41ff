//! The servers behind both hosts, and what they received.
//!
//! One server answers over HTTP/1.1 and HTTP/2, as `x-shape` asks; the others each fail in one way.

use crate::Phase;
use crate::frames::{Frames, PAUSE};
use crate::host::Lines;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Addresses of the servers, by cluster.
pub(crate) struct Upstreams {
    pub(crate) clusters: Vec<(&'static str, SocketAddr)>,
    received: Arc<Mutex<Vec<String>>>,
    /// Bound, and not listening: whoever connects is refused.
    _refusing: TcpSocket,
}

impl Upstreams {
    /// Starts them on the current runtime. `lines` are those of the host before them.
    pub(crate) async fn start(lines: Arc<Lines>) -> anyhow::Result<Self> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        let echo = serve(move |stream| answer(stream, log.clone())).await?;
        let log = received.clone();
        let tcp = serve(move |stream| bare(stream, log.clone(), lines.clone())).await?;
        let refusing = TcpSocket::new_v4()?;
        refusing.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let clusters = vec![
            ("echo", echo),
            ("echo2", echo),
            ("silent", serve(silent).await?),
            ("reset", serve(reset).await?),
            ("closed", serve(closed).await?),
            ("partial", serve(partial).await?),
            ("garbage", serve(garbage).await?),
            ("refused", refusing.local_addr()?),
            (crate::file::FILTERED.0, echo),
            ("tcp", tcp),
        ];
        Ok(Self { clusters, received, _refusing: refusing })
    }

    /// Requests since the last call, each as text.
    pub(crate) fn received(&self) -> Vec<String> {
        std::mem::take(&mut self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve<F, R>(connection: F) -> anyhow::Result<SocketAddr>
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(connection(stream));
        }
    });
    Ok(address)
}

async fn answer(stream: TcpStream, log: Arc<Mutex<Vec<String>>>) {
    let service = service_fn(move |request| {
        let log = log.clone();
        async move { Ok::<_, Infallible>(reply(request, log).await) }
    });
    let codec = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the proxy's affair.
    let _ = codec.serve_connection(TokioIo::new(stream), service).await;
}

async fn reply(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<String>>>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    let shape = head.headers.get("x-shape").and_then(|value| value.to_str().ok()).unwrap_or("");
    let shape = shape.to_owned();
    let mut text =
        format!("{} {}\n", head.method, head.uri.path_and_query().map_or("", |p| p.as_str()));
    // HTTP/1.1 and HTTP/2 carry the authority in different places.
    if let Some(authority) = head.uri.authority() {
        text += &format!("host: {authority}\n");
    }
    text += &lines(&head.headers);
    let at = note(&log, None, format!("{text}(no whole body)"));
    let read = async move {
        match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().map(lines).unwrap_or_default();
                let body = body.to_bytes();
                text += &format!("body: {:?}\n{trailers}", String::from_utf8_lossy(&body));
            }
            Err(_) => text += "(no whole body)",
        }
        note(&log, Some(at), text);
    };
    match shape.strip_prefix("early_") {
        Some(shape) => {
            tokio::spawn(read);
            grpc(shape)
        }
        None => {
            read.await;
            if shape.starts_with("grpc") { grpc(&shape) } else { shaped(&shape) }
        }
    }
}

/// Writes down a request, or more of the one that has that number.
fn note(log: &Mutex<Vec<String>>, at: Option<usize>, text: String) -> usize {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let at = at.unwrap_or(log.len());
    match log.get_mut(at) {
        Some(entry) => *entry = text,
        None => log.push(text),
    }
    at
}

fn lines(headers: &HeaderMap) -> String {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines.concat()
}

fn shaped(shape: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("x-trail"), HeaderValue::from_static("response"));
    let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
    let (frames, length) = match shape {
        "empty" => (vec![], Some(0)),
        "chunked" => (vec![data("response "), data("body")], None),
        "trailers" => (vec![data("response body"), Frame::trailers(trailers)], None),
        _ => (vec![data("response body")], Some(13)),
    };
    // Slowly, so that two pieces are not read as one.
    let mut response = Response::new(Frames::new(frames, shape == "chunked").boxed());
    let headers = response.headers_mut();
    headers.insert("x-up", HeaderValue::from_static("1"));
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    // Both hosts would add another time otherwise.
    headers.insert("date", HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
    if let Some(length) = length {
        headers.insert("content-length", HeaderValue::from(length));
    }
    if shape == "404" {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    response
}

/// What a service of gRPC answers; `early_` before a shape answers before the request has ended.
fn grpc(shape: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let message = |text: &str, flag: u8| {
        let mut frame = vec![flag, 0, 0, 0, u8::try_from(text.len()).unwrap_or(u8::MAX)];
        frame.extend(text.bytes());
        Frame::data(Bytes::from(frame))
    };
    let trailers = |pairs: &[(&'static str, &'static str)]| {
        let mut trailers = HeaderMap::new();
        for (name, value) in pairs {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Frame::trailers(trailers)
    };
    let fine = || trailers(&[("grpc-status", "0"), ("x-trail", "grpc")]);
    let frames = match shape {
        "grpc" => vec![message("answer", 0), fine()],
        "grpc_two" => vec![message("one", 0), message("", 0), fine()],
        "grpc_none" => vec![fine()],
        "grpc_failed" => {
            vec![
                message("answer", 0),
                trailers(&[("grpc-status", "13"), ("grpc-message", "it%20broke")]),
            ]
        }
        "grpc_odd_status" => vec![message("answer", 0), trailers(&[("grpc-status", "99")])],
        "grpc_text_status" => vec![message("answer", 0), trailers(&[("grpc-status", "fine")])],
        "grpc_no_trailers" => vec![message("answer", 0)],
        "grpc_flagged" => vec![message("answer", 1), fine()],
        "grpc_bad_flag" => vec![message("answer", 2), fine()],
        "grpc_short" => vec![Frame::data(Bytes::from_static(&[0, 0, 0, 0, 9, b'x'])), fine()],
        _ => vec![],
    };
    let mut response = Response::new(Frames::new(frames, false).boxed());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("date", HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
    match shape {
        "grpc_denied" => {
            headers.insert("grpc-status", HeaderValue::from_static("7"));
            headers.insert("grpc-message", HeaderValue::from_static("no entry"));
        }
        "grpc_404" => *response.status_mut() = http::StatusCode::NOT_FOUND,
        "grpc_html" => {
            headers.insert("content-type", HeaderValue::from_static("text/html"));
        }
        _ => {}
    }
    response
}

/// Over TCP: every read is answered in brackets, until the client ends. A read that begins with
/// `bye` ends the connection after its answer, one with `last` in the same segment, one with `reset`
/// resets it, one with `quiet` has none.
async fn bare(mut stream: TcpStream, log: Arc<Mutex<Vec<String>>>, lines: Arc<Lines>) {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let at = note(&log, None, "connection".to_owned());
    loop {
        let (read, end) = match stream.read(&mut buffer).await {
            Ok(0) => (0, Some("the end")),
            Ok(read) => (read, None),
            Err(_) => (0, Some("a reset")),
        };
        all.extend(&buffer[..read]);
        let end_text = end.map(|end| format!(", then {end}")).unwrap_or_default();
        let text = format!("connection: {:?}{end_text}", String::from_utf8_lossy(&all));
        note(&log, Some(at), text);
        if end.is_some() {
            return;
        }
        let piece = &buffer[..read];
        if piece.starts_with(b"reset") {
            #[expect(deprecated, reason = "a linger of zero is what makes the RST")]
            let _ = stream.set_linger(Some(Duration::ZERO));
            return;
        }
        if piece.starts_with(b"quiet") {
            continue;
        }
        let last = piece.starts_with(b"last");
        // What is held back goes when the end does, and with it.
        let _ = SockRef::from(&stream).set_tcp_cork(last);
        let start = lines.len();
        let answer = [b"<", piece, b">"].concat();
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        if last {
            let _ = stream.shutdown().await;
            return;
        }
        // Read before anything follows it: a read and an end are two, always.
        lines.begins(start, Phase::UpstreamData, 4 * PAUSE).await;
        if piece.starts_with(b"bye") {
            return;
        }
    }
}

/// Never answers.
async fn silent(mut stream: TcpStream) {
    read_all(&mut stream).await;
}

/// Ends the connection with RST as soon as it was written to.
async fn reset(mut stream: TcpStream) {
    read_some(&mut stream).await;
    #[expect(deprecated, reason = "a linger of zero is what makes the RST; it does not block")]
    let _ = stream.set_linger(Some(Duration::ZERO));
}

/// Ends the connection with FIN as soon as it was written to.
async fn closed(mut stream: TcpStream) {
    read_some(&mut stream).await;
}

/// Answers with a part of the body it promises.
async fn partial(mut stream: TcpStream) {
    read_some(&mut stream).await;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na part").await;
    // So that head and end are not read as one.
    tokio::time::sleep(PAUSE).await;
}

/// Answers with what is no HTTP.
async fn garbage(mut stream: TcpStream) {
    read_some(&mut stream).await;
    let _ = stream.write_all(b"this is no HTTP\r\n\r\n").await;
    read_all(&mut stream).await;
}

async fn read_some(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4096]).await;
}

async fn read_all(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
