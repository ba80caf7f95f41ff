//! Envoy's native `local_ratelimit` filter, as a decision over a bucket.
//!
//! The bucket refills continuously, as Envoy's does since 1.31: 10 tokens a second are one every
//! 100 ms, not ten at once. It is one a process (the caller shares it between workers), or one a
//! downstream connection. Both percentages default to zero, so a filter that sets neither
//! limits nothing: the commonest mistake in its configuration, kept on purpose.

use std::time::Duration;

use host_sim_bootstrap::{LocalRateLimit, TokenBucket};

use crate::UnixNanos;

/// Body and code details of a refusal.
pub const REFUSAL: &str = "local_rate_limited";

/// What is left in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BucketState {
    /// Tokens at the last refill and when it was; `None` = full.
    last: Option<(f64, UnixNanos)>,
}

/// What becomes of a request. Stats live under `<stat_prefix>.http_local_rate_limit.`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimitDecision {
    /// Not in the `filter_enabled` share: no stat, no header.
    Disabled,
    /// A token was there: `enabled`, `ok`.
    Allowed(Quota),
    /// None was, and nothing is enforced: `enabled`, `rate_limited`; the request goes on with
    /// `request_headers_to_add_when_not_enforced`.
    NotEnforced(Quota),
    /// Refused: `enabled`, `rate_limited`, `enforced`; local reply with [`REFUSAL`], flag RL.
    Refused(Quota),
}

/// The bucket's state after a decision, for response headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `max_tokens`.
    pub limit: u32,
    /// Whole tokens left.
    pub remaining: u32,
    /// Until there is a token again, in whole seconds; 0 while there is one.
    pub reset_seconds: u64,
}

impl RateLimitDecision {
    /// The bucket's state; absent without a bucket.
    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        match self {
            Self::Disabled => None,
            Self::Allowed(quota) | Self::NotEnforced(quota) | Self::Refused(quota) => Some(*quota),
        }
    }
}

impl Quota {
    /// `x-ratelimit-*` (draft 03), set on every response while enabled.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", self.remaining.to_string()),
            ("x-ratelimit-reset", self.reset_seconds.to_string()),
        ]
    }
}

/// Decides one request. `enabled` and `enforced` are uniform draws.
pub fn decide(
    config: &LocalRateLimit,
    bucket: &mut BucketState,
    now: UnixNanos,
    enabled: u64,
    enforced: u64,
) -> RateLimitDecision {
    let Some(rules) = config.token_bucket.filter(|_| config.filter_enabled.includes(enabled))
    else {
        return RateLimitDecision::Disabled;
    };
    let is_allowed = bucket.try_acquire(&rules, now);
    let quota = bucket.quota(&rules);
    match (is_allowed, config.filter_enforced.includes(enforced)) {
        (true, _) => RateLimitDecision::Allowed(quota),
        (false, false) => RateLimitDecision::NotEnforced(quota),
        (false, true) => RateLimitDecision::Refused(quota),
    }
}

impl BucketState {
    fn try_acquire(&mut self, rules: &TokenBucket, now: UnixNanos) -> bool {
        let max = f64::from(rules.max_tokens);
        let (tokens, at) = match self.last {
            None => (max, now),
            Some((tokens, last)) => {
                let filled = now.since(last).as_secs_f64() * fill_rate(rules);
                // A clock that steps back refills nothing until it is past its old reading again.
                ((tokens + filled).min(max), now.max(last))
            }
        };
        let is_allowed = tokens >= 1.0;
        self.last = Some((if is_allowed { tokens - 1.0 } else { tokens }, at));
        is_allowed
    }

    fn quota(&self, rules: &TokenBucket) -> Quota {
        let tokens = self.last.map_or(f64::from(rules.max_tokens), |(tokens, _)| tokens);
        let missing = (1.0 - tokens).max(0.0);
        let wait = Duration::try_from_secs_f64(missing / fill_rate(rules));
        let wait = wait.unwrap_or(Duration::MAX);
        Quota {
            limit: rules.max_tokens,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and max_tokens, which is a u32"
            )]
            remaining: tokens.max(0.0) as u32,
            reset_seconds: wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
        }
    }
}

/// Tokens a second.
fn fill_rate(rules: &TokenBucket) -> f64 {
    let interval = rules.fill_interval.as_secs_f64().max(f64::MIN_POSITIVE);
    f64::from(rules.tokens_per_fill) / interval
}

#[cfg(test)]
mod tests {
    use host_sim_bootstrap::FractionalPercent;

    use super::*;

    const ALL: FractionalPercent = FractionalPercent { numerator: 100, denominator: 100 };

    fn config(enabled: FractionalPercent, enforced: FractionalPercent) -> LocalRateLimit {
        LocalRateLimit {
            stat_prefix: "x".into(),
            token_bucket: Some(TokenBucket {
                max_tokens: 3,
                tokens_per_fill: 2,
                fill_interval: Duration::from_secs(10),
            }),
            filter_enabled: enabled,
            filter_enforced: enforced,
            status: 429,
            response_headers_to_add: Vec::new(),
            request_headers_to_add_when_not_enforced: Vec::new(),
            x_ratelimit_headers: false,
            retry_after_header: false,
            per_downstream_connection: false,
        }
    }

    fn at(millis: u64) -> UnixNanos {
        UnixNanos(1_700_000_000_000_000_000 + millis * 1_000_000)
    }

    /// Whether a request at each of these times passes.
    fn passes(times: &[u64]) -> Vec<bool> {
        let (config, mut bucket) = (config(ALL, ALL), BucketState::default());
        let mut decide = |millis| decide(&config, &mut bucket, at(millis), 0, 0);
        times.iter().map(|t| matches!(decide(*t), RateLimitDecision::Allowed(_))).collect()
    }

    #[test]
    fn a_full_bucket_serves_its_tokens_and_then_refuses() {
        assert_eq!(passes(&[0, 0, 0, 0]), [true, true, true, false]);
    }

    #[test]
    fn tokens_come_back_one_by_one_not_a_fill_at_once() {
        assert_eq!(passes(&[0, 0, 0, 4_999, 5_000, 5_001]), [true, true, true, false, true, false]);
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_maximum() {
        let hour = 3_600_000;
        let times = [0, hour, hour, hour, hour];
        assert_eq!(passes(&times), [true, true, true, true, false]);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        assert_eq!(passes(&[9_000, 9_000, 9_000, 0, 9_000]), [true, true, true, false, false]);
    }

    #[test]
    fn nothing_is_limited_unless_enabled_and_enforced() {
        let outcome = |enabled, enforced| {
            let (config, mut bucket) = (config(enabled, enforced), BucketState::default());
            (0..4).map(|_| decide(&config, &mut bucket, at(0), 0, 0)).last()
        };
        let zero = FractionalPercent::ZERO;
        assert_eq!(outcome(zero, ALL), Some(RateLimitDecision::Disabled));
        assert!(matches!(outcome(ALL, zero), Some(RateLimitDecision::NotEnforced(_))));
        assert!(matches!(outcome(ALL, ALL), Some(RateLimitDecision::Refused(_))));
    }

    #[test]
    fn draws_split_a_share() {
        let tenth = FractionalPercent { numerator: 10, denominator: 100 };
        let config = config(tenth, ALL);
        let enabled = (0..100).filter(|draw| {
            let mut bucket = BucketState::default();
            decide(&config, &mut bucket, at(0), *draw, 0) != RateLimitDecision::Disabled
        });
        assert_eq!(enabled.count(), 10);
    }

    #[test]
    fn the_quota_says_what_is_left_and_when_there_is_more() {
        let (config, mut bucket) = (config(ALL, ALL), BucketState::default());
        let mut quota = |millis| decide(&config, &mut bucket, at(millis), 0, 0).quota().unwrap();
        assert_eq!(quota(0), Quota { limit: 3, remaining: 2, reset_seconds: 0 });
        quota(0);
        assert_eq!(quota(0), Quota { limit: 3, remaining: 0, reset_seconds: 5 });
        assert_eq!(quota(100), Quota { limit: 3, remaining: 0, reset_seconds: 5 });
        assert_eq!(quota(4_200).headers()[2], ("x-ratelimit-reset", "1".to_owned()));
    }

    #[test]
    fn without_a_bucket_the_filter_does_nothing() {
        let config = LocalRateLimit { token_bucket: None, ..config(ALL, ALL) };
        let decision = decide(&config, &mut BucketState::default(), at(0), 0, 0);
        assert_eq!(decision, RateLimitDecision::Disabled);
    }
}
