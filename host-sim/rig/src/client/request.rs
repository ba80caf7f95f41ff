//! Requests of the test client.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::{Body, Frame, SizeHint};

use crate::connect::{ErrorKind, ExchangeError};

/// A request to be sent. Mistakes in it come back as an error from sending.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: RequestBody,
}

impl Request {
    /// Any method, without headers or body.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        let (method, url) = (method.to_owned(), url.into());
        Self { method, url, headers: Vec::new(), body: RequestBody::default() }
    }

    /// `GET url`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// `POST url`, without a body until given one.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header; the same name may be added again. `host` sets the authority.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this body, with its length.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.with(RequestBody { chunks: VecDeque::from([body.into()]), ..RequestBody::default() })
    }

    /// Sends these pieces, without a length: chunked over HTTP/1.1, one frame each over HTTP/2.
    pub fn chunks<C: Into<Bytes>>(self, chunks: impl IntoIterator<Item = C>) -> Self {
        let chunks = chunks.into_iter().map(Into::into).collect();
        self.with(RequestBody { chunks, streamed: true, ..RequestBody::default() })
    }

    /// Sends trailers after the body.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.body.streamed = true;
        self.body.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Never ends the body, as a client that stalls in the middle of an upload.
    pub fn never_ending(mut self) -> Self {
        self.body.streamed = true;
        self.body.never_ends = true;
        self
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn with(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }

    pub(super) fn build(self) -> Result<http::Request<RequestBody>, ExchangeError> {
        let invalid = |what: &str, error: &dyn std::fmt::Display| {
            ExchangeError::new(ErrorKind::InvalidRequest, format!("{what}: {error}"))
        };
        // Trailers are turned into headers when they are due, where it is too late for an error.
        header_map(&self.body.trailers)?;
        let mut request = http::Request::new(self.body);
        *request.method_mut() =
            Method::from_bytes(self.method.as_bytes()).map_err(|e| invalid(&self.method, &e))?;
        *request.uri_mut() = self.url.parse().map_err(|e| invalid(&self.url, &e))?;
        *request.headers_mut() = header_map(&self.headers)?;
        Ok(request)
    }
}

fn header_map(fields: &[(String, String)]) -> Result<HeaderMap, ExchangeError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let invalid = || {
            let detail = format!("{name}: {value:?} is not a header that HTTP can carry");
            ExchangeError::new(ErrorKind::InvalidRequest, detail)
        };
        map.append(
            HeaderName::try_from(name).map_err(|_| invalid())?,
            HeaderValue::from_str(value).map_err(|_| invalid())?,
        );
    }
    Ok(map)
}

/// A body in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestBody {
    chunks: VecDeque<Bytes>,
    streamed: bool,
    never_ends: bool,
    trailers: Vec<(String, String)>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.never_ends {
            return Poll::Pending;
        }
        let trailers = std::mem::take(&mut self.trailers);
        if trailers.is_empty() {
            return Poll::Ready(None);
        }
        // Checked when the request was built.
        Poll::Ready(header_map(&trailers).ok().map(|map| Ok(Frame::trailers(map))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && !self.never_ends && self.trailers.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.streamed {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.chunks.iter().map(Bytes::len).sum::<usize>() as u64)
    }
}
