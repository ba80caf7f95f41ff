//! The request as the host knows it. Every value costs a hostcall, so what several policies may
//! ask for is asked once.

use core::cell::{OnceCell, RefCell};
use plugin_kit::Draws;
use plugin_kit::headers::{self, Map};
use plugin_kit::property;
use token_bucket_core::Attributes;

/// Readable in `on_http_request_headers` only.
#[derive(Debug)]
pub(crate) struct HostAttributes<'a> {
    has_body: bool,
    draws: &'a RefCell<Draws>,
    draw: OnceCell<u64>,
    target: OnceCell<Option<String>>,
    method: OnceCell<Option<String>>,
    source_address: OnceCell<Option<String>>,
}

impl<'a> HostAttributes<'a> {
    pub(crate) fn new(has_body: bool, draws: &'a RefCell<Draws>) -> Self {
        Self {
            has_body,
            draws,
            draw: OnceCell::new(),
            target: OnceCell::new(),
            method: OnceCell::new(),
            source_address: OnceCell::new(),
        }
    }
}

impl Attributes for HostAttributes<'_> {
    fn has_body(&self) -> bool {
        self.has_body
    }

    fn draw(&self) -> u64 {
        let draw = || self.draws.try_borrow_mut().map_or(0, |mut draws| draws.next_u64());
        *self.draw.get_or_init(draw)
    }

    fn header(&self, name: &str) -> Option<String> {
        // Envoy makes one line of this header's; where a host does not, the first is the client's own.
        if name == "x-forwarded-for" {
            return headers::joined(Map::Request, name);
        }
        headers::get(Map::Request, name)
    }

    fn target(&self) -> Option<String> {
        self.target.get_or_init(|| self.header(":path")).clone()
    }

    fn method(&self) -> Option<String> {
        self.method.get_or_init(|| self.header(":method")).clone()
    }

    fn source_address(&self) -> Option<String> {
        self.source_address.get_or_init(property::source_address).clone()
    }

    fn route(&self) -> Option<String> {
        property::route_name()
    }

    fn cluster(&self) -> Option<String> {
        property::cluster_name()
    }
}
