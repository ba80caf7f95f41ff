//! Connections that carry bytes: what clients do, what endpoints do, what came of it.

use super::expect::Text;
use super::tls::TlsSpec;
use super::value::{Content, Span};
use crate::{TcpBehaviour, TcpReaction};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// One thing a client does. Exactly one of `open`, `send`, `half_close` and `abort` names the
/// connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpAction {
    /// Let so much time pass first.
    pub after: Option<Span>,
    /// Connect, and call the connection that.
    pub open: Option<String>,
    /// With `open`: to this listener. Default the first that ends in a TCP proxy.
    pub listener: Option<String>,
    /// With `open`: on this worker, from 0. Default 0.
    pub worker: Option<usize>,
    /// With `open`: TLS that the proxy terminates: a server name, or more of what is known.
    pub tls: Option<TlsSpec>,
    /// With `open`: from this address. Default `10.0.0.1`.
    pub from: Option<std::net::IpAddr>,
    /// Send bytes on this connection.
    pub send: Option<String>,
    /// With `send`: the bytes.
    pub data: Option<Content>,
    /// Close the client's half of this connection.
    pub half_close: Option<String>,
    /// Reset this connection.
    pub abort: Option<String>,
}

/// What an endpoint does with connections.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpEndpointSpec {
    /// From the wish to connect until it is granted, and from bytes to what they cause. Default
    /// `1ms`.
    pub latency: Option<Span>,
    /// Sent as soon as there is a connection.
    pub greeting: Option<Content>,
    /// What happens when bytes come. Default `echo`.
    pub reaction: ReactionSpec,
    /// With `answer` and `answer_and_close`: the answer.
    pub data: Option<Content>,
}

/// What an endpoint does when bytes come.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ReactionSpec {
    /// Sends them back.
    #[default]
    Echo,
    /// Sends `data`, each time.
    Answer,
    /// Sends `data`, then closes its half.
    AnswerAndClose,
    /// Takes them and says nothing.
    Swallow,
    /// Closes its half as soon as there is a connection, behind the greeting.
    Close,
    /// Resets the connection.
    Reset,
    /// No connection: refused.
    Refuse,
    /// No connection: nothing ever answers, until the cluster's `connect_timeout`.
    Unreachable,
}

/// A connection, as its client sees it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpExpect {
    /// Everything received so far.
    pub received: Option<Text>,
    /// Whether the proxy has closed its half.
    pub ended: Option<bool>,
    /// Whether the connection is gone, both ways.
    pub closed: Option<bool>,
    /// Whether it went with a reset.
    pub reset: Option<bool>,
}

/// A connection, as an endpoint saw it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpReceivedExpect {
    /// Everything received so far.
    pub bytes: Option<Text>,
    /// Whether the proxy has closed its half, or the connection.
    pub ended: Option<bool>,
    /// Whether the proxy has reset it.
    pub reset: Option<bool>,
}

impl TcpAction {
    /// The connection, if exactly one thing is done with it.
    pub(crate) fn connection(&self) -> Option<&str> {
        let all = [&self.open, &self.send, &self.half_close, &self.abort];
        let mut named = all.into_iter().flatten();
        named.next().filter(|_| named.next().is_none()).map(String::as_str)
    }
}

impl TcpEndpointSpec {
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn behaviour(&self, base: &Path) -> Result<TcpBehaviour, String> {
        let bytes = |content: &Option<Content>| {
            content.as_ref().map_or(Ok(Vec::new()), |content| content.bytes(base))
        };
        let data = bytes(&self.data)?;
        Ok(TcpBehaviour {
            latency: self.latency.map_or(Duration::from_millis(1), |latency| latency.0),
            greeting: bytes(&self.greeting)?,
            reaction: match self.reaction {
                ReactionSpec::Echo => TcpReaction::Echo,
                ReactionSpec::Answer => TcpReaction::Answer(data),
                ReactionSpec::AnswerAndClose => TcpReaction::AnswerAndClose(data),
                ReactionSpec::Swallow => TcpReaction::Swallow,
                ReactionSpec::Close => TcpReaction::Close,
                ReactionSpec::Reset => TcpReaction::Reset,
                ReactionSpec::Refuse => TcpReaction::Refuse,
                ReactionSpec::Unreachable => TcpReaction::Unreachable,
            },
        })
    }
}
