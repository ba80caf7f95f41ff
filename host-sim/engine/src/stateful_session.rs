//! `stateful_session`: the endpoint that a header names in base64, and the header that names it.
//!
//! As Envoy: what is no address in base64 is no session; the session's endpoint is asked before the
//! cluster's policy, on the first attempt only, unless it is unhealthy or no member; and a response
//! of another endpoint names that one.

use crate::host_selection::Session;
use crate::stream::Way;
use crate::worker::Turn;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_sim_bootstrap::StatefulSession;

impl Turn<'_> {
    /// Notes where the request's session wants to go.
    pub(crate) fn join_session(&self, id: u64, config: &StatefulSession) {
        let Some(name) = &config.header else { return };
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        let headers = stream.half(Way::Request).headers.as_ref();
        let address = headers.and_then(|headers| {
            let decoded = STANDARD.decode(headers.get(name)?).ok()?;
            std::str::from_utf8(&decoded).ok()?.parse().ok()
        });
        if let Some(exchange) = stream.exchange() {
            let session = |address| Session { address, strict: config.strict };
            exchange.router.session = address.map(session);
        }
    }

    /// Names the endpoint that served, if it is not the session's.
    pub(crate) fn tell_session(&self, id: u64, config: &StatefulSession) {
        let Some(name) = &config.header else { return };
        let served = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let served = stream.info.endpoint;
            let session = stream.exchange().and_then(|exchange| exchange.router.session);
            served.filter(|served| session.is_none_or(|session| session.address != *served))
        };
        if let Some(served) = served {
            let encoded = STANDARD.encode(served.to_string());
            self.with_headers(id, Way::Response, |headers| {
                headers.set(name.as_bytes(), encoded.as_bytes());
            });
        }
    }
}
