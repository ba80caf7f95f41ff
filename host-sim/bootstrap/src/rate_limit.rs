//! `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`, the process-wide bucket.

use std::time::Duration;

use crate::HeaderValueOption;
use crate::header::HEADER_VALUE_OPTION;
use crate::reader::{Message, Reader};

/// Envoy's native local rate limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalRateLimit {
    /// Prefix of its stats: `<stat_prefix>.http_local_rate_limit.`.
    pub stat_prefix: String,
    /// Absent: the filter does nothing.
    pub token_bucket: Option<TokenBucket>,
    /// Which share of requests asks the bucket. Default 0 %: as in Envoy, nothing is limited.
    pub filter_enabled: FractionalPercent,
    /// Which share of refusals is enforced. Default 0 %.
    pub filter_enforced: FractionalPercent,
    /// Status of a refusal; below 400 Envoy falls back to 429. Default 429.
    pub status: u16,
    /// Added to refusals.
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// Added to requests that would have been refused, were the refusal enforced.
    pub request_headers_to_add_when_not_enforced: Vec<HeaderValueOption>,
    /// `enable_x_ratelimit_headers: DRAFT_VERSION_03`. Default off.
    pub x_ratelimit_headers: bool,
    /// `enable_retry_after_header`: refusals say `retry-after`. Default false.
    pub retry_after_header: bool,
    /// One bucket a downstream connection instead of one a process. Default false.
    pub per_downstream_connection: bool,
}

/// `envoy.type.v3.TokenBucket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Tokens a full bucket holds; at least 1.
    pub max_tokens: u32,
    /// Tokens added a fill; at least 1. Default 1.
    pub tokens_per_fill: u32,
    /// Time between fills; at least 50 ms.
    pub fill_interval: Duration,
}

/// `RuntimeFractionalPercent`: only its default value counts, host-sim has no runtime layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FractionalPercent {
    /// Out of `denominator`.
    pub numerator: u32,
    /// 100, 10 000 or 1 000 000.
    pub denominator: u32,
}

impl FractionalPercent {
    /// 0 %.
    pub const ZERO: Self = Self { numerator: 0, denominator: 100 };

    /// Whether `draw` falls into the share; `draw` is any uniform integer.
    pub fn includes(&self, draw: u64) -> bool {
        draw % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

pub(crate) const LOCAL_RATE_LIMIT: Message<LocalRateLimit> = Message {
    name: "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    read: local_rate_limit,
};

const TOKEN_BUCKET: Message<TokenBucket> =
    Message { name: "envoy.type.v3.TokenBucket", read: token_bucket };

const RUNTIME_FRACTION: Message<FractionalPercent> =
    Message { name: "envoy.config.core.v3.RuntimeFractionalPercent", read: runtime_fraction };

const FRACTION: Message<FractionalPercent> =
    Message { name: "envoy.type.v3.FractionalPercent", read: fraction };

const HTTP_STATUS: Message<u16> = Message {
    name: "envoy.type.v3.HttpStatus",
    read: |message| message.choice("code", crate::status_code::CHOICES),
};

/// Envoy's own fallback, also for a configured status that says no error.
const TOO_MANY_REQUESTS: u16 = 429;

fn local_rate_limit(message: &mut Reader<'_>) -> Option<LocalRateLimit> {
    // Of effect only with descriptors, which are not simulated.
    message.accept(&["always_consume_default_token_bucket", "max_dynamic_descriptors"]);
    let stat_prefix = message.required_text("stat_prefix");
    let status = message.message("status", HTTP_STATUS).unwrap_or(TOO_MANY_REQUESTS);
    let bucket_is_set = message.has("token_bucket");
    let token_bucket = message.message("token_bucket", TOKEN_BUCKET);
    let enabled = message.message("filter_enabled", RUNTIME_FRACTION);
    let enforced = message.message("filter_enforced", RUNTIME_FRACTION);
    let to_request = "request_headers_to_add_when_not_enforced";
    let limit = LocalRateLimit {
        filter_enabled: enabled.unwrap_or(FractionalPercent::ZERO),
        filter_enforced: enforced.unwrap_or(FractionalPercent::ZERO),
        status: if status < 400 { TOO_MANY_REQUESTS } else { status },
        response_headers_to_add: message.list("response_headers_to_add", HEADER_VALUE_OPTION),
        request_headers_to_add_when_not_enforced: message.list(to_request, HEADER_VALUE_OPTION),
        x_ratelimit_headers: message
            .choice(
                "enable_x_ratelimit_headers",
                &[("OFF", 0, Some(false)), ("DRAFT_VERSION_03", 1, Some(true))],
            )
            .unwrap_or(false),
        retry_after_header: message.flag("enable_retry_after_header", false),
        per_downstream_connection: message
            .flag("local_rate_limit_per_downstream_connection", false),
        token_bucket,
        stat_prefix: stat_prefix?,
    };
    (limit.token_bucket.is_some() || !bucket_is_set).then_some(limit)
}

fn token_bucket(message: &mut Reader<'_>) -> Option<TokenBucket> {
    const LEAST_INTERVAL: Duration = Duration::from_millis(50);
    let max_tokens = message.integer("max_tokens", 1..=u32::MAX);
    let tokens_per_fill = message.integer("tokens_per_fill", 1..=u32::MAX).unwrap_or(1);
    let fill_interval = message.positive_duration("fill_interval");
    for field in ["max_tokens", "fill_interval"] {
        if !message.has(field) {
            message.problem(format!("field '{field}' is required"));
        }
    }
    if fill_interval.is_some_and(|interval| interval < LEAST_INTERVAL) {
        message.problem_at("fill_interval", "must be at least 0.05s");
    }
    Some(TokenBucket { max_tokens: max_tokens?, tokens_per_fill, fill_interval: fill_interval? })
}

fn runtime_fraction(message: &mut Reader<'_>) -> Option<FractionalPercent> {
    // host-sim has no runtime layers: the key finds nothing, the default holds.
    message.accept(&["runtime_key"]);
    message.required("default_value", FRACTION)
}

fn fraction(message: &mut Reader<'_>) -> Option<FractionalPercent> {
    let denominators = [
        ("HUNDRED", 0, Some(100)),
        ("TEN_THOUSAND", 1, Some(10_000)),
        ("MILLION", 2, Some(1_000_000)),
    ];
    let numerator = message.integer("numerator", 0..=u32::MAX).unwrap_or(0);
    let denominator = message.choice("denominator", &denominators)?;
    Some(FractionalPercent { numerator, denominator })
}
