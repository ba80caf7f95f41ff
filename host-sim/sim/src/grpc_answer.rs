//! What a scripted gRPC service says.

use host_sim_engine::Headers;
use std::time::Duration;

/// When a service begins to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrpcBegin {
    /// As soon as the call has come.
    Headers,
    /// With the first message.
    FirstMessage,
    /// When the client has said all: the only one for unary services.
    #[default]
    End,
}

/// An answer to gRPC calls and streams: metadata, messages, a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcAnswer {
    /// When it begins; [`crate::Behaviour::latency`] counts from there.
    pub begins: GrpcBegin,
    /// Headers besides `content-type`.
    pub initial_metadata: Vec<(String, String)>,
    /// Messages without their framing.
    pub messages: Vec<Vec<u8>>,
    /// Before each message but the first, and before the status. Zero by default.
    pub interval: Duration,
    /// The status; `None` leaves the stream open for ever.
    pub status: Option<u32>,
    /// `grpc-message`; left out if empty.
    pub message: String,
    /// Trailers besides the status.
    pub trailing_metadata: Vec<(String, String)>,
    /// Says all in the headers, without messages.
    pub trailers_only: bool,
}

impl Default for GrpcAnswer {
    /// Status 0 without a message, which a unary client takes for an error.
    fn default() -> Self {
        Self {
            begins: GrpcBegin::End,
            initial_metadata: Vec::new(),
            messages: Vec::new(),
            interval: Duration::ZERO,
            status: Some(0),
            message: String::new(),
            trailing_metadata: Vec::new(),
            trailers_only: false,
        }
    }
}

impl GrpcAnswer {
    /// One message and status 0.
    pub fn message(message: impl Into<Vec<u8>>) -> Self {
        Self { messages: vec![message.into()], ..Self::default() }
    }

    /// A status without a message, in trailers.
    pub fn error(status: u32, message: &str) -> Self {
        Self { status: Some(status), message: message.to_owned(), ..Self::default() }
    }

    pub(crate) fn head(&self) -> Headers {
        let fixed = [(":status", "200"), ("content-type", "application/grpc")];
        let mut headers = Headers::from_pairs(fixed);
        add(&mut headers, &self.initial_metadata);
        headers
    }

    /// Trailers, if the answer ever ends.
    pub(crate) fn trailers(&self) -> Option<Headers> {
        let mut trailers = Headers::new();
        trailers.add(b"grpc-status", self.status?.to_string().as_bytes());
        if !self.message.is_empty() {
            trailers.add(b"grpc-message", self.message.as_bytes());
        }
        add(&mut trailers, &self.trailing_metadata);
        Some(trailers)
    }

    /// A message with its framing.
    pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[0], &len[..], message].concat()
    }
}

fn add(headers: &mut Headers, pairs: &[(String, String)]) {
    pairs.iter().for_each(|(name, value)| headers.add(name.as_bytes(), value.as_bytes()));
}
