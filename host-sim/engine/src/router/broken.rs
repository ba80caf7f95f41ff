//! Envoy's words for what broke an attempt.

use crate::flags::ResponseFlags;
use crate::{UpstreamFailure, UpstreamFailureKind};

/// What broke an attempt, in Envoy's words.
pub(crate) struct Broken {
    pub(crate) reason: &'static str,
    pub(crate) token: &'static str,
    pub(crate) flags: ResponseFlags,
    /// `upstream.transport_failure_reason`, if the transport said something.
    pub(crate) transport: Option<String>,
}

impl Broken {
    /// What the transport reported. `http1`: there the codec finds fault with a body that stops
    /// short, before anybody asks why it does.
    pub(crate) fn of(failure: &UpstreamFailure, http1: bool) -> Self {
        use UpstreamFailureKind as Kind;
        let kind = match failure.kind {
            Kind::ResetMidStream if http1 => Kind::ProtocolError,
            kind => kind,
        };
        let (reason, token, flags) = match kind {
            Kind::ConnectFailure => (
                "remote connection failure",
                "remote_connection_failure",
                ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            ),
            Kind::ConnectTimeout => (
                "connection timeout",
                "connection_timeout",
                ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            ),
            Kind::ResetBeforeHeaders | Kind::ResetMidStream => (
                "connection termination",
                "connection_termination",
                ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            ),
            Kind::RemoteReset => {
                ("remote reset", "remote_reset", ResponseFlags::UPSTREAM_REMOTE_RESET)
            }
            Kind::RefusedStream => (
                "remote refused stream reset",
                "remote_refused_stream_reset",
                ResponseFlags::UPSTREAM_REMOTE_RESET,
            ),
            Kind::ProtocolError => {
                ("protocol error", "protocol_error", ResponseFlags::UPSTREAM_PROTOCOL_ERROR)
            }
        };
        let refused = kind == Kind::ConnectFailure && !failure.detail.is_empty();
        let transport = refused.then(|| format!("delayed connect error: {}", failure.detail));
        Self { reason, token, flags, transport }
    }

    pub(crate) fn overflow() -> Self {
        let flags = ResponseFlags::UPSTREAM_OVERFLOW;
        Self { reason: "overflow", token: "overflow", flags, transport: None }
    }

    pub(crate) fn timeout() -> Self {
        let flags = ResponseFlags::UPSTREAM_TIMEOUT;
        Self { reason: "local reset", token: "local_reset", flags, transport: None }
    }

    /// Status of the local reply: an upstream that answers nonsense is a bad gateway.
    pub(crate) fn status(&self) -> u16 {
        if self.flags.contains(ResponseFlags::UPSTREAM_PROTOCOL_ERROR) { 502 } else { 503 }
    }

    /// Body of the local reply.
    pub(crate) fn body(&self, retried: bool) -> String {
        let latest = if retried { "retried and the latest " } else { "" };
        format!(
            "upstream connect error or disconnect/reset before headers. {latest}reset reason: {}",
            self.reason
        )
    }

    pub(crate) fn details(&self) -> String {
        let transport = self.transport.as_deref().map(|text| text.replace(' ', "_"));
        let transport = transport.map(|text| format!("|{text}")).unwrap_or_default();
        format!("upstream_reset_before_response_started{{{}{transport}}}", self.token)
    }
}
