//! What a policy limits by: exactly one kind of limit, what a request costs, how that is settled.

use crate::cost::{Cost, Settle};
use crate::fields::declaration;
use crate::{Gcra, Limit};
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Fields, Or, Required};

/// Shortest time of a token, in ns: a bucket gives at most a million tokens a second.
const MIN_TOKEN_NS: u128 = 1_000;

/// Times between fills. A token comes as soon as its time has passed and not with the fill, so the
/// interval is a way to write the rate, and any will do that the rate's own bound admits.
const FILL_INTERVALS: RangeInclusive<Duration> =
    Duration::from_micros(1)..=Duration::from_secs(86_400);

/// A limit, and what follows from its figures.
pub(super) struct Limited {
    pub(super) limit: Limit,
    /// Its item in `RateLimit-Policy`.
    pub(super) declaration: String,
    /// Requests that it admits at once.
    pub(super) most_at_once: u32,
    /// What one request can cost at most.
    pub(super) most: u32,
}

/// The one limit of a policy. `None` if there is none, or it is wrong.
pub(super) fn limit(fields: &mut Fields<'_>, policy: &str) -> Option<Limited> {
    type Kind = (&'static str, fn(Fields<'_>, &str) -> Option<Limited>);
    const KINDS: [Kind; 4] = [
        ("token_bucket", token_bucket),
        ("gcra", gcra),
        ("concurrency", concurrency),
        ("fair_share", fair_share),
    ];
    let (mut first, mut limited) = (None, None);
    for (name, read) in &KINDS {
        if !fields.has(name) {
            continue;
        }
        if let Some(first) = first {
            let message = format!("'{first}' and '{name}' are two limits: make it two policies");
            fields.problem(message);
        }
        first = first.or(Some(name));
        limited = read(fields.object(name), policy);
    }
    if first.is_none() {
        fields.problem(format!("nothing is limited: name one of {}", names(&KINDS)));
    }
    limited
}

fn names<T>(kinds: &[(&str, T)]) -> String {
    let mut names = String::new();
    for (name, _) in kinds {
        names.push_str(if names.is_empty() { "" } else { ", " });
        names.push_str(name);
    }
    names
}

/// In Envoy's words.
fn token_bucket(mut fields: Fields<'_>, policy: &str) -> Option<Limited> {
    let max_tokens = fields.integer("max_tokens", 1..=u32::MAX, Required);
    let most = if fields.is_clean() { max_tokens } else { u32::MAX };
    let tokens_per_fill = fields.integer("tokens_per_fill", 1..=most, Or(1));
    let fill_interval = fields.duration("fill_interval", FILL_INTERVALS, Required);
    bucket(
        &mut fields,
        policy,
        max_tokens,
        tokens_per_fill,
        fill_interval,
        "tokens_per_fill, or raise fill_interval",
    )
}

/// As other limiters say it: so many in so long, and how many at once.
fn gcra(mut fields: Fields<'_>, policy: &str) -> Option<Limited> {
    let rate = fields.integer("rate", 1..=u32::MAX, Required);
    let per = fields.duration("per", FILL_INTERVALS, Or(Duration::from_secs(1)));
    let burst = fields.integer("burst", 1..=u32::MAX, Or(rate));
    bucket(&mut fields, policy, burst, rate, per, "rate, or raise per")
}

/// A request in flight is one, whatever it costs.
fn concurrency(fields: Fields<'_>, policy: &str) -> Option<Limited> {
    let (limit, declaration) = super::concurrency::concurrency(fields, policy);
    Some(Limited {
        limit: Limit::Concurrency(limit),
        declaration,
        most_at_once: limit.max,
        most: 1,
    })
}

/// What others may have of a bucket is nothing that a header could tell.
fn fair_share(fields: Fields<'_>, _policy: &str) -> Option<Limited> {
    let limit = Limit::FairShare(super::fair_share::fair_share(fields));
    Some(Limited { limit, declaration: String::new(), most_at_once: u32::MAX, most: 1 })
}

fn bucket(
    fields: &mut Fields<'_>,
    policy: &str,
    max: u32,
    per_fill: u32,
    interval: Duration,
    lower: &str,
) -> Option<Limited> {
    if !fields.is_clean() {
        return None;
    }
    if interval.as_nanos() < MIN_TOKEN_NS * u128::from(per_fill) {
        fields.problem(format!(
            "more than 1000000 tokens a second: no bucket is asked as often; lower {lower}"
        ));
    }
    let bucket = Gcra::new(max, per_fill, interval);
    if bucket.is_none() {
        fields.problem(
            "filling this bucket takes longer than 146 years: fewer tokens or a higher rate",
        );
    }
    Some(Limited {
        limit: Limit::Bucket(bucket?),
        declaration: declaration(policy, max, per_fill, interval),
        most_at_once: max,
        most: max,
    })
}

/// What a request costs: a number, or an object that says where it is found.
pub(super) fn cost(fields: &mut Fields<'_>, most: u32) -> Cost {
    if !fields.is_object("cost") {
        return Cost::Constant(fields.integer("cost", 1..=most, Or(1)));
    }
    let mut fields = fields.object("cost");
    let (has_header, has_length) = (fields.has("header"), fields.has("content_length"));
    if fields.is_clean() && has_header == has_length {
        fields.problem("name one of 'header' and 'content_length'");
    }
    if !has_length {
        let max = fields.integer("max", 1..=most, Or(most));
        return Cost::Header {
            name: fields.header_name("header", Or("")),
            default: fields.integer("default", 0..=max, Or(1)),
            min: fields.integer("min", 0..=max, Or(1)),
            max,
        };
    }
    let mut least = 0_u64;
    let classes = fields.each("content_length", |_, mut fields| {
        let up_to = fields.integer("up_to", least..=1 << 53, Required);
        least = up_to.saturating_add(1);
        (up_to, fields.integer("cost", 0..=most, Required))
    });
    Cost::ContentLength { classes, above: fields.integer("above", 0..=most, Required) }
}

/// How the cost is corrected by the response.
pub(super) fn settle(fields: &mut Fields<'_>) -> Option<Settle> {
    if !fields.has("settle") {
        return None;
    }
    let mut fields = fields.object("settle");
    Some(Settle {
        response_header: fields.header_name("response_header", Required),
        max_debt: fields.integer("max_debt", 0..=u32::MAX, Or(0)),
    })
}
