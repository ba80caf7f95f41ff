//! Header transforms and matchers, used by routes and by the header-mutation filter.

use regex::Regex;

/// A compiled regular expression that compares by its source.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// For searching anywhere in a text (stats tags).
    pub fn search(source: &str) -> Result<Self, regex::Error> {
        Ok(Self { source: source.to_owned(), regex: Regex::new(source)? })
    }

    /// For matching a whole text (`safe_regex`).
    pub fn full(source: &str) -> Result<Self, regex::Error> {
        // The bare source is compiled first: `a)(b` must not become valid by wrapping.
        Regex::new(source)?;
        let regex = Regex::new(&format!("^(?:{source})$"))?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// As written in the file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The compiled expression.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Whether `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

/// `request_headers_to_add`, `_to_remove` and their response twins, of one route level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderTransforms {
    /// Added to the request on its way upstream.
    pub request_add: Vec<HeaderValueOption>,
    /// Removed from the request; lower case. Removal runs before addition, as in Envoy.
    pub request_remove: Vec<String>,
    /// Added to the response on its way downstream.
    pub response_add: Vec<HeaderValueOption>,
    /// Removed from the response; lower case.
    pub response_remove: Vec<String>,
}

/// `envoy.config.core.v3.HeaderValueOption`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValueOption {
    /// Header name, lower case.
    pub name: String,
    /// A format string: `%REQ(x)%` and its like are substituted.
    pub value: String,
    /// What to do when the header exists already.
    pub action: AppendAction,
    /// Add the header even when the value came out empty. Default false.
    pub keep_empty_value: bool,
}

/// `HeaderAppendAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendAction {
    /// Add another value (default).
    #[default]
    AppendIfExistsOrAdd,
    /// Only when absent.
    AddIfAbsent,
    /// Replace all values, or add.
    OverwriteIfExistsOrAdd,
    /// Replace all values; nothing when absent.
    OverwriteIfExists,
}

/// Configuration of `envoy.filters.http.header_mutation`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderMutations {
    /// Applied to request headers, in order.
    pub request: Vec<HeaderMutation>,
    /// Applied to response headers, in order.
    pub response: Vec<HeaderMutation>,
}

/// One step of a header mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMutation {
    /// Remove all values of a header; lower case.
    Remove(String),
    /// Add or overwrite.
    Append(HeaderValueOption),
}

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
