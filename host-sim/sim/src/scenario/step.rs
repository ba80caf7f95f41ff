//! A step: something to do, then something to look at.

use super::endpoint::EndpointSpec;
use super::expect::Expect;
use super::fault::FaultSpec;
use super::tcp::{TcpAction, TcpEndpointSpec};
use super::tls::TlsSpec;
use super::value::{Body, Content, Fields, SignedSpan, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;

/// Something to do, then something to look at. In this order, whatever the file's: `endpoints`,
/// `tcp_endpoints`, `step_clock`, `set_shared_data`, `write_shared_data`, `corrupt_shared_data`,
/// `clear_faults`, `faults`, `update`, `advance`, `send`, `together`, `tcp`, `expect`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// What the step is about; named in a failure.
    pub name: Option<String>,
    /// Change what endpoints do.
    #[schemars(with = "ByAddress<EndpointSpec>")]
    pub endpoints: BTreeMap<SocketAddr, EndpointSpec>,
    /// Change what endpoints do with connections of the TCP proxy.
    #[schemars(with = "ByAddress<TcpEndpointSpec>")]
    pub tcp_endpoints: BTreeMap<SocketAddr, TcpEndpointSpec>,
    /// Step the plugins' wall clock, back if it begins with `-`. Timers do not notice.
    pub step_clock: Option<SignedSpan>,
    /// Write shared data of the `vm_id` `weir`, as another plugin might.
    pub set_shared_data: BTreeMap<String, Content>,
    /// The same for any `vm_id`: `{vm_id: {key: value}}`.
    pub write_shared_data: BTreeMap<String, BTreeMap<String, Content>>,
    /// Overwrite every key of every `vm_id` of the scenario with this.
    pub corrupt_shared_data: Option<Content>,
    /// Forget the faults armed so far.
    pub clear_faults: bool,
    /// Arm faults; they count calls from here on.
    pub faults: Vec<FaultSpec>,
    /// Give plugins a new configuration, as Envoy does when it is told of one: `{plugin: document}`.
    /// Streams under way keep the old one.
    pub update: BTreeMap<String, Value>,
    /// Let time pass.
    pub advance: Option<Span>,
    /// Send requests and wait for their responses.
    pub send: Option<Send>,
    /// Send all of these at one moment, then wait: what `explore` interleaves.
    pub together: Vec<Send>,
    /// What clients do with connections that carry bytes, in order.
    pub tcp: Vec<TcpAction>,
    /// What must hold now.
    pub expect: Option<Expect>,
}

impl Step {
    /// All that it sends, one after the other and together.
    pub(crate) fn sends(&self) -> impl Iterator<Item = &Send> {
        self.send.iter().chain(&self.together)
    }
}

/// Requests to send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Send {
    /// A name, for a later step to look at the replies: `expect: {reply: {of: NAME}}`.
    pub name: Option<String>,
    /// How many. Default 1.
    pub count: usize,
    /// Time between two of them. Default none: they are all under way at once.
    pub every: Option<Span>,
    /// Which worker each goes to. Default round robin.
    pub workers: Spread,
    /// Default `GET`.
    pub method: String,
    /// Default `/`.
    pub path: String,
    /// Default `weir.test`.
    pub authority: String,
    /// Default none; a list of values repeats a header.
    pub headers: Fields,
    /// Body; chunks with `after` come later.
    pub body: Body,
    /// Trailers, after the body.
    pub trailers: Fields,
    /// Address of the client. Default `10.0.0.1`.
    pub from: Option<std::net::IpAddr>,
    /// TLS that the proxy terminates: a server name, or more of what is known. Default none.
    pub tls: Option<TlsSpec>,
    /// The client goes away after this long.
    pub abort_after: Option<Span>,
    /// Whether to let time pass until all have their responses, at most two minutes. Default true.
    pub wait: bool,
}

impl Default for Send {
    fn default() -> Self {
        Self {
            name: None,
            count: 1,
            every: None,
            workers: Spread::default(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            authority: "weir.test".to_owned(),
            headers: Fields::default(),
            body: Body::default(),
            trailers: Fields::default(),
            from: None,
            tls: None,
            abort_after: None,
            wait: true,
        }
    }
}

/// How requests are spread over workers.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By the seed.
    Random,
    /// All to the first.
    First,
    /// All to the last.
    Last,
}

/// Address and port, such as `127.0.0.1:9001`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// A map by address in a schema.
pub(crate) struct ByAddress<T>(PhantomData<T>);

impl JsonSchema for Address {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "socket-address"})
    }
}

impl<T: JsonSchema> JsonSchema for ByAddress<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}ByAddress", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"format": "socket-address"},
            "additionalProperties": generator.subschema_for::<T>()
        })
    }
}
