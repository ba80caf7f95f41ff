//! How a refusal is answered.

use super::{GrpcStatus, ReplyConfig};
use plugin_config::{Choice, Fields, Or};

/// Most headers that are added to a refusal, as many as in Envoy.
const MAX_HEADERS: usize = 10;

impl Choice for GrpcStatus {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("RESOURCE_EXHAUSTED", Self::ResourceExhausted), ("UNAVAILABLE", Self::Unavailable)];
}

pub(super) fn reply(fields: &mut Fields<'_>) -> ReplyConfig {
    let count = fields.count("response_headers_to_add");
    fields.require(
        "response_headers_to_add",
        count <= Some(MAX_HEADERS),
        "more than 10 headers: leave some out",
    );
    ReplyConfig {
        status: fields.integer("status", 400..=599, Or(429)),
        grpc_status: fields.choice("grpc_status", GrpcStatus::ResourceExhausted),
        body: fields.text("body", Or("rate limited")),
        problem_details: fields.flag("problem_details", false),
        headers: fields.each("response_headers_to_add", |_, mut fields| fields.header()),
        retry_after: fields.flag("retry_after", true),
        retry_after_jitter_percent: fields.integer("retry_after_jitter_percent", 0..=100, Or(10)),
    }
}
