//! `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`, the process-wide bucket.

use std::time::Duration;

use crate::HeaderValueOption;

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
