//! What goes in and what comes out.

use bytes::Bytes;
use host_sim_engine::{Headers, TlsInfo};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Where a client is unless told otherwise.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) worker: Option<usize>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Chunks, each with the time since the one before.
    pub(crate) body: Vec<(Duration, Bytes)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) source: IpAddr,
    pub(crate) tls: Option<TlsInfo>,
    pub(crate) abort_after: Option<Duration>,
}

impl Request {
    /// A request without a body, on worker 0 unless told otherwise.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            worker: None,
            method: method.to_owned(),
            path: path.to_owned(),
            authority: "weir.test".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            source: CLIENT,
            tls: None,
            abort_after: None,
        }
    }

    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Chooses the worker whose connection carries it.
    pub fn on_worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Sets the authority, `weir.test` if nobody does.
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// Adds a chunk of body.
    pub fn chunk(self, chunk: impl Into<Bytes>) -> Self {
        self.chunk_after(Duration::ZERO, chunk)
    }

    /// Adds a chunk of body that comes that long after the one before.
    pub fn chunk_after(mut self, pause: Duration, chunk: impl Into<Bytes>) -> Self {
        self.body.push((pause, chunk.into()));
        self
    }

    /// Adds a trailer, sent when the body has been.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Sets the client's address.
    pub fn from_address(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = source.into();
        self
    }

    /// Sends it on a TLS connection of which this is known; the proxy terminates it.
    pub fn tls(mut self, tls: TlsInfo) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets the client go away if there is no complete response by then.
    pub fn abort_after(mut self, patience: Duration) -> Self {
        self.abort_after = Some(patience);
        self
    }

    pub(crate) fn head(&self) -> Headers {
        // In the order in which a plugin sees them of Envoy's HTTP/1.1.
        let pseudo = [
            (":authority", self.authority.as_str()),
            (":path", self.path.as_str()),
            (":method", self.method.as_str()),
            (":scheme", if self.tls.is_some() { "https" } else { "http" }),
        ];
        let others = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Headers::from_pairs(pseudo.into_iter().chain(others))
    }
}

/// Names a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) usize);

/// What the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status; 0 if the stream was reset before there was one.
    pub status: u16,
    /// Headers in order, pseudo headers left out.
    pub headers: Vec<(String, String)>,
    /// Body so far.
    pub body: Vec<u8>,
    /// Trailers in order.
    pub trailers: Vec<(String, String)>,
    /// True if the stream was reset instead of ended.
    pub reset: bool,
    /// From the request to the end of the response, in virtual time.
    pub latency: Duration,
}

impl Reply {
    /// No reply.
    pub(crate) const fn none() -> Self {
        Self {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            reset: false,
            latency: Duration::ZERO,
        }
    }

    /// The first value of a header or trailer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.headers.iter().chain(&self.trailers);
        all.into_iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A request as an endpoint received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When, since the simulation began.
    pub at: Duration,
    /// Path with query.
    pub path: String,
    /// Headers in order, pseudo headers included.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailers in order.
    pub trailers: Vec<(String, String)>,
}

pub(crate) fn text_pairs(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}
