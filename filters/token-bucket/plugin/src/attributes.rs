//! The request as the host knows it. Every value costs a hostcall, so what several policies may
//! ask for is asked once.

use core::cell::OnceCell;
use plugin_kit::headers::{self, Map};
use plugin_kit::property;
use token_bucket_core::Attributes;

/// Readable in `on_http_request_headers` only.
#[derive(Debug, Default)]
pub(crate) struct HostAttributes {
    target: OnceCell<Option<String>>,
    method: OnceCell<Option<String>>,
    source_address: OnceCell<Option<String>>,
}

impl Attributes for HostAttributes {
    fn header(&self, name: &str) -> Option<String> {
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
