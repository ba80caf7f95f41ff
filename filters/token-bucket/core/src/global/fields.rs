//! The fleet's limits in `RateLimit-Policy` and `RateLimit`.
//!
//! A policy that asks a service has two limits, and a client has to keep both. The service's stands
//! as `"<policy>.global"`, in front if it leaves less than all of this proxy's own.

use super::FleetLimit;
use crate::Config;
use core::fmt::Write as _;
use core::time::Duration;

/// Adds the items of `limits` to the values of both headers. `least` is what this proxy's strictest
/// limit leaves.
pub fn ratelimit(
    own: Option<(String, String)>,
    least: Option<u32>,
    limits: &[(usize, FleetLimit)],
    config: &Config,
) -> Option<(String, String)> {
    let (mut policies, mut states) = own.unwrap_or_default();
    for (policy, limit) in limits {
        let Some(name) = config.policies.get(*policy).map(|policy| policy.name.as_str()) else {
            continue;
        };
        let Some(remaining) = limit.remaining else { continue };
        let first = least.is_none_or(|least| remaining <= least);
        if limit.requests > 0 && limit.window > 0 {
            let (quota, window) = (limit.requests, limit.window);
            put(&mut policies, first, format!("\"{name}.global\";q={quota};w={window}"));
        }
        let mut state = format!("\"{name}.global\";r={remaining}");
        if let Some(reset) = limit.reset {
            // Writing to a String cannot fail.
            let _ = write!(state, ";t={}", ceil_seconds(reset));
        }
        put(&mut states, first, state);
    }
    (!states.is_empty()).then_some((policies, states))
}

fn put(list: &mut String, first: bool, item: String) {
    if list.is_empty() {
        *list = item;
    } else if first {
        list.insert_str(0, ", ");
        list.insert_str(0, &item);
    } else {
        list.push_str(", ");
        list.push_str(&item);
    }
}

fn ceil_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    fn told(least: Option<u32>, remaining: Option<u32>, requests: u32) -> Option<(String, String)> {
        let config = config(
            r#"{"policies":[{"name":"p","token_bucket":{"max_tokens":5,"fill_interval":"1s"}}]}"#,
        );
        let reset = Some(Duration::from_millis(1_500));
        let limit = FleetLimit { requests, window: 60, remaining, reset };
        let own = least.map(|least| (r#""p";q=5;w=5"#.to_owned(), format!(r#""p";r={least};t=1"#)));
        ratelimit(own, least, &[(0, limit)], &config)
    }

    fn both(policies: &str, states: &str) -> Option<(String, String)> {
        Some((policies.to_owned(), states.to_owned()))
    }

    #[test]
    fn the_stricter_of_both_stands_first() {
        let (own, fleet) = (r#""p";q=5;w=5"#, r#""p.global";q=10;w=60"#);
        let stricter = both(&format!("{fleet}, {own}"), r#""p.global";r=3;t=2, "p";r=4;t=1"#);
        assert_eq!(told(Some(4), Some(3), 10), stricter);
        let milder = both(&format!("{own}, {fleet}"), r#""p";r=2;t=1, "p.global";r=3;t=2"#);
        assert_eq!(told(Some(2), Some(3), 10), milder);
    }

    #[test]
    fn what_the_service_did_not_say_is_left_out() {
        assert_eq!(told(None, None, 10), None);
        assert_eq!(told(None, Some(3), 0), both("", r#""p.global";r=3;t=2"#));
    }
}
