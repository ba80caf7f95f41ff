//! How a refusal is answered.

use super::{GrpcStatus, ReplyConfig};
use plugin_config::{Choice, Fields, Or, Required};

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
        headers: fields.each("response_headers_to_add", |_, fields| header(fields)),
        retry_after: fields.flag("retry_after", true),
        retry_after_jitter_percent: fields.integer("retry_after_jitter_percent", 0..=100, Or(10)),
    }
}

fn header(mut fields: Fields<'_>) -> (String, String) {
    let name = fields.header_name("name", Required);
    let value = fields.text("value", Required);
    let is_plain = value.bytes().all(|byte| byte >= b' ' && byte != 0x7f);
    fields.require("value", is_plain, "a header's value is one line: leave control characters out");
    (name, value)
}
