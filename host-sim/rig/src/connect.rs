//! Client connections: TCP, TLS if the URL says so, then an HTTP/1.1 or HTTP/2 handshake.
//!
//! One connection is one value here, without a pool: the load generator and the test client both
//! need to know which connection carries what, and when one is opened.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Receive window of an HTTP/2 stream and connection: large enough that a loopback transfer is
/// never flow-controlled unless its reader stops.
const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Which HTTP a connection speaks. Over TLS it is offered by ALPN and must be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// HTTP/1.1, keep-alive.
    #[default]
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
}

/// Where an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The URL or request cannot be sent at all.
    InvalidRequest,
    /// No TCP connection: refused, unreachable, or the name does not resolve.
    Connect,
    /// The TLS handshake failed, or ALPN chose another protocol.
    Tls,
    /// The connection or stream ended before the answer was complete.
    Reset,
    /// What came back is not HTTP.
    Protocol,
    /// The time given was not enough.
    Timeout,
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub struct ExchangeError {
    /// Where it failed.
    pub kind: ErrorKind,
    /// What the layer below said.
    pub detail: String,
}

impl ExchangeError {
    pub(crate) fn new(kind: ErrorKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for ExchangeError {}

impl From<hyper::Error> for ExchangeError {
    fn from(error: hyper::Error) -> Self {
        let kind = if error.is_parse() {
            ErrorKind::Protocol
        } else if error.is_user() && !error.is_canceled() {
            ErrorKind::InvalidRequest
        } else {
            // Whatever hyper calls it - incomplete, canceled, closed, a broken body, a stream
            // error - the answer broke off.
            ErrorKind::Reset
        };
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::new(kind, format!("{error}{cause}"))
    }
}

/// Opens connections to one origin.
#[derive(Clone)]
pub struct Dialer {
    scheme: Scheme,
    authority: Authority,
    host_header: HeaderValue,
    port: u16,
    protocol: Protocol,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({}://{}, {:?})", self.scheme, self.authority, self.protocol)
    }
}

impl Dialer {
    /// For the origin of `url`. An `https` URL needs `tls`, whose ALPN is set by `protocol`.
    pub fn new(
        url: &Uri,
        protocol: Protocol,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, ExchangeError> {
        let invalid = |detail: &str| {
            ExchangeError::new(ErrorKind::InvalidRequest, format!("{url}: {detail}"))
        };
        let scheme = url.scheme().cloned().ok_or_else(|| invalid("no scheme: http or https"))?;
        let authority = url.authority().cloned().ok_or_else(|| invalid("no host"))?;
        let secure = scheme == Scheme::HTTPS;
        let tls = match (secure, tls) {
            (false, _) => None,
            (true, None) => return Err(invalid("https needs a certificate to trust")),
            (true, Some(config)) => {
                let mut config = ClientConfig::clone(config);
                config.alpn_protocols = vec![protocol.alpn().to_vec()];
                let host = authority.host().trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(|_| invalid("not a server name"))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        Ok(Self {
            host_header: HeaderValue::from_str(authority.as_str())
                .map_err(|_| invalid("not a host"))?,
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            scheme,
            authority,
            protocol,
            tls,
        })
    }

    /// The protocol its connections speak.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Opens a connection.
    pub async fn dial<B>(&self) -> Result<Connection<B>, ExchangeError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let host = self.authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await.map_err(|error| {
            ExchangeError::new(ErrorKind::Connect, format!("{}: {error}", self.authority))
        })?;
        let local = stream.local_addr().map_err(|e| ExchangeError::new(ErrorKind::Connect, e))?;
        stream.set_nodelay(true).map_err(|e| ExchangeError::new(ErrorKind::Connect, e))?;
        let Some((connector, name)) = &self.tls else {
            return self.handshake(stream, local).await;
        };
        let stream = connector
            .connect(name.clone(), stream)
            .await
            .map_err(|error| ExchangeError::new(ErrorKind::Tls, error))?;
        let negotiated = stream.get_ref().1.alpn_protocol();
        // A server without ALPN speaks HTTP/1.1.
        if negotiated.unwrap_or(Protocol::Http1.alpn()) != self.protocol.alpn() {
            let negotiated = negotiated.map(String::from_utf8_lossy);
            return Err(ExchangeError::new(ErrorKind::Tls, format!("ALPN chose {negotiated:?}")));
        }
        self.handshake(stream, local).await
    }

    async fn handshake<B, I>(
        &self,
        io: I,
        local: SocketAddr,
    ) -> Result<Connection<B>, ExchangeError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(io);
        let (sender, driver) = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                (Sender::Http1(sender), tokio::spawn(drive(connection)))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(HTTP2_WINDOW_BYTES)
                    .initial_connection_window_size(HTTP2_WINDOW_BYTES)
                    .handshake(io)
                    .await?;
                (Sender::Http2(sender), tokio::spawn(drive(connection)))
            }
        };
        Ok(Connection { sender, driver: Driver(driver), local })
    }

    /// Puts the target of a request into the form that the protocol sends: a path and `host` for
    /// HTTP/1.1, scheme and authority for HTTP/2. A `host` header already there is kept, and
    /// becomes the authority.
    pub fn address<B>(&self, request: &mut Request<B>) -> Result<(), ExchangeError> {
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = match self.protocol {
            Protocol::Http1 => {
                let headers = request.headers_mut();
                headers.entry(header::HOST).or_insert_with(|| self.host_header.clone());
                Uri::from(path)
            }
            Protocol::Http2 => {
                let host = request.headers_mut().remove(header::HOST);
                let authority = match host {
                    Some(host) => Authority::try_from(host.as_bytes()).map_err(|error| {
                        ExchangeError::new(ErrorKind::InvalidRequest, format!("host: {error}"))
                    })?,
                    None => self.authority.clone(),
                };
                *request.version_mut() = Version::HTTP_2;
                Uri::builder()
                    .scheme(self.scheme.clone())
                    .authority(authority)
                    .path_and_query(path)
                    .build()
                    .map_err(|error| ExchangeError::new(ErrorKind::InvalidRequest, error))?
            }
        };
        *request.uri_mut() = uri;
        Ok(())
    }
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// An open connection. Dropping it closes it, whatever is in flight.
#[derive(Debug)]
pub struct Connection<B> {
    sender: Sender<B>,
    driver: Driver,
    local: SocketAddr,
}

#[derive(Debug)]
enum Sender<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The address of this end, as the peer sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.driver.0.is_finished()
            || match &self.sender {
                Sender::Http1(sender) => sender.is_closed(),
                Sender::Http2(sender) => sender.is_closed(),
            }
    }

    /// Waits until a request can be sent, on HTTP/1.1 until the last exchange is over.
    pub async fn ready(&mut self) -> Result<(), ExchangeError> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await?,
            Sender::Http2(sender) => sender.ready().await?,
        }
        Ok(())
    }

    /// Sends a request prepared by [`Dialer::address`]. The request leaves when the future is
    /// first polled; on HTTP/2 several may be under way.
    pub fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, ExchangeError>> + Send + use<B> {
        // The two futures have different types and one poll each is all that is added.
        let sent: std::pin::Pin<Box<dyn Future<Output = hyper::Result<_>> + Send>> =
            match &mut self.sender {
                Sender::Http1(sender) => Box::pin(sender.send_request(request)),
                Sender::Http2(sender) => Box::pin(sender.send_request(request)),
            };
        async move { sent.await.map_err(ExchangeError::from) }
    }
}

/// The task that moves a connection's bytes; ends with the connection's handle.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        // Whoever waits for an answer gets the same error.
        log::debug!("connection: {error}");
    }
}
