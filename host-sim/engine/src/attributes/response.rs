//! `response.*`

use super::{Scene, Segments, put_duration, put_int, put_map, put_text};
use crate::Headers;
use host_sim_abi::Status;

impl Scene<'_> {
    pub(super) fn response(&self, path: &Segments<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
        let info = &self.stream.info;
        match path.leaf()? {
            b"headers" => return put_map(out, self.response_headers, path.second()),
            b"trailers" => return put_map(out, self.response_trailers, path.second()),
            _ => {}
        }
        match path.only()? {
            b"code" => put_int(out, info.code.ok_or(Status::NotFound)?.into()),
            b"code_details" => put_text(out, info.details.as_deref().ok_or(Status::NotFound)?),
            b"flags" => put_int(out, info.flags.bits()),
            b"size" => put_int(out, info.response_bytes),
            b"total_size" => {
                let maps = [self.response_headers, self.response_trailers];
                let maps: usize = maps.into_iter().flatten().map(Headers::byte_size).sum();
                put_int(out, info.response_bytes + maps as u64)
            }
            b"grpc_status" => put_int(out, self.grpc_status().ok_or(Status::NotFound)?),
            b"backend_latency" => {
                let (sent, received) = (info.upstream_first_tx, info.upstream_last_rx);
                let latency = received.zip(sent).ok_or(Status::NotFound)?;
                put_duration(out, latency.0.since(latency.1))
            }
            _ => Err(Status::NotFound),
        }
    }

    /// The trailers' or headers' own, or else what gRPC makes of the HTTP status.
    fn grpc_status(&self) -> Option<u64> {
        let maps = [self.response_trailers, self.response_headers];
        let said = maps.into_iter().flatten().find_map(|map| map.get_str("grpc-status"));
        said.and_then(|status| status.parse().ok()).or_else(|| {
            Some(match self.stream.info.code? {
                400 => 13,
                401 => 16,
                403 => 7,
                404 => 12,
                429 | 502 | 503 | 504 => 14,
                _ => 2,
            })
        })
    }
}
