//! Envoy's words for what broke an attempt.

use crate::flags::ResponseFlags;

/// What broke an attempt, in Envoy's words.
pub(crate) struct Broken {
    pub(crate) reason: &'static str,
    pub(crate) token: &'static str,
    pub(crate) flags: ResponseFlags,
    /// `upstream.transport_failure_reason`, if the transport said something.
    pub(crate) transport: Option<String>,
}

impl Broken {
    pub(super) fn overflow() -> Self {
        let flags = ResponseFlags::UPSTREAM_OVERFLOW;
        Self { reason: "overflow", token: "overflow", flags, transport: None }
    }

    pub(super) fn timeout() -> Self {
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

    pub(super) fn details(&self) -> String {
        let transport = self.transport.as_deref().map(|text| text.replace(' ', "_"));
        let transport = transport.map(|text| format!("|{text}")).unwrap_or_default();
        format!("upstream_reset_before_response_started{{{}{transport}}}", self.token)
    }
}
