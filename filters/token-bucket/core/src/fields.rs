//! Response headers: `RateLimit-Policy`, `RateLimit`, `Retry-After`.
//!
//! The first two are those of draft-ietf-httpapi-ratelimit-headers, structured fields (RFC 9651)
//! that list one item for each policy:
//!
//! ```text
//! ratelimit-policy: "per-client";q=60;w=1, "burst";q=100;w=1;burst=5
//! ratelimit: "per-client";r=12;t=1, "burst";r=4;t=1
//! ```
//!
//! A window there is whole seconds. `w` is the time in which an empty bucket fills, rounded up, and
//! `q` what is filled in it, so that `q/w` is the rate; where rounding made `q` larger than the
//! bucket, the parameter `burst` tells its size. `t` is the time until there is one token more than
//! `r`. That keeps the draft's rule that `Retry-After` must not point earlier than `t`.
//!
//! Older clients know `X-RateLimit-Limit`, `-Remaining` and `-Reset` (draft 03), which have room for
//! one policy: the one that leaves least.

mod merge;

use crate::{Config, Level, Limit, Policy, TellLimits, Verdict, whole};
use core::fmt::Write as _;
use core::time::Duration;
pub use merge::{Merge, merge};

/// What one policy says of a request that it has seen.
#[derive(Clone, Copy, Debug)]
pub struct Quota<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What its bucket holds now.
    pub level: Level,
}

/// `RateLimit-Policy`; in lower case, as HTTP/2 has it.
pub const RATELIMIT_POLICY: &str = "ratelimit-policy";

/// `RateLimit`.
pub const RATELIMIT: &str = "ratelimit";

/// `X-RateLimit-Remaining`.
pub const X_REMAINING: &str = "x-ratelimit-remaining";

/// What a response tells of the limits that had a say: names and values of headers.
pub fn told(config: &Config, verdict: &Verdict) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    let quotas = verdict.quotas(config);
    let tells = match config.ratelimit_headers {
        TellLimits::Always => true,
        TellLimits::Refused => verdict.refusal.is_some(),
        TellLimits::Never => false,
    };
    if tells {
        let least = quotas.iter().map(|quota| quota.level.remaining).min();
        let limits = &verdict.fleet.limits;
        let both = crate::global::ratelimit(ratelimit(&quotas), least, limits, config);
        if let Some((policies, limits)) = both {
            told.push((RATELIMIT_POLICY, policies));
            told.push((RATELIMIT, limits));
        }
    }
    let strictest = quotas.iter().min_by_key(|quota| quota.level.remaining);
    if config.x_ratelimit_headers
        && let Some(Quota { policy, level }) = strictest
    {
        told.push(("x-ratelimit-limit", policy.most_at_once.to_string()));
        told.push((X_REMAINING, level.remaining.to_string()));
        told.push(("x-ratelimit-reset", ceil_seconds(level.next_token).to_string()));
    }
    told
}

/// Whether our `X-RateLimit` headers take the place of an origin's, of which this is the remaining
/// part: only if that is a number, and ours a smaller one.
pub fn is_stricter(ours: &str, origin: &str) -> bool {
    matches!((whole(ours), whole(origin)), (Some(ours), Some(theirs)) if ours < theirs)
}

/// Values of `RateLimit-Policy` and `RateLimit`, the policy that leaves least first. `None` if
/// there is none to name.
pub fn ratelimit(quotas: &[Quota<'_>]) -> Option<(String, String)> {
    let mut sorted: Vec<&Quota<'_>> = Vec::with_capacity(quotas.len());
    for quota in quotas {
        let remaining = quota.level.remaining;
        let at = sorted.partition_point(|other| other.level.remaining <= remaining);
        sorted.insert(at, quota);
    }
    let (mut policies, mut limits) = (String::new(), String::new());
    for Quota { policy, level } in sorted {
        for list in [&mut policies, &mut limits] {
            if !list.is_empty() {
                list.push_str(", ");
            }
        }
        policies.push_str(&policy.declaration);
        // Writing to a String cannot fail.
        let _ = write!(limits, "\"{}\";r={}", policy.name, level.remaining);
        // When a request in flight will end is nobody's to say.
        if !matches!(policy.limit, Limit::Concurrency(_)) {
            let _ = write!(limits, ";t={}", ceil_seconds(level.next_token));
        }
    }
    (!limits.is_empty()).then_some((policies, limits))
}

/// A policy's item in `RateLimit-Policy`, from the figures as configured.
pub(crate) fn declaration(name: &str, max: u32, per_fill: u32, fill_interval: Duration) -> String {
    // Beyond 2^53 ns the window may be a second longer than it takes, and the quota with it.
    let (all, second) =
        (f64::from(max) * fill_interval.as_nanos() as f64, f64::from(per_fill) * 1e9);
    let window = (all / second).ceil().max(1.0);
    let filled = (window * second / fill_interval.as_nanos().max(1) as f64) as u64;
    let (window, max) = (window as u64, u64::from(max));
    // Structured fields have integers of at most fifteen digits.
    let quota = filled.clamp(max, 999_999_999_999_999);
    let burst = if quota == max { String::new() } else { format!(";burst={max}") };
    format!("\"{name}\";q={quota};w={window}{burst}")
}

/// Value of `Retry-After`: the wait in whole seconds, and up to `jitter_percent` of it or a second
/// more, by `draw`, so that clients refused together do not come back together.
pub fn retry_after(wait: Duration, jitter_percent: u8, draw: u64) -> String {
    let seconds = ceil_seconds(wait).max(1);
    let spread = match jitter_percent {
        0 => 0,
        percent => (seconds.saturating_mul(u64::from(percent)) / 100).max(1),
    };
    let drawn = draw.checked_rem(spread.saturating_add(1)).unwrap_or(0);
    seconds.saturating_add(drawn).to_string()
}

fn ceil_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::policy;
    use proptest::prelude::*;

    fn bucket(max: u32, fill: u32, interval: &str) -> Policy {
        policy(&format!(
            r#"{{"name":"p","token_bucket":{{"max_tokens":{max},"tokens_per_fill":{fill},
                "fill_interval":"{interval}"}}}}"#
        ))
    }

    fn declared(max: u32, fill: u32, interval: &str) -> String {
        let policy = bucket(max, fill, interval);
        let level = Level { remaining: 1, next_token: Duration::ZERO };
        ratelimit(&[Quota { policy: &policy, level }]).unwrap().0
    }

    #[test]
    fn a_window_is_the_time_in_which_the_bucket_fills() {
        assert_eq!(declared(60, 60, "1s"), r#""p";q=60;w=1"#);
        assert_eq!(declared(20, 10, "1s"), r#""p";q=20;w=2"#);
        assert_eq!(declared(1000, 1, "3600s"), r#""p";q=1000;w=3600000"#);
    }

    #[test]
    fn a_window_below_a_second_is_declared_for_a_whole_one() {
        assert_eq!(declared(5, 5, "0.05s"), r#""p";q=100;w=1;burst=5"#);
        assert_eq!(declared(15, 10, "1s"), r#""p";q=20;w=2;burst=15"#);
    }

    #[test]
    fn the_policy_that_leaves_least_stands_first() {
        let (one, two) = (bucket(60, 60, "1s"), bucket(5, 5, "5s"));
        let level =
            |remaining, millis| Level { remaining, next_token: Duration::from_millis(millis) };
        let (policies, limits) = ratelimit(&[
            Quota { policy: &one, level: level(7, 10) },
            Quota { policy: &two, level: level(2, 1_001) },
        ])
        .unwrap();
        assert_eq!(policies, r#""p";q=5;w=5, "p";q=60;w=1"#);
        assert_eq!(limits, r#""p";r=2;t=2, "p";r=7;t=1"#);
        assert_eq!(ratelimit(&[]), None);
    }

    #[test]
    fn the_older_headers_tell_of_the_strictest_policy_if_they_are_wanted() {
        let told = |more: &str| {
            let policies = r#"{"name":"a","gcra":{"rate":9}},{"name":"b","gcra":{"rate":5}}"#;
            let config = crate::testing::config(&format!(r#"{{"policies":[{policies}]{more}}}"#));
            let level = |remaining| Level { remaining, next_token: Duration::from_millis(1_500) };
            let levels = vec![(0, level(7)), (1, level(2))];
            told(&config, &Verdict { levels, ..Verdict::default() })
        };
        assert_eq!(told(""), [], "of one that passed");
        let names: Vec<_> =
            told(r#","ratelimit_headers":"always""#).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ratelimit-policy", "ratelimit"]);
        let both = told(r#","ratelimit_headers":"never","x_ratelimit_headers":true"#);
        let both: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let expected = [
            ("x-ratelimit-limit", "5"),
            ("x-ratelimit-remaining", "2"),
            ("x-ratelimit-reset", "2"),
        ];
        assert_eq!(both, expected);
    }

    #[test]
    fn an_origins_older_headers_stay_unless_ours_are_stricter() {
        for (ours, origin, takes) in
            [("4", "5", true), ("5", "5", false), ("6", "5", false), ("0", "many", false)]
        {
            assert_eq!(is_stricter(ours, origin), takes, "{ours} {origin}");
        }
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
        for (millis, told) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")] {
            assert_eq!(retry_after(Duration::from_millis(millis), 0, 99), told);
        }
    }

    #[test]
    fn jitter_spreads_over_a_share_of_the_wait_and_at_least_a_second() {
        let told = |secs, draw| retry_after(Duration::from_secs(secs), 10, draw);
        assert_eq!([told(1, 0), told(1, 1), told(1, 2)], ["1", "2", "1"]);
        assert_eq!([told(100, 10), told(100, 11)], ["110", "100"]);
    }

    proptest! {
        #[test]
        fn retry_after_never_points_before_the_token(
            wait in any::<u64>(), percent in any::<u8>(), draw in any::<u64>(),
        ) {
            let wait = Duration::from_nanos(wait);
            let told: u64 = retry_after(wait, percent, draw).parse().unwrap();
            prop_assert!(Duration::from_secs(told) >= wait && told >= ceil_seconds(wait));
        }
    }
}
