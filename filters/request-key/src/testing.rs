//! A request for tests.

use crate::Attributes;
use std::collections::BTreeMap;

/// A request made of values.
#[derive(Clone, Debug)]
pub struct Request {
    headers: BTreeMap<String, String>,
    source: Option<String>,
    streaming: bool,
    draw: u64,
}

impl Default for Request {
    fn default() -> Self {
        let headers = [(":method", "GET"), (":path", "/"), (":authority", "example.com")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { headers, source: Some("10.0.0.1:40000".to_owned()), streaming: false, draw: 0 }
    }
}

impl Request {
    /// With this header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// From this address.
    pub fn source(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    /// With a body of unknown length.
    pub fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }

    /// With this number drawn for it.
    pub fn draw(mut self, draw: u64) -> Self {
        self.draw = draw;
        self
    }
}

impl Attributes for Request {
    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    fn method(&self) -> Option<String> {
        self.header(":method")
    }

    fn has_body(&self) -> bool {
        self.streaming || self.headers.contains_key("content-length")
    }

    fn draw(&self) -> u64 {
        self.draw
    }

    fn source_address(&self) -> Option<String> {
        self.source.clone()
    }

    fn route(&self) -> Option<String> {
        Some("route".to_owned())
    }

    fn cluster(&self) -> Option<String> {
        Some("backend".to_owned())
    }
}
