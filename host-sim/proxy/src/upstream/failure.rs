//! Transport errors as the router's classes of failure.

use host_sim_engine::{UpstreamFailure, UpstreamFailureKind};
use std::error::Error;
use std::io;

/// Whether response headers had come when an attempt broke.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stage {
    BeforeHeaders,
    MidStream,
}

pub(super) fn failure(kind: UpstreamFailureKind, detail: impl Into<String>) -> UpstreamFailure {
    UpstreamFailure { kind, detail: detail.into() }
}

/// No connection: refused, unreachable, or the handshake failed.
pub(super) fn connect_failure(error: &io::Error) -> UpstreamFailure {
    failure(UpstreamFailureKind::ConnectFailure, text(error))
}

/// The connection broke, or the peer broke the protocol.
pub(super) fn broken(error: &hyper::Error, stage: Stage) -> UpstreamFailure {
    let kind = if let Some(reason) = stream_reset(error) {
        match reason {
            h2::Reason::REFUSED_STREAM => UpstreamFailureKind::RefusedStream,
            _ => UpstreamFailureKind::RemoteReset,
        }
    } else if error.is_parse() {
        UpstreamFailureKind::ProtocolError
    } else if stage == Stage::BeforeHeaders {
        UpstreamFailureKind::ResetBeforeHeaders
    } else {
        UpstreamFailureKind::ResetMidStream
    };
    failure(kind, error.to_string())
}

/// The code of the peer's RST_STREAM, if that is what broke the attempt.
fn stream_reset(error: &hyper::Error) -> Option<h2::Reason> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    error.reason().filter(|_| error.is_reset() && error.is_remote())
}

/// The system's words without the number that Rust adds to them.
fn text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text.get(..at).unwrap_or_default().to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_reads_as_in_envoy() {
        // 111 is ECONNREFUSED.
        let refused = connect_failure(&io::Error::from_raw_os_error(111));
        assert_eq!(refused.kind, UpstreamFailureKind::ConnectFailure);
        assert_eq!(refused.detail, "Connection refused");
    }
}
