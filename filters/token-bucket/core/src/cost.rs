//! What a request takes from a bucket, and how that is corrected when it is known.
//!
//! Not all requests are worth the same: a completion costs as many tokens as it has words, an upload
//! as much as it is long. What is known before the request goes on is its [`Cost`]; what only the
//! origin knows it tells in a response header, and [`Settle`] makes up the difference.

use crate::Attributes;

/// Tokens that a request takes when it is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The same for every request.
    Constant(u32),
    /// What a request header says, at least `min` and at most `max`.
    Header {
        /// Its name.
        name: String,
        /// For a request without it, or with something else than a whole number in it.
        default: u32,
        /// The least. It is not 0 unless so configured: who may write the header would pass free.
        min: u32,
        /// The most; never more than the bucket holds, or the request would never pass.
        max: u32,
    },
    /// By the length of the body.
    ContentLength {
        /// Classes: bodies up to so many bytes, in rising order, and what they cost.
        classes: Vec<(u64, u32)>,
        /// For longer bodies, and for those that do not say how long they are.
        above: u32,
    },
}

impl Cost {
    /// What this request costs.
    pub(crate) fn of(&self, request: &impl Attributes) -> u32 {
        match self {
            Self::Constant(cost) => *cost,
            Self::Header { name, default, min, max } => {
                let told = request.header(name).and_then(|value| whole(&value));
                told.map_or(*default, |cost| cost.clamp(*min, *max))
            }
            Self::ContentLength { classes, above } => {
                let length = request.content_length().unwrap_or(u64::MAX);
                let class = classes.iter().find(|(up_to, _)| length <= *up_to);
                class.map_or(*above, |(_, cost)| *cost)
            }
        }
    }
}

impl Cost {
    /// The least that any request costs.
    pub(crate) fn least(&self) -> u32 {
        match self {
            Self::Constant(cost) => *cost,
            Self::Header { default, min, .. } => *default.min(min),
            Self::ContentLength { classes, above } => {
                classes.iter().map(|(_, cost)| *cost).min().unwrap_or(*above).min(*above)
            }
        }
    }
}

/// How the cost is corrected by the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The response header that tells what the request did cost.
    pub response_header: String,
    /// The most that a bucket may owe, in tokens, when requests cost more than they were taken for.
    pub max_debt: u32,
}

/// A whole number. More digits than fit are the most there is: too much must not read as nothing.
pub fn whole(text: &str) -> Option<u32> {
    let digits = text.as_bytes().trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Request, policy};
    use proptest::prelude::*;

    fn cost(json: &str, request: &Request) -> u32 {
        let bucket = r#""token_bucket":{"max_tokens":100,"fill_interval":"1s"}"#;
        policy(&format!(r#"{{"name":"p","cost":{json},{bucket}}}"#)).cost.of(request)
    }

    #[test]
    fn a_request_costs_one_unless_something_else_is_said() {
        let plain = policy(r#"{"name":"p","gcra":{"rate":1}}"#).cost;
        assert_eq!(plain, Cost::Constant(1));
        assert_eq!(cost("7", &Request::default()), 7);
    }

    #[test]
    fn a_header_tells_the_cost_within_bounds() {
        let with = |value| Request::default().with("x-cost", value);
        let of = |value| cost(r#"{"header":"x-cost","default":3,"max":50}"#, &with(value));
        for (value, expected) in [
            ("5", 5),
            (" 5 ", 5),
            ("0", 1),
            ("50", 50),
            ("51", 50),
            ("99999999999999999999", 50),
            ("", 3),
            ("-1", 3),
            ("1.5", 3),
            ("a", 3),
            ("+5", 3),
        ] {
            assert_eq!(of(value), expected, "'{value}'");
        }
        assert_eq!(cost(r#"{"header":"x-cost"}"#, &Request::default()), 1);
        assert_eq!(cost(r#"{"header":"x-cost"}"#, &with("1000")), 100, "what the bucket holds");
        assert_eq!(cost(r#"{"header":"x-cost","min":0}"#, &with("0")), 0);
    }

    #[test]
    fn a_body_costs_by_its_class() {
        let classes =
            r#"{"content_length":[{"up_to":1024,"cost":1},{"up_to":65536,"cost":4}],"above":16}"#;
        let with = |value| Request::default().with("content-length", value);
        for (length, expected) in
            [("0", 1), ("1024", 1), ("1025", 4), ("65536", 4), ("65537", 16), ("x", 16)]
        {
            assert_eq!(cost(classes, &with(length)), expected, "{length}");
        }
        assert_eq!(cost(classes, &Request::default()), 1, "no body is the shortest one");
        assert_eq!(cost(classes, &Request::default().streaming()), 16, "nobody knows how long");
    }

    #[test]
    fn the_least_cost_is_that_of_no_request_less() {
        let bucket = r#""gcra":{"rate":100}"#;
        for (json, least) in [
            ("7", 7),
            (r#"{"header":"x-cost","default":3,"min":5}"#, 3),
            (r#"{"header":"x-cost","default":3,"min":0}"#, 0),
            (r#"{"content_length":[{"up_to":1,"cost":9},{"up_to":2,"cost":4}],"above":16}"#, 4),
            (r#"{"content_length":[],"above":16}"#, 16),
        ] {
            let cost = policy(&format!(r#"{{"name":"p","cost":{json},{bucket}}}"#)).cost;
            assert_eq!(cost.least(), least, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_a_number_or_none(text in ".{0,20}", number in any::<u32>()) {
            let _ = whole(&text);
            prop_assert_eq!(whole(&number.to_string()), Some(number));
        }
    }
}
