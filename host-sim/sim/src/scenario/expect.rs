//! What must hold.

use super::step::{Address, ByAddress};
use super::tcp::{TcpExpect, TcpReceivedExpect};
use super::value::{Pattern, Quantity, parse_hex};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What must hold. A quantity is a number, or a comparison such as `">= 3"` or `"1..3"`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Of the requests that this step sent: how many got which status (0: reset before one).
    #[schemars(schema_with = "statuses_schema")]
    pub statuses: BTreeMap<u16, Quantity>,
    /// Headers that every response of this step has, as regular expressions.
    pub response_headers: BTreeMap<String, Pattern>,
    /// Headers that no response of this step has.
    pub no_response_headers: Vec<String>,
    /// What every reply of this step is like.
    pub reply: Option<ReplyExpect>,
    /// What the replies of this step are like, in the order of their requests.
    pub replies: Vec<ReplyExpect>,
    /// An `update` of this step is rejected with a reason that matches, and nothing changes. Without
    /// this, a rejection is a failure.
    pub update_rejected: Option<Pattern>,
    /// Requests of all steps so far that have no complete response.
    pub unfinished: Option<Quantity>,
    /// Requests that endpoints have received since the last time this was asked.
    #[schemars(with = "ByAddress<Quantity>")]
    pub received: BTreeMap<SocketAddr, Quantity>,
    /// The same for one path, such as that of the polls: `/healthz: {127.0.0.1:9001: 5}`.
    #[schemars(with = "BTreeMap<String, ByAddress<Quantity>>")]
    pub received_by_path: BTreeMap<String, BTreeMap<SocketAddr, Quantity>>,
    /// Requests that endpoints have received in this step, by what they were like.
    pub upstream: Vec<UpstreamExpect>,
    /// Headers that no request received by an endpoint has had.
    pub no_request_headers: Vec<String>,
    /// Connections that carry bytes, by the names they were opened with.
    pub tcp: BTreeMap<String, TcpExpect>,
    /// All connections that an endpoint has had, oldest first.
    #[schemars(with = "ByAddress<Vec<TcpReceivedExpect>>")]
    pub tcp_received: BTreeMap<SocketAddr, Vec<TcpReceivedExpect>>,
    /// Calls that plugins have made in this step.
    pub calls: Vec<CallExpect>,
    /// Sum of a metric: `name` or `name{label="value"}`. No such metric is 0.
    pub metrics: BTreeMap<String, Quantity>,
    /// A line of the application log matches.
    pub log: Vec<Pattern>,
    /// No line of the application log matches.
    pub no_log: Vec<Pattern>,
    /// Lines of the application log match in this order, others between them.
    pub log_order: Vec<Pattern>,
    /// How many lines of the application log match.
    pub log_count: BTreeMap<String, Quantity>,
    /// A line of an access log matches.
    pub access_log: Vec<Pattern>,
    /// No line of an access log matches.
    pub no_access_log: Vec<Pattern>,
    /// Keys of shared data, over all `vm_id`s of the scenario.
    pub shared_keys: Option<Quantity>,
    /// Shared data by `vm_id`.
    pub shared_data: BTreeMap<String, SharedExpect>,
    /// How often callbacks ran in this step.
    #[schemars(schema_with = "callbacks_schema")]
    pub callbacks: BTreeMap<String, Quantity>,
    /// Callbacks that ran in this step in this order, others between them: `name`, or
    /// `plugin: name` to mean one plugin's.
    #[schemars(schema_with = "order_schema")]
    pub callback_order: Vec<String>,
    /// How many hostcalls of a name were made in this step; `any` counts all.
    #[schemars(schema_with = "hostcalls_schema")]
    pub hostcalls: BTreeMap<String, Quantity>,
    /// Callbacks of this step that ended in a trap.
    pub traps: Option<Quantity>,
    /// Faults that have struck since they were armed.
    pub faults_struck: Option<Quantity>,
    /// Instructions that plugins executed in this step.
    pub fuel: Option<Quantity>,
    /// Instructions of the costliest single callback of this step.
    pub fuel_per_callback: Option<Quantity>,
    /// Linear memory of all plugins on all threads, in bytes.
    pub memory: Option<Quantity>,
    /// How much of it this step added, in bytes.
    pub memory_growth: Option<Quantity>,
}

/// What a reply is like.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyExpect {
    /// The `name` of an earlier `send`, whose replies are meant instead of this step's.
    pub of: Option<String>,
    /// Status; 0 if reset before there was one.
    pub status: Option<Quantity>,
    /// Headers, each with a value that fits.
    pub headers: BTreeMap<String, Text>,
    /// Headers that are not there.
    pub no_headers: Vec<String>,
    /// Body.
    pub body: Option<Text>,
    /// Trailers, each with a value that fits.
    pub trailers: BTreeMap<String, Text>,
    /// Trailers that are not there.
    pub no_trailers: Vec<String>,
    /// Whether the stream was reset instead of ended.
    pub reset: Option<bool>,
    /// Whether there is a complete response, or a reset.
    pub complete: Option<bool>,
    /// From request to the response's end, in milliseconds.
    pub milliseconds: Option<Quantity>,
}

/// Requests that endpoints received.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamExpect {
    /// Only at this endpoint.
    #[schemars(with = "Option<Address>")]
    pub endpoint: Option<SocketAddr>,
    /// Method.
    pub method: Option<Text>,
    /// Path with query.
    pub path: Option<Text>,
    /// Headers, each with a value that fits; pseudo headers are `:authority` and so on.
    pub headers: BTreeMap<String, Text>,
    /// Headers that are not there.
    pub no_headers: Vec<String>,
    /// Body.
    pub body: Option<Text>,
    /// Trailers, each with a value that fits.
    pub trailers: BTreeMap<String, Text>,
    /// How many requests are like that. Default at least one.
    pub count: Option<Quantity>,
}

/// HTTP and gRPC calls of plugins, as they were asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallExpect {
    /// Which hostcall. Default any of them.
    pub kind: Option<CallKind>,
    /// Only by this plugin.
    pub plugin: Option<String>,
    /// Cluster; of a gRPC call the bytes that name the service.
    pub cluster: Option<Text>,
    /// Headers, each with a value that fits; `:method`, `:path` and `:authority` are among them.
    pub headers: BTreeMap<String, Text>,
    /// Body, or the gRPC message.
    pub body: Option<Text>,
    /// gRPC service.
    pub service: Option<Text>,
    /// gRPC method.
    pub method: Option<Text>,
    /// Status the hostcall answered. Default any.
    #[schemars(schema_with = "status_schema")]
    pub answered: Option<String>,
    /// How many calls are like that. Default at least one.
    pub count: Option<Quantity>,
}

/// A hostcall that makes a call.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// `proxy_http_call`
    Http,
    /// `proxy_grpc_call`
    Grpc,
    /// `proxy_grpc_stream`
    GrpcStream,
}

/// Shared data of one `vm_id`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharedExpect {
    /// Number of keys.
    pub keys: Option<Quantity>,
    /// How many keys this step added.
    pub growth: Option<Quantity>,
    /// Values of keys.
    pub values: BTreeMap<String, Text>,
    /// Keys that are not there.
    pub absent: Vec<String>,
}

/// A text or bytes: the text itself, or one of the other ways to say what fits.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Text {
    /// Exactly this.
    Exact(String),
    /// What `TextSpec` says.
    Other(Box<TextSpec>),
}

/// Everything named here must fit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextSpec {
    /// Exactly this.
    pub exact: Option<String>,
    /// A match anywhere; `^` and `$` bind it to the ends.
    pub regex: Option<Pattern>,
    /// This is a part.
    pub contains: Option<String>,
    /// Exactly these bytes, in hexadecimal digits.
    #[schemars(schema_with = "hex_schema")]
    pub hex: Option<String>,
    /// A JSON document equal to this one.
    pub json: Option<Value>,
    /// Number of bytes.
    pub length: Option<Quantity>,
    /// This does not fit.
    pub not: Option<Text>,
}

impl Text {
    /// Why `actual` does not fit; nothing if it does.
    pub(crate) fn mismatch(&self, actual: &[u8]) -> Option<String> {
        let spec = match self {
            Self::Exact(wanted) => return differs(wanted.as_bytes(), actual),
            Self::Other(spec) => spec,
        };
        let text = String::from_utf8_lossy(actual);
        let shown = || crate::difference::quoted(actual);
        if let Some(wanted) = &spec.exact
            && let Some(why) = differs(wanted.as_bytes(), actual)
        {
            return Some(why);
        }
        if let Some(pattern) = spec.regex.as_ref().filter(|pattern| !pattern.0.is_match(&text)) {
            return Some(format!("expected {pattern}, got {}", shown()));
        }
        if let Some(part) = spec.contains.as_ref().filter(|part| !text.contains(part.as_str())) {
            return Some(format!("expected something with {part:?}, got {}", shown()));
        }
        if let Some(wanted) = spec.hex.as_ref().and_then(|hex| parse_hex(hex))
            && wanted != actual
        {
            return Some(crate::difference::of_bytes(&wanted, actual));
        }
        if let Some(wanted) = &spec.json {
            match serde_json::from_slice::<Value>(actual) {
                Ok(document) if document == *wanted => {}
                Ok(document) => return Some(format!("expected {wanted}, got {document}")),
                Err(error) => return Some(format!("expected JSON ({error}), got {}", shown())),
            }
        }
        if let Some(length) = spec.length.filter(|length| !length.holds(actual.len() as f64)) {
            return Some(format!("expected {length} bytes, got {}: {}", actual.len(), shown()));
        }
        if spec.not.as_ref().is_some_and(|not| not.mismatch(actual).is_none()) {
            return Some(format!("expected something else, got {}", shown()));
        }
        None
    }
}

fn differs(wanted: &[u8], actual: &[u8]) -> Option<String> {
    (wanted != actual).then(|| crate::difference::of_texts(wanted, actual))
}

/// Fields of a request or response as a comparison of lists wants them.
pub(crate) fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let own = fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
    own.map(|(_, value)| value.as_str()).collect()
}

fn statuses_schema(generator: &mut SchemaGenerator) -> Schema {
    let quantity = generator.subschema_for::<Quantity>();
    json_schema!({
        "type": "object",
        "propertyNames": {"format": "status-code"},
        "additionalProperties": quantity
    })
}

fn callbacks_schema(generator: &mut SchemaGenerator) -> Schema {
    let quantity = generator.subschema_for::<Quantity>();
    json_schema!({
        "type": "object",
        "propertyNames": {"format": "callback"},
        "additionalProperties": quantity
    })
}

fn hostcalls_schema(generator: &mut SchemaGenerator) -> Schema {
    let quantity = generator.subschema_for::<Quantity>();
    json_schema!({
        "type": "object",
        "propertyNames": {"format": "hostcall"},
        "additionalProperties": quantity
    })
}

fn order_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "format": "callback-of"}})
}

fn status_schema(_: &mut SchemaGenerator) -> Schema {
    let names = crate::fault::STATUSES.iter().map(|(name, _)| *name);
    json_schema!({"type": ["string", "null"], "enum": names.collect::<Vec<_>>()})
}

fn hex_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "hex"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mismatch(text: Value, actual: &[u8]) -> Option<String> {
        serde_json::from_value::<Text>(text).unwrap().mismatch(actual)
    }

    #[test]
    fn a_text_fits_in_every_way_that_is_named() {
        assert_eq!(mismatch(json!("a"), b"a"), None);
        assert_eq!(mismatch(json!({"regex": "^a+$", "length": ">= 2"}), b"aa"), None);
        assert_eq!(mismatch(json!({"contains": "b"}), b"abc"), None);
        assert_eq!(mismatch(json!({"hex": "00ff"}), &[0, 255]), None);
        assert_eq!(mismatch(json!({"json": {"a": [1, 2]}}), b"{ \"a\": [1,2] }"), None);
        assert_eq!(mismatch(json!({"not": {"contains": "b"}}), b"ac"), None);
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_was_expected() {
        let told = |text, actual: &[u8]| mismatch(text, actual).unwrap();
        assert!(told(json!("a"), b"b").contains("expected \"a\", got \"b\""));
        assert!(told(json!({"regex": "^a$"}), b"b").contains("expected /^a$/, got \"b\""));
        assert!(told(json!({"json": 1}), b"2").contains("expected 1, got 2"));
        assert!(told(json!({"json": 1}), b"{").contains("expected JSON"));
        assert!(told(json!({"length": 2}), b"abc").contains("got 3"));
        assert!(told(json!({"not": "b"}), b"b").contains("something else"));
    }
}
