//! `request.*`

use super::{StreamScene, duration, header, int};
use crate::Headers;
use crate::cel::Value;
use crate::stream::Role;

impl StreamScene<'_> {
    pub(super) fn request(&self, name: &str) -> Option<Value> {
        let info = self.told();
        let headers = self.request_headers;
        let size = headers.map_or(0, Headers::byte_size) as u64;
        match name {
            "time" => return Some(Value::Timestamp(info.start.0.cast_signed())),
            "headers" => return Some(Value::Headers(headers.cloned())),
            "headers_bytes" => return Some(int(size)),
            "size" => {
                let told = headers.and_then(|headers| headers.get("content-length"));
                return match told {
                    Some(told) => {
                        std::str::from_utf8(told).ok()?.trim().parse().ok().map(Value::Int)
                    }
                    None => Some(int(info.request_bytes)),
                };
            }
            "total_size" => return Some(int(info.request_bytes + size)),
            "protocol" => {
                let Some(Role::Exchange(exchange)) = self.exchange.map(|stream| &stream.role)
                else {
                    return None;
                };
                return Some(Value::text(exchange.downstream.protocol.as_str()));
            }
            "duration" => {
                let end = info.end.filter(|_| self.ended)?;
                return Some(duration(end.since(info.start)));
            }
            _ => {}
        }
        let headers = headers?;
        let path = || headers.get_str(":path").unwrap_or_default();
        match name {
            "path" => header(headers, ":path"),
            "url_path" => Some(Value::text(path().split('?').next().unwrap_or_default())),
            "query" => {
                let query = path().split_once('?').map_or("", |(_, query)| query);
                Some(Value::text(query.split('#').next().unwrap_or_default()))
            }
            "host" => header(headers, ":authority"),
            "scheme" => header(headers, ":scheme"),
            "method" => header(headers, ":method"),
            "referer" => header(headers, "referer"),
            "useragent" => header(headers, "user-agent"),
            "id" => header(headers, "x-request-id"),
            _ => None,
        }
    }
}
