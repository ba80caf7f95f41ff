//! A small HTTP client for tests: one request, one look at everything that came back.
//!
//! Each request gets a connection of its own, so that nothing of one test leaks into another and
//! "the connection was closed" has one meaning. [`Client::connect`] keeps one for tests of reuse.
//! Redirects, cookies and decompression are left alone: a test sees what is on the wire.
//!
//! ```
//! use host_sim_rig::client::{Client, Request};
//! use host_sim_rig::connect::Protocol;
//! use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let endpoint = Endpoint::start(EndpointOptions::named("e1")).await?;
//! let client = Client::new().protocol(Protocol::Http2);
//! let request = Request::post(endpoint.url("/echo")).header("x-key", "a").body("hello");
//! let response = client.send(request).await?;
//! assert_eq!(response.json()?["body"], "hello");
//! # anyhow::Ok(())
//! # })?;
//! # anyhow::Ok(())
//! ```

mod request;
mod response;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::time::timeout;

pub use request::Request;
use request::RequestBody;
pub use response::Response;

use crate::connect::{Connection, Dialer, ErrorKind, ExchangeError, Protocol};

/// Longest wait for a complete response, unless set otherwise: a test that hangs should fail, and one
/// on a machine that is busy with others should not.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// How requests are sent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    protocol: Protocol,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// HTTP/1.1, no certificate trusted, a minute for a response.
    pub fn new() -> Self {
        Self { protocol: Protocol::Http1, tls: None, timeout: DEFAULT_TIMEOUT }
    }

    /// Trusts what this configuration trusts, for `https` URLs.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Speaks this protocol.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Waits this long for a complete response.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `GET url`.
    pub async fn get(&self, url: &str) -> Result<Response, ExchangeError> {
        self.send(Request::get(url)).await
    }

    /// Sends a request on a connection of its own and reads the whole response.
    pub async fn send(&self, request: Request) -> Result<Response, ExchangeError> {
        let exchange = async { self.start(request).await?.response().await };
        self.bounded(Box::pin(exchange)).await
    }

    /// Sends a request and returns before the response, to abort it at a chosen point.
    pub async fn start(&self, request: Request) -> Result<Exchange, ExchangeError> {
        let mut session = self.bounded(self.connect(request.url())).await?;
        let sent = session.dispatch(request)?;
        // Spawned: the request leaves now, not when somebody asks for the response.
        Ok(Exchange { head: tokio::spawn(sent), session })
    }

    /// Opens a connection to the origin of `url` and keeps it for several requests.
    pub async fn connect(&self, url: &str) -> Result<Session, ExchangeError> {
        let url = url.parse().map_err(|error| {
            ExchangeError::new(ErrorKind::InvalidRequest, format!("{url}: {error}"))
        })?;
        let dialer = Dialer::new(&url, self.protocol, self.tls.as_ref())?;
        // Boxed: the handshakes are large, and by value they would double at every layer above.
        let connection = Box::pin(dialer.dial()).await?;
        Ok(Session { dialer, connection, timeout: self.timeout })
    }

    async fn bounded<T>(
        &self,
        exchange: impl Future<Output = Result<T, ExchangeError>>,
    ) -> Result<T, ExchangeError> {
        within(self.timeout, exchange).await
    }
}

/// An open connection for several requests, one after the other.
#[derive(Debug)]
pub struct Session {
    dialer: Dialer,
    connection: Connection<RequestBody>,
    timeout: Duration,
}

impl Session {
    /// The address of this end, as the peer sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.connection.local_address()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Sends a request on this connection, whatever origin its URL names, and reads the response.
    pub async fn send(&mut self, request: Request) -> Result<Response, ExchangeError> {
        let timeout = self.timeout;
        let exchange = async {
            self.connection.ready().await?;
            Response::read(self.dispatch(request)?.await?).await
        };
        within(timeout, Box::pin(exchange)).await
    }

    fn dispatch(
        &mut self,
        request: Request,
    ) -> Result<
        impl Future<Output = Result<http::Response<Incoming>, ExchangeError>> + Send + use<>,
        ExchangeError,
    > {
        let mut request = request.build()?;
        self.dialer.address(&mut request)?;
        Ok(self.connection.send(request))
    }
}

/// A request that is under way. Dropping it aborts it: an HTTP/1.1 connection closes, an HTTP/2
/// connection, which carries nothing else, too.
#[derive(Debug)]
pub struct Exchange {
    head: tokio::task::JoinHandle<Result<http::Response<Incoming>, ExchangeError>>,
    session: Session,
}

impl Exchange {
    /// The address of this end, as the peer sees it.
    pub fn local_address(&self) -> SocketAddr {
        self.session.local_address()
    }

    /// Reads the whole response.
    pub async fn response(mut self) -> Result<Response, ExchangeError> {
        Response::read(self.wait_for_head().await?).await
    }

    /// Waits for the response's headers and for the first bytes of its body, then aborts.
    /// Returns the status.
    pub async fn abort_in_body(mut self) -> Result<u16, ExchangeError> {
        let mut response = self.wait_for_head().await?;
        if let Some(frame) = response.body_mut().frame().await {
            frame?;
        }
        Ok(response.status().as_u16())
    }

    /// Aborts now.
    pub fn abort(self) {
        self.head.abort();
    }

    async fn wait_for_head(&mut self) -> Result<http::Response<Incoming>, ExchangeError> {
        (&mut self.head).await.map_err(|error| ExchangeError::new(ErrorKind::Reset, error))?
    }
}

async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    timeout(limit, exchange).await.unwrap_or_else(|_| {
        Err(ExchangeError::new(ErrorKind::Timeout, format!("no response within {limit:?}")))
    })
}
