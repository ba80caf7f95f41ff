//! `request.*`

use super::{Scene, Segments, put_duration, put_header, put_int, put_map, put_text};
use crate::Headers;
use crate::stream::Role;
use host_sim_abi::Status;

impl Scene<'_> {
    pub(super) fn request(&self, path: &Segments<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
        let info = &self.stream.info;
        if path.leaf()? == b"headers" {
            return put_map(out, self.request_headers, path.second());
        }
        match path.only()? {
            b"time" => return put_int(out, info.start.0),
            // What is promised, where that can be seen; else what has come.
            b"size" => {
                let headers = self.request_headers.and_then(|h| h.get_str("content-length"));
                let promised = headers.and_then(|length| length.parse().ok());
                return put_int(out, promised.unwrap_or(info.request_bytes));
            }
            b"protocol" => {
                let Some(Role::Exchange(exchange)) = self.exchange.map(|stream| &stream.role)
                else {
                    return Err(Status::NotFound);
                };
                return put_text(out, exchange.downstream.protocol.as_str());
            }
            b"duration" => {
                let end = info.end.filter(|_| self.ended).ok_or(Status::NotFound)?;
                return put_duration(out, end.since(info.start));
            }
            b"total_size" => {
                let headers = self.request_headers.map_or(0, Headers::byte_size);
                return put_int(out, info.request_bytes + headers as u64);
            }
            _ => {}
        }
        let headers = self.request_headers.ok_or(Status::NotFound)?;
        let path_header = || headers.get_str(":path").ok_or(Status::NotFound);
        match path.only()? {
            b"path" => put_header(out, headers, ":path"),
            b"url_path" => put_text(out, path_header()?.split('?').next().unwrap_or_default()),
            b"query" => {
                put_text(out, path_header()?.split_once('?').map_or("", |(_, query)| query))
            }
            b"host" => put_header(out, headers, ":authority"),
            b"scheme" => put_header(out, headers, ":scheme"),
            b"method" => put_header(out, headers, ":method"),
            b"referer" => put_header(out, headers, "referer"),
            b"useragent" => put_header(out, headers, "user-agent"),
            b"id" => put_header(out, headers, "x-request-id"),
            _ => Err(Status::NotFound),
        }
    }
}
