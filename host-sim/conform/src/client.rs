//! The client: sends an exchange and describes what came back, as text.
//!
//! HTTP/1.1 is written by hand, so that the pieces of a body arrive as the case says; an answer is
//! whole when its framing says so, because hosts differ in when they close a connection.

use crate::Phase;
use crate::case::{Body, Ending, Exchange, Protocol};
use crate::frames::{Frames, PAUSE};
use crate::host::Lines;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What an exchange looks like from outside.
pub(crate) async fn exchange(
    address: SocketAddr,
    exchange: &Exchange,
    cells: &[(String, String)],
    lines: &Lines,
) -> String {
    let sent = match exchange.protocol {
        Protocol::Http1 => http1(address, exchange, cells).await,
        Protocol::Http2 => http2(address, exchange, cells).await,
        Protocol::Tcp(ending) => tcp(address, exchange, ending, lines).await,
    };
    sent.unwrap_or_else(|error| format!("no exchange: {error}"))
}

async fn http1(
    address: SocketAddr,
    exchange: &Exchange,
    cells: &[(String, String)],
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut head =
        format!("{} {} HTTP/1.1\r\nhost: conform.test\r\n", exchange.method, exchange.path);
    for (name, value) in exchange.headers.iter().chain(cells) {
        head += &format!("{name}: {value}\r\n");
    }
    let (pieces, chunked) = match &exchange.body {
        Body::None => (&[][..], false),
        Body::Sized(pieces) => {
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            head += &format!("content-length: {length}\r\n");
            (&pieces[..], false)
        }
        Body::Chunked(pieces) => {
            head += "transfer-encoding: chunked\r\n";
            (&pieces[..], true)
        }
    };
    head += "\r\n";
    // One write for a body of one piece: what clients do.
    let mut pending = head.into_bytes();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            stream.write_all(&std::mem::take(&mut pending)).await?;
            sleep(PAUSE).await;
        }
        if chunked {
            pending.extend(format!("{:x}\r\n{piece}\r\n", piece.len()).bytes());
        } else {
            pending.extend(piece.bytes());
        }
    }
    if chunked {
        pending.extend(b"0\r\n\r\n");
    }
    stream.write_all(&pending).await?;
    Ok(read_answer(&mut stream, exchange).await)
}

async fn read_answer(stream: &mut TcpStream, exchange: &Exchange) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(whole) = parse(&bytes, exchange.method == "HEAD") {
            return whole;
        }
        let end = match timeout(exchange.patience, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => "the end of the connection",
            Ok(Ok(read)) => {
                bytes.extend(&buffer[..read]);
                continue;
            }
            Ok(Err(_)) => "a reset of the connection",
            Err(_) => "nothing more",
        };
        return format!("{}\nthen {end}", partial(&bytes));
    }
}

/// An answer cut short: its head, if whole, and what there is of the body.
fn partial(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.split_once("\r\n\r\n") {
        Some((head, body)) => format!("{}body so far: {body:?}", sorted(head)),
        None => format!("{text:?}"),
    }
}

/// A whole answer, described; `None` when it is not whole yet.
fn parse(bytes: &[u8], is_head: bool) -> Option<String> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let rest = &bytes[at + 4..];
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let bodiless = is_head || head.contains(" 204 ") || head.contains(" 304 ");
    let body = if bodiless {
        Vec::new()
    } else if field("transfer-encoding").is_some() {
        dechunk(rest)?
    } else {
        // Without a length the end of the connection ends it: not whole before.
        let length = field("content-length")?.parse::<usize>().ok()?;
        rest.get(..length)?.to_vec()
    };
    Some(format!("{}body: {:?}", sorted(&head), String::from_utf8_lossy(&body)))
}

fn sorted(head: &str) -> String {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let mut fields: Vec<_> = lines.collect();
    fields.sort_unstable();
    let fields: String = fields.iter().flat_map(|line| [*line, "\n"]).collect();
    format!("{first}\n{fields}")
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(end + 2..)?;
        if size == 0 {
            return rest.windows(2).any(|window| window == b"\r\n").then_some(body);
        }
        body.extend(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// What was read in all, and how it ended.
///
/// What follows a piece, another one or the end, is sent when the piece was read: together they
/// would be one read or two, as it happens.
async fn tcp(
    address: SocketAddr,
    exchange: &Exchange,
    ending: Ending,
    lines: &Lines,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // The way to the upstream is open then.
    sleep(PAUSE).await;
    let (Body::Sized(pieces) | Body::Chunked(pieces)) = &exchange.body else {
        return Ok(String::new());
    };
    for piece in pieces {
        let start = lines.len();
        if let Err(error) = stream.write_all(piece.as_bytes()).await {
            return Ok(format!("cannot send {piece:?}: {}", error.kind()));
        }
        // Some connections are not read from.
        lines.begins(start, Phase::DownstreamData, exchange.patience / 2).await;
        // For what is sent back.
        sleep(PAUSE).await;
    }
    match ending {
        Ending::Fin => drop(stream.shutdown().await),
        Ending::Stay => {}
        Ending::Reset => {
            #[expect(deprecated, reason = "a linger of zero is what makes the RST")]
            stream.set_linger(Some(Duration::ZERO))?;
            return Ok("reset".to_owned());
        }
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        match timeout(exchange.patience, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => break "the end of the connection",
            Ok(Ok(read)) => bytes.extend(&buffer[..read]),
            Ok(Err(_)) => break "a reset of the connection",
            Err(_) => break "nothing more",
        }
    };
    Ok(format!("{:?}\nthen {end}", String::from_utf8_lossy(&bytes)))
}

async fn http2(
    address: SocketAddr,
    exchange: &Exchange,
    cells: &[(String, String)],
) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(exchange.method)
        .uri(format!("http://conform.test{}", exchange.path));
    for (name, value) in exchange.headers.iter().chain(cells) {
        request = request.header(name, value);
    }
    let mut frames = Vec::new();
    if let Body::Sized(pieces) | Body::Chunked(pieces) = &exchange.body {
        frames.extend(pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))));
    }
    if let Body::Sized(pieces) = &exchange.body {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        request = request.header("content-length", length);
    }
    if !exchange.trailers.is_empty() {
        let mut trailers = HeaderMap::new();
        for (name, value) in &exchange.trailers {
            let name = name.parse::<http::HeaderName>().map_err(std::io::Error::other)?;
            trailers.append(name, value.parse().map_err(std::io::Error::other)?);
        }
        frames.push(Frame::trailers(trailers));
    }
    let slowly = frames.len() > 2;
    let request = request.body(Frames::new(frames, slowly)).map_err(std::io::Error::other)?;
    let answer = receive(sender.send_request(request), exchange.patience).await;
    drop(sender);
    connection.abort();
    Ok(answer)
}

async fn receive(
    response: impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>,
    patience: Duration,
) -> String {
    let response = match timeout(patience, response).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return format!("no answer, {}", reason(&error)),
        Err(_) => return "no answer".to_owned(),
    };
    let (head, mut body) = response.into_parts();
    let mut out = format!("HTTP/2 {}\n{}", head.status.as_u16(), fields(&head.headers));
    let mut bytes = Vec::new();
    let mut trailers = String::new();
    let end = loop {
        match timeout(patience, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => bytes.extend(data),
                Err(frame) => {
                    trailers = frame.trailers_ref().map(fields).unwrap_or_default();
                }
            },
            Ok(Some(Err(error))) => break format!("\nthen {}", reason(&error)),
            Ok(None) => break String::new(),
            Err(_) => break "\nthen nothing more".to_owned(),
        }
    };
    out += &format!("body: {:?}", String::from_utf8_lossy(&bytes));
    if !trailers.is_empty() {
        out += &format!("\ntrailers: {trailers}");
    }
    out + &end
}

/// Which end it was; its code is the codec's choice.
fn reason(error: &hyper::Error) -> &'static str {
    if error.is_canceled() || error.is_closed() { "the end of the connection" } else { "a reset" }
}

fn fields(headers: &HeaderMap) -> String {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines.concat()
}
