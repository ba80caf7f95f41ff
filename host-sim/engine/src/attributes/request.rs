//! `request.*`

use super::{Scene, Segments, put_duration, put_header, put_int, put_map, put_text};
use crate::stream::Role;
use host_sim_abi::Status;

impl Scene<'_> {
    pub(super) fn request(&self, path: &Segments<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
        let info = &self.stream.info;
        match path.leaf()? {
            b"time" => return put_int(out, info.start.0),
            b"size" => return put_int(out, info.request_bytes),
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
            _ => {}
        }
        let headers = self.request_headers.ok_or(Status::NotFound)?;
        let path_header = || headers.get_str(":path").ok_or(Status::NotFound);
        match path.leaf()? {
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
            b"headers" => put_map(out, headers, path.second()),
            b"total_size" => put_int(out, info.request_bytes + headers.byte_size() as u64),
            _ => Err(Status::NotFound),
        }
    }
}
