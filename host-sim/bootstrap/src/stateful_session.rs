//! `envoy.extensions.filters.http.stateful_session.v3.StatefulSession`, with the session in a header.

use crate::reader::Message;

/// Envoy's native session affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatefulSession {
    /// The header that holds the endpoint's address in base64, lower case; absent: the filter does
    /// nothing.
    pub header: Option<String>,
    /// Whether a request whose endpoint is not there fails. Default false: another one is chosen.
    pub strict: bool,
}

pub(crate) const STATEFUL_SESSION: Message<StatefulSession> = Message {
    name: "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    read: |message| {
        let header = message.message("session_state", SESSION_STATE);
        Some(StatefulSession { header, strict: message.flag("strict", false) })
    },
};

const SESSION_STATE: Message<String> = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    read: |message| {
        message.required_text("name");
        message.extension("typed_config", &[HEADER, COOKIE, ENVELOPE])
    },
};

const HEADER: Message<String> = Message {
    name: "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
    read: |message| {
        let name = message.header_name("name");
        if name.is_none() {
            message.problem("field 'name' needs the name of a header");
        }
        name
    },
};

const COOKIE: Message<String> = Message {
    name: "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
    read: |message| {
        message.accept_all();
        message.problem("sessions in cookies are not simulated by host-sim; use a header");
        None
    },
};

const ENVELOPE: Message<String> = Message {
    name: "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState",
    read: |message| {
        message.accept_all();
        message.problem("sessions in envelopes are not simulated by host-sim; use a header");
        None
    },
};
