//! Header transforms, of routes and of the header-mutation filter.

use crate::reader::{Message, Reader};

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

pub(crate) const HEADER_VALUE_OPTION: Message<HeaderValueOption> =
    Message { name: "envoy.config.core.v3.HeaderValueOption", read: header_value_option };

pub(crate) const HEADER_MUTATIONS: Message<HeaderMutations> = Message {
    name: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    read: |message| message.required("mutations", MUTATIONS),
};

const HEADER_VALUE: Message<(String, String)> =
    Message { name: "envoy.config.core.v3.HeaderValue", read: header_value };

const MUTATIONS: Message<HeaderMutations> =
    Message { name: "envoy.extensions.filters.http.header_mutation.v3.Mutations", read: mutations };

const MUTATION: Message<HeaderMutation> =
    Message { name: "envoy.config.common.mutation_rules.v3.HeaderMutation", read: mutation };

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
