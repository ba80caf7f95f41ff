//! Who asks.

use token_bucket_core::Attributes;

/// A request of one client, of a weight.
pub(crate) struct Client(pub(crate) u64, pub(crate) u32);

impl Attributes for Client {
    fn header(&self, name: &str) -> Option<String> {
        match name {
            "x-client" => Some(self.0.to_string()),
            "x-weight" => Some(self.1.to_string()),
            _ => None,
        }
    }
    fn path(&self) -> Option<String> {
        None
    }
    fn method(&self) -> Option<String> {
        None
    }
    fn source_address(&self) -> Option<String> {
        None
    }
    fn route(&self) -> Option<String> {
        None
    }
    fn cluster(&self) -> Option<String> {
        None
    }
}
