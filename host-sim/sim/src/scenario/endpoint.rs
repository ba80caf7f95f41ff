//! What endpoints do.

use super::value::{Body, Content, Fields, Span};
use crate::endpoint::{Answer, Behaviour, Chunk, Failure};
use crate::{GrpcAnswer, GrpcBegin};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What an endpoint does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Its usual answer.
    #[serde(default)]
    pub answer: AnswerSpec,
    /// Exceptions by path.
    #[serde(default)]
    pub paths: BTreeMap<String, AnswerSpec>,
    /// What it does with its next requests.
    #[serde(default)]
    pub script: Vec<AnswerSpec>,
}

/// One answer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerSpec {
    /// From request to response. Default `1ms`.
    pub latency: Option<Span>,
    /// Status. Default 200.
    pub status: Option<u16>,
    /// Response headers.
    pub headers: Fields,
    /// Response body; chunks with `after` make it a slow one.
    pub body: Body,
    /// Response trailers.
    pub trailers: Fields,
    /// The answer to gRPC requests, instead of status, headers, body and trailers.
    pub grpc: Option<GrpcSpec>,
    /// How it fails instead, or after what there is of a body.
    pub fail: Option<FailureSpec>,
}

/// A gRPC answer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcSpec {
    /// `grpc-status`. Default 0.
    pub status: u32,
    /// `grpc-message`, if not empty.
    pub message: String,
    /// Messages, without their framing.
    pub messages: Vec<Content>,
    /// Initial metadata besides `content-type`.
    pub metadata: Fields,
    /// Trailing metadata besides status and message.
    pub trailing_metadata: Fields,
    /// Before each message but the first, and before the status. Default none.
    pub interval: Option<Span>,
    /// When the answer begins. Default `end`.
    pub begins: BeginSpec,
    /// Status and message come in the headers, as of a server that refuses at once.
    pub trailers_only: bool,
    /// No status ever comes.
    pub stays_open: bool,
}

/// When a service begins to answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BeginSpec {
    /// As soon as the call has come.
    Headers,
    /// With the first message.
    FirstMessage,
    /// When the client has said all.
    #[default]
    End,
}

/// How an attempt fails.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FailureSpec {
    /// The connection is refused.
    Refuse,
    /// The connection is not made within the cluster's `connect_timeout`.
    ConnectTimeout,
    /// The connection is closed before the response.
    Reset,
    /// The connection is closed within the body.
    ResetMidStream,
    /// HTTP/2: the stream is reset, the connection lives on.
    ResetStream,
    /// HTTP/2: the stream is refused, nothing was done.
    RefuseStream,
    /// What comes is no HTTP.
    ProtocolError,
    /// Nothing ever comes.
    Hang,
}

impl AnswerSpec {
    /// # Errors
    /// When a body's file cannot be read.
    pub(crate) fn behaviour(&self, base: &Path) -> Result<Behaviour, String> {
        let (body, chunks) = chunks(&self.body, base)?;
        let answer = Answer {
            status: self.status.unwrap_or(200),
            headers: self.headers.0.clone(),
            body,
            chunks,
            trailers: self.trailers.0.clone(),
        };
        let latency = self.latency.map_or(Duration::from_millis(1), |latency| latency.0);
        let grpc = self.grpc.as_ref().map(|grpc| grpc.answer(base)).transpose()?;
        Ok(Behaviour { latency, answer, grpc, failure: self.fail.map(Failure::from) })
    }
}

impl GrpcSpec {
    fn answer(&self, base: &Path) -> Result<GrpcAnswer, String> {
        let messages = self.messages.iter().map(|message| message.bytes(base));
        Ok(GrpcAnswer {
            begins: match self.begins {
                BeginSpec::Headers => GrpcBegin::Headers,
                BeginSpec::FirstMessage => GrpcBegin::FirstMessage,
                BeginSpec::End => GrpcBegin::End,
            },
            initial_metadata: self.metadata.0.clone(),
            messages: messages.collect::<Result<_, _>>()?,
            interval: self.interval.map_or(Duration::ZERO, |interval| interval.0),
            status: (!self.stays_open).then_some(self.status),
            message: self.message.clone(),
            trailing_metadata: self.trailing_metadata.0.clone(),
            trailers_only: self.trailers_only,
        })
    }
}

/// What comes with the headers, and what comes later.
fn chunks(body: &Body, base: &Path) -> Result<(Vec<u8>, Vec<Chunk>), String> {
    let (mut first, mut later): (Vec<u8>, Vec<Chunk>) = (Vec::new(), Vec::new());
    for content in body.chunks() {
        let (data, after) = (content.bytes(base)?, content.after());
        match later.last_mut() {
            None if after.is_zero() => first.extend(data),
            Some(last) if after.is_zero() => last.data.extend(data),
            _ => later.push(Chunk { after, data }),
        }
    }
    Ok((first, later))
}

impl From<FailureSpec> for Failure {
    fn from(spec: FailureSpec) -> Self {
        match spec {
            FailureSpec::Refuse => Self::Refuse,
            FailureSpec::ConnectTimeout => Self::ConnectTimeout,
            FailureSpec::Reset => Self::Reset,
            FailureSpec::ResetMidStream => Self::ResetMidStream,
            FailureSpec::ResetStream => Self::ResetStream,
            FailureSpec::RefuseStream => Self::RefuseStream,
            FailureSpec::ProtocolError => Self::ProtocolError,
            FailureSpec::Hang => Self::Hang,
        }
    }
}
