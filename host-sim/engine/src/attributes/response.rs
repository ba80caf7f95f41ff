//! `response.*`

use super::{StreamScene, duration, int};
use crate::Headers;
use crate::cel::Value;
use crate::stream::{Half, Role};

impl StreamScene<'_> {
    pub(super) fn response(&self, name: &str) -> Option<Value> {
        let info = self.told();
        let size = |headers: Option<&Headers>| headers.map_or(0, Headers::byte_size) as u64;
        let (headers, trailers) = (self.response_headers, self.response_trailers);
        match name {
            "code" => Some(int(info.code?.into())),
            "code_details" => match (&info.details, self.attempt_answer()) {
                // An attempt's filters are told before the client's exchange is.
                (None, Some(answer)) if answer.headers.is_some() => {
                    Some(Value::text("via_upstream"))
                }
                (details, _) => details.as_deref().map(Value::text),
            },
            "flags" => Some(int(info.flags.bits())),
            "size" => Some(int(info.response_bytes)),
            "headers_bytes" => Some(int(size(headers))),
            "total_size" => Some(int(info.response_bytes + size(headers) + size(trailers))),
            "headers" => Some(Value::Headers(headers.cloned())),
            "trailers" => Some(Value::Headers(trailers.cloned())),
            "grpc_status" => self.grpc_status().map(int),
            "backend_latency" => {
                let ended = || {
                    let answer = self.attempt_answer().filter(|answer| answer.observed_end);
                    answer.and(self.stream.info.upstream_last_rx)
                };
                let received = info.upstream_last_rx.or_else(ended)?;
                Some(duration(received.since(info.upstream_first_tx?)))
            }
            _ => None,
        }
    }

    /// What an attempt's filters have of the answer.
    fn attempt_answer(&self) -> Option<&Half> {
        matches!(self.stream.role, Role::Attempt(_)).then_some(&self.stream.response)
    }

    /// The trailers' or headers' own, or else what gRPC makes of the HTTP status.
    fn grpc_status(&self) -> Option<u64> {
        let maps = [self.response_trailers, self.response_headers];
        let said = maps.into_iter().flatten().find_map(|map| map.get_str("grpc-status"));
        said.and_then(|status| status.parse().ok()).or_else(|| {
            Some(match self.told().code? {
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
