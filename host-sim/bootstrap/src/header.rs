//! Header transforms and matchers, used by routes and by the header-mutation filter.

use regex::Regex;

use crate::reader::{Message, Reader};

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

pub(crate) const HEADER_VALUE_OPTION: Message<HeaderValueOption> =
    Message { name: "envoy.config.core.v3.HeaderValueOption", read: header_value_option };

pub(crate) const HEADER_MUTATIONS: Message<HeaderMutations> = Message {
    name: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    read: |message| message.required("mutations", MUTATIONS),
};

pub(crate) const HEADER_MATCHER: Message<HeaderMatcher> =
    Message { name: "envoy.config.route.v3.HeaderMatcher", read: header_matcher };

pub(crate) const STRING_MATCHER: Message<HeaderMatch> =
    Message { name: "envoy.type.matcher.v3.StringMatcher", read: string_matcher };

pub(crate) const REGEX_MATCHER: Message<Pattern> =
    Message { name: "envoy.type.matcher.v3.RegexMatcher", read: regex_matcher };

const HEADER_VALUE: Message<(String, String)> =
    Message { name: "envoy.config.core.v3.HeaderValue", read: header_value };

const MUTATIONS: Message<HeaderMutations> =
    Message { name: "envoy.extensions.filters.http.header_mutation.v3.Mutations", read: mutations };

const MUTATION: Message<HeaderMutation> =
    Message { name: "envoy.config.common.mutation_rules.v3.HeaderMutation", read: mutation };

const GOOGLE_RE2: Message<()> =
    Message { name: "envoy.type.matcher.v3.RegexMatcher.GoogleRE2", read: |_| Some(()) };

const INT64_RANGE: Message<HeaderMatch> =
    Message { name: "envoy.type.v3.Int64Range", read: int64_range };

/// The four transform fields that route table, virtual host and route have in common.
pub(crate) fn transforms(message: &mut Reader<'_>) -> HeaderTransforms {
    HeaderTransforms {
        request_add: message.list("request_headers_to_add", HEADER_VALUE_OPTION),
        request_remove: removable(message, "request_headers_to_remove"),
        response_add: message.list("response_headers_to_add", HEADER_VALUE_OPTION),
        response_remove: removable(message, "response_headers_to_remove"),
    }
}

/// Envoy refuses to load a table that removes what routing itself needs.
fn removable(message: &mut Reader<'_>, field: &'static str) -> Vec<String> {
    let names = message.header_names(field);
    for name in names.iter().filter(|name| name.starts_with(':') || *name == "host") {
        message.problem_at(field, format!("'{name}' may not be removed"));
    }
    names
}

fn header_value_option(message: &mut Reader<'_>) -> Option<HeaderValueOption> {
    let actions = [
        ("APPEND_IF_EXISTS_OR_ADD", 0, Some(AppendAction::AppendIfExistsOrAdd)),
        ("ADD_IF_ABSENT", 1, Some(AppendAction::AddIfAbsent)),
        ("OVERWRITE_IF_EXISTS_OR_ADD", 2, Some(AppendAction::OverwriteIfExistsOrAdd)),
        ("OVERWRITE_IF_EXISTS", 3, Some(AppendAction::OverwriteIfExists)),
    ];
    let header = message.required("header", HEADER_VALUE);
    let action = message.choice("append_action", &actions);
    let append = message.optional_flag("append");
    if append.is_some() && message.has("append_action") {
        message.problem("only one of 'append', 'append_action' may be set");
    }
    let action = match append {
        Some(true) => Some(AppendAction::AppendIfExistsOrAdd),
        Some(false) => Some(AppendAction::OverwriteIfExistsOrAdd),
        None => action,
    };
    let keep_empty_value = message.flag("keep_empty_value", false);
    let (name, value) = header?;
    Some(HeaderValueOption { name, value, action: action?, keep_empty_value })
}

fn header_value(message: &mut Reader<'_>) -> Option<(String, String)> {
    let key = message.header_name("key");
    if !message.has("key") {
        message.problem("field 'key' is required");
    }
    let value = message.text("value");
    Some((key?, value))
}

fn mutations(message: &mut Reader<'_>) -> Option<HeaderMutations> {
    Some(HeaderMutations {
        request: message.list("request_mutations", MUTATION),
        response: message.list("response_mutations", MUTATION),
    })
}

fn mutation(message: &mut Reader<'_>) -> Option<HeaderMutation> {
    message.one_of(&["remove", "append", "remove_on_match"], true);
    let remove = message.header_name("remove").map(HeaderMutation::Remove);
    let append = message.message("append", HEADER_VALUE_OPTION).map(HeaderMutation::Append);
    remove.or(append)
}

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
