//! Endpoints that do what they are told.

use crate::{GrpcAnswer, Received};
use host_sim_engine::UpstreamFailureKind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body, or its beginning, which comes with the headers.
    pub body: Vec<u8>,
    /// The rest of the body, if it is a slow one.
    pub chunks: Vec<Chunk>,
    /// Trailers; none are sent if empty.
    pub trailers: Vec<(String, String)>,
}

/// A part of a body that comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Time since the part before.
    pub after: Duration,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            trailers: Vec::new(),
        }
    }
}

/// How an attempt fails instead of being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is refused.
    Refuse,
    /// The connection is not made in time.
    ConnectTimeout,
    /// The connection is reset before the response.
    Reset,
    /// The connection is reset within the body.
    ResetMidStream,
    /// The stream is reset before the response, as HTTP/2 can; the connection lives on.
    ResetStream,
    /// The stream is refused, as HTTP/2 can.
    RefuseStream,
    /// What comes is no HTTP.
    ProtocolError,
    /// Nothing ever happens.
    Hang,
}

impl Failure {
    /// Whether the endpoint never gets to see the request.
    pub(crate) const fn is_before_request(self) -> bool {
        matches!(self, Self::Refuse | Self::ConnectTimeout)
    }

    pub(crate) const fn kind(self) -> Option<(UpstreamFailureKind, &'static str)> {
        match self {
            Self::Refuse => Some((UpstreamFailureKind::ConnectFailure, "Connection refused")),
            Self::Reset => Some((UpstreamFailureKind::ResetBeforeHeaders, "")),
            Self::ResetMidStream => Some((UpstreamFailureKind::ResetMidStream, "")),
            Self::ConnectTimeout => Some((UpstreamFailureKind::ConnectTimeout, "")),
            Self::ResetStream => Some((UpstreamFailureKind::RemoteReset, "")),
            Self::RefuseStream => Some((UpstreamFailureKind::RefusedStream, "")),
            Self::ProtocolError => Some((UpstreamFailureKind::ProtocolError, "")),
            Self::Hang => None,
        }
    }
}

/// What an endpoint does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// From the end of the request to the response.
    pub latency: Duration,
    /// The response.
    pub answer: Answer,
    /// The response to gRPC requests, instead of [`Behaviour::answer`].
    pub grpc: Option<GrpcAnswer>,
    /// Or the failure.
    pub failure: Option<Failure>,
}

impl Default for Behaviour {
    /// Answers 200 after a millisecond.
    fn default() -> Self {
        let latency = Duration::from_millis(1);
        Self { latency, answer: Answer::default(), grpc: None, failure: None }
    }
}

impl Behaviour {
    /// Answers gRPC requests after a millisecond.
    pub fn grpc(answer: GrpcAnswer) -> Self {
        Self { grpc: Some(answer), ..Self::default() }
    }
}

/// An endpoint: its usual behaviour, exceptions by path, a script of what comes next, and what it
/// received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) usual: Arc<Behaviour>,
    pub(crate) by_path: Vec<(String, Arc<Behaviour>)>,
    pub(crate) script: VecDeque<Arc<Behaviour>>,
    pub(crate) received: Vec<Received>,
}

impl Endpoint {
    /// What it does with the next request for `path`. A failing endpoint fails for every path: its
    /// process is gone, not one of its handlers.
    pub(crate) fn next(&mut self, path: &str) -> Arc<Behaviour> {
        if self.usual.failure.is_some() {
            return self.usual.clone();
        }
        let path = path.split('?').next().unwrap_or(path);
        if let Some((_, behaviour)) = self.by_path.iter().find(|(own, _)| own == path) {
            return behaviour.clone();
        }
        self.script.pop_front().unwrap_or_else(|| self.usual.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Arc<Behaviour> {
        let answer = Answer { status, ..Answer::default() };
        Arc::new(Behaviour { answer, ..Behaviour::default() })
    }

    #[test]
    fn a_script_comes_first_and_a_path_does_not_use_it_up() {
        let mut endpoint = Endpoint {
            by_path: vec![("/healthz".to_owned(), status(204))],
            script: VecDeque::from([status(500)]),
            ..Endpoint::default()
        };
        let statuses = ["/healthz?x", "/", "/"].map(|path| endpoint.next(path).answer.status);
        assert_eq!(statuses, [204, 500, 200]);
    }
}
