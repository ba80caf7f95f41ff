//! Responses as the test client saw them.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::connect::ExchangeError;

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// HTTP version.
    pub version: Version,
    /// Headers in the order of first appearance of each name; names are lower-case, several
    /// values of one name follow each other.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Trailers, in the same order as headers.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The first value of this header (lower-case name).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }

    pub(super) async fn read(response: http::Response<Incoming>) -> Result<Self, ExchangeError> {
        let (head, mut incoming) = response.into_parts();
        let (mut body, mut trailers) = (BytesMut::new(), HeaderMap::new());
        while let Some(frame) = incoming.frame().await {
            match frame?.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        Ok(Self {
            status: head.status.as_u16(),
            version: head.version,
            headers: in_order(&head.headers),
            body: body.freeze(),
            trailers: in_order(&trailers),
        })
    }
}

fn in_order(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}
