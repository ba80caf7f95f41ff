//! Carries requests: a bounded pool of HTTP/1.1 connections, or a ring of HTTP/2 connections.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;

use super::options::{ClientProfile, LoadOptions, Steer};
use super::schedule::Due;
use crate::connect::{Connection, Dialer, ErrorKind, ExchangeError, Protocol};
use crate::sync::lock;

type Conn = Connection<Full<Bytes>>;

/// What is kept of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) endpoint: Option<String>,
}

/// How a request gets its reply. The live one is [`HttpTransport`]; tests of the measuring bring
/// their own, on a clock that stands still.
pub(super) trait Transport: Send + Sync + 'static {
    fn exchange(&self, due: Due) -> impl Future<Output = Result<Reply, ExchangeError>> + Send;
}

/// Requests over sockets.
pub(super) struct HttpTransport {
    dialer: Dialer,
    /// One prepared request a client: addresses and headers are parsed once, not per request.
    templates: Vec<Template>,
    body: Bytes,
    steer: Option<Steer>,
    pool: Pool,
}

struct Template {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

enum Pool {
    /// Permits bound the connections; those not in use wait here, the last used on top.
    Http1 { permits: Semaphore, idle: Mutex<Vec<Conn>> },
    /// Each opened at its first use, and again after it broke.
    Http2 { ring: Vec<tokio::sync::Mutex<Option<Conn>>>, next: AtomicUsize },
}

impl HttpTransport {
    pub(super) fn new(options: &LoadOptions) -> Result<Self, ExchangeError> {
        let target: Uri = options.target.parse().map_err(|error| {
            ExchangeError::new(ErrorKind::InvalidRequest, format!("{}: {error}", options.target))
        })?;
        let dialer = Dialer::new(&target, options.protocol, options.tls.as_ref())?;
        let anonymous = [ClientProfile { weight: 1.0, headers: Vec::new(), path: None }];
        let clients = if options.clients.is_empty() { &anonymous } else { &options.clients[..] };
        let templates = clients
            .iter()
            .map(|client| Template::new(&dialer, &target, &options.method, client))
            .collect::<Result<_, _>>()?;
        let connections = options.connections.max(1);
        let pool = match options.protocol {
            Protocol::Http1 => {
                Pool::Http1 { permits: Semaphore::new(connections), idle: Mutex::default() }
            }
            Protocol::Http2 => Pool::Http2 {
                ring: (0..connections).map(|_| tokio::sync::Mutex::default()).collect(),
                next: AtomicUsize::new(0),
            },
        };
        Ok(Self {
            dialer,
            templates,
            body: options.body.clone(),
            steer: options.steer.clone(),
            pool,
        })
    }

    fn request(&self, due: Due) -> Result<Request<Full<Bytes>>, ExchangeError> {
        let template = self.templates.get(due.client).ok_or_else(|| {
            ExchangeError::new(ErrorKind::InvalidRequest, format!("no client {}", due.client))
        })?;
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = template.method.clone();
        *request.uri_mut() = template.uri.clone();
        *request.headers_mut() = template.headers.clone();
        if let Some(steer) = &self.steer {
            (steer.0)(due.number, request.headers_mut());
        }
        Ok(request)
    }

    async fn http1(
        &self,
        request: Request<Full<Bytes>>,
        permits: &Semaphore,
        idle: &Mutex<Vec<Conn>>,
    ) -> Result<Reply, ExchangeError> {
        // Never closed; were it, going on without the bound is the harmless answer.
        let _permit = permits.acquire().await.ok();
        let mut connection = self.idle_or_new(idle).await?;
        let reply = reply(connection.send(request)).await?;
        // A broken connection, or one dropped at a timeout, does not come back.
        lock(idle).push(connection);
        Ok(reply)
    }

    async fn idle_or_new(&self, idle: &Mutex<Vec<Conn>>) -> Result<Conn, ExchangeError> {
        loop {
            let Some(mut connection) = lock(idle).pop() else {
                return self.dialer.dial().await;
            };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
    }

    async fn http2(
        &self,
        request: Request<Full<Bytes>>,
        slot: &tokio::sync::Mutex<Option<Conn>>,
    ) -> Result<Reply, ExchangeError> {
        let response = {
            let mut slot = slot.lock().await;
            let connection = match slot.take().filter(|connection| !connection.is_closed()) {
                Some(connection) => slot.insert(connection),
                None => slot.insert(self.dialer.dial().await?),
            };
            connection.ready().await?;
            connection.send(request)
        };
        reply(response).await
    }
}

impl Transport for HttpTransport {
    async fn exchange(&self, due: Due) -> Result<Reply, ExchangeError> {
        let request = self.request(due)?;
        match &self.pool {
            Pool::Http1 { permits, idle } => self.http1(request, permits, idle).await,
            Pool::Http2 { ring, next } => {
                let turn = next.fetch_add(1, Ordering::Relaxed) % ring.len();
                self.http2(request, &ring[turn]).await
            }
        }
    }
}

impl Template {
    fn new(
        dialer: &Dialer,
        target: &Uri,
        method: &str,
        client: &ClientProfile,
    ) -> Result<Self, ExchangeError> {
        let invalid = |what: &str| {
            ExchangeError::new(ErrorKind::InvalidRequest, format!("{what:?} cannot be sent"))
        };
        let mut request = Request::new(());
        *request.method_mut() =
            Method::from_bytes(method.as_bytes()).map_err(|_| invalid(method))?;
        *request.uri_mut() = match &client.path {
            Some(path) => path.parse().map_err(|_| invalid(path))?,
            None => target.clone(),
        };
        for (name, value) in &client.headers {
            request.headers_mut().append(
                HeaderName::try_from(name).map_err(|_| invalid(name))?,
                HeaderValue::from_str(value).map_err(|_| invalid(value))?,
            );
        }
        dialer.address(&mut request)?;
        let (head, ()) = request.into_parts();
        Ok(Self { method: head.method, uri: head.uri, headers: head.headers })
    }
}

/// Reads a response to its end, which is when it counts as answered.
async fn reply(
    response: impl Future<Output = Result<http::Response<hyper::body::Incoming>, ExchangeError>>,
) -> Result<Reply, ExchangeError> {
    let (head, mut body) = response.await?.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let endpoint = head.headers.get("x-endpoint");
    let endpoint = endpoint.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    Ok(Reply { status: head.status.as_u16(), endpoint })
}
