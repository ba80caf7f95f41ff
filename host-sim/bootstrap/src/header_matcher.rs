//! Header and string matchers, of routes and of retry policies.

use crate::Pattern;
use crate::reader::{Message, Reader};

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatcher {
    /// Header name, lower case; pseudo headers too.
    pub name: String,
    /// What its value must be. Several values of one header are joined with `,` first.
    pub value: HeaderMatch,
    /// The match must fail for the matcher to succeed.
    pub invert: bool,
    /// An absent header counts as an empty value.
    pub treat_missing_as_empty: bool,
}

/// What a header's value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderMatch {
    /// Present (true) or absent (false).
    Present(bool),
    /// Equal. The flag says `ignore_case`, here and below.
    Exact(String, bool),
    /// Starts with.
    Prefix(String, bool),
    /// Ends with.
    Suffix(String, bool),
    /// Contains.
    Contains(String, bool),
    /// The whole value matches.
    Regex(Pattern),
    /// A decimal integer in `start..end`.
    Range {
        /// Inclusive.
        start: i64,
        /// Exclusive.
        end: i64,
    },
}

impl HeaderMatcher {
    /// Whether it matches, given the header's values joined with `,`; `None` = absent.
    ///
    /// An absent header fails every matcher but [`HeaderMatch::Present`], inverted ones too: only
    /// `treat_missing_as_empty` lets it through to the comparison.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        if let HeaderMatch::Present(present) = self.value {
            return (value.is_some() == present) != self.invert;
        }
        match value.or(self.treat_missing_as_empty.then_some("")) {
            Some(value) => self.value.matches(value) != self.invert,
            None => false,
        }
    }
}

impl HeaderMatch {
    fn matches(&self, value: &str) -> bool {
        let fold = |text: &str, ignore_case: bool| {
            if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() }
        };
        match self {
            Self::Present(present) => *present,
            Self::Exact(text, ignore) => {
                if *ignore {
                    value.eq_ignore_ascii_case(text)
                } else {
                    value == text
                }
            }
            Self::Prefix(text, ignore) => fold(value, *ignore).starts_with(&fold(text, *ignore)),
            Self::Suffix(text, ignore) => fold(value, *ignore).ends_with(&fold(text, *ignore)),
            Self::Contains(text, ignore) => fold(value, *ignore).contains(&fold(text, *ignore)),
            Self::Regex(pattern) => pattern.is_match(value),
            Self::Range { start, end } => {
                value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number))
            }
        }
    }
}

pub(crate) const HEADER_MATCHER: Message<HeaderMatcher> =
    Message { name: "envoy.config.route.v3.HeaderMatcher", read: header_matcher };

pub(crate) const STRING_MATCHER: Message<HeaderMatch> =
    Message { name: "envoy.type.matcher.v3.StringMatcher", read: string_matcher };

pub(crate) const REGEX_MATCHER: Message<Pattern> =
    Message { name: "envoy.type.matcher.v3.RegexMatcher", read: regex_matcher };

const GOOGLE_RE2: Message<()> =
    Message { name: "envoy.type.matcher.v3.RegexMatcher.GoogleRE2", read: |_| Some(()) };

const INT64_RANGE: Message<HeaderMatch> =
    Message { name: "envoy.type.v3.Int64Range", read: int64_range };

fn header_matcher(message: &mut Reader<'_>) -> Option<HeaderMatcher> {
    let specifiers = [
        "string_match",
        "present_match",
        "range_match",
        "exact_match",
        "safe_regex_match",
        "prefix_match",
        "suffix_match",
        "contains_match",
    ];
    message.one_of(&specifiers, false);
    if !message.has("name") {
        message.problem("field 'name' is required");
    }
    let name = message.header_name("name");
    let string = message.message("string_match", STRING_MATCHER);
    let present = message.optional_flag("present_match").map(HeaderMatch::Present);
    let range = message.message("range_match", INT64_RANGE);
    let value = string.or(present).or(range).or(deprecated_match(message));
    Some(HeaderMatcher {
        name: name?,
        value: value.unwrap_or(HeaderMatch::Present(true)),
        invert: message.flag("invert_match", false),
        treat_missing_as_empty: message.flag("treat_missing_header_as_empty", false),
    })
}

/// Envoy 1.40 still loads these; `string_match` has replaced them.
fn deprecated_match(message: &mut Reader<'_>) -> Option<HeaderMatch> {
    let exact = message.optional_text("exact_match").map(|text| HeaderMatch::Exact(text, false));
    let prefix = message.optional_text("prefix_match").map(|text| HeaderMatch::Prefix(text, false));
    let suffix = message.optional_text("suffix_match").map(|text| HeaderMatch::Suffix(text, false));
    let contains = message.optional_text("contains_match");
    let contains = contains.map(|text| HeaderMatch::Contains(text, false));
    let regex = message.message("safe_regex_match", REGEX_MATCHER).map(HeaderMatch::Regex);
    exact.or(prefix).or(suffix).or(contains).or(regex)
}

fn string_matcher(message: &mut Reader<'_>) -> Option<HeaderMatch> {
    let patterns = ["exact", "prefix", "suffix", "contains", "safe_regex", "custom"];
    message.one_of(&patterns, true);
    let ignore_case = message.flag("ignore_case", false);
    let exact = message.optional_text("exact").map(|text| HeaderMatch::Exact(text, ignore_case));
    let prefix = message.optional_text("prefix").map(|text| HeaderMatch::Prefix(text, ignore_case));
    let suffix = message.optional_text("suffix").map(|text| HeaderMatch::Suffix(text, ignore_case));
    let contains = message.optional_text("contains");
    let contains = contains.map(|text| HeaderMatch::Contains(text, ignore_case));
    let regex = message.message("safe_regex", REGEX_MATCHER).map(HeaderMatch::Regex);
    exact.or(prefix).or(suffix).or(contains).or(regex)
}

fn regex_matcher(message: &mut Reader<'_>) -> Option<Pattern> {
    message.message("google_re2", GOOGLE_RE2);
    let source = message.required_text("regex")?;
    message.pattern("regex", Pattern::full(&source))
}

fn int64_range(message: &mut Reader<'_>) -> Option<HeaderMatch> {
    let (start, end) = (message.signed("start"), message.signed("end"));
    Some(HeaderMatch::Range { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(value: HeaderMatch, invert: bool, treat_missing_as_empty: bool) -> HeaderMatcher {
        HeaderMatcher { name: "x".into(), value, invert, treat_missing_as_empty }
    }

    #[test]
    fn an_absent_header_matches_only_what_asks_for_absence() {
        let exact = || HeaderMatch::Exact("a".into(), false);
        assert!(!matcher(exact(), false, false).matches(None));
        assert!(!matcher(exact(), true, false).matches(None), "not even inverted");
        assert!(matcher(exact(), true, true).matches(None), "unless missing counts as empty");
        assert!(matcher(HeaderMatch::Present(false), false, false).matches(None));
        assert!(matcher(HeaderMatch::Present(true), true, false).matches(None));
    }

    #[test]
    fn values_are_compared_as_asked() {
        let is = |value, text| matcher(value, false, false).matches(Some(text));
        assert!(is(HeaderMatch::Exact("Yes".into(), true), "yES"));
        assert!(!is(HeaderMatch::Exact("Yes".into(), false), "yes"));
        assert!(is(HeaderMatch::Prefix("A".into(), true), "abc"));
        assert!(is(HeaderMatch::Suffix("bc".into(), false), "abc"));
        assert!(is(HeaderMatch::Contains("B".into(), true), "abc"));
        assert!(is(HeaderMatch::Range { start: 1, end: 3 }, "2"));
        assert!(!is(HeaderMatch::Range { start: 1, end: 3 }, "3"));
        assert!(!is(HeaderMatch::Range { start: 1, end: 3 }, "two"));
    }
}
