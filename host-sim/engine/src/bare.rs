//! One plugin's stream callbacks, one at a time, with nothing around them.
//!
//! Other test tools hand a plugin a response without a request, a request without a path, and look
//! at headers after a single callback. No proxy does that: connection manager and router would
//! refuse, add, normalise. So that their suites can be run, a *bare* stream has the first filter of
//! a listener and neither of the two; statuses of hostcalls, visibility of maps and buffers, traps
//! are those of any other stream. What the plugin asks a proxy to do with the stream (resume it,
//! close it) has nowhere to go; a local reply is kept for the driver.

use crate::stream::{BodyView, Exchange, Half, LocalReply, Role, Stream, StreamInfo, Way};
use crate::vm::VmState;
use crate::worker::Turn;
use crate::{Downstream, ExchangeId, Headers};
use bytes::Bytes;
use host_sim_abi::Status;

/// What a bare stream has of its own.
#[derive(Debug, Default)]
pub(crate) struct Bare {
    /// Paths with dots between their segments, and values: all that `proxy_get_property` knows.
    properties: Vec<(String, Bytes)>,
    /// The first local reply.
    reply: Option<LocalReply>,
}

/// A direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the upstream.
    Request,
    /// Towards the client.
    Response,
}

/// What a callback of a bare stream came to.
#[derive(Clone, Debug, Default)]
pub struct BareOutcome {
    /// The plugin did not pause.
    pub continues: bool,
    /// Headers as the plugin left them.
    pub headers: Headers,
    /// The body that the callback was given, as the plugin left it.
    pub body: Bytes,
    /// The local reply it sent.
    pub reply: Option<BareReply>,
}

/// A local reply as the plugin asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareReply {
    /// Status.
    pub status: u16,
    /// gRPC status, if there is a valid one.
    pub grpc_status: Option<u32>,
    /// Details, blanks replaced.
    pub details: String,
    /// Headers, names in lower case.
    pub headers: Vec<(Bytes, Bytes)>,
    /// Body.
    pub body: Bytes,
}

impl Turn<'_> {
    /// Begins a bare stream of listener 0: its first filter's context is made. Properties have dots
    /// between the segments of their paths.
    pub fn start_bare(
        &mut self,
        info: Downstream,
        properties: impl IntoIterator<Item = (String, Bytes)>,
    ) -> ExchangeId {
        let filters = self.downstream_filters(0);
        let id = {
            let mut shared = self.shared.borrow_mut();
            let (id, now) = (shared.fresh_id(), shared.now());
            let mut exchange = Exchange::new(0, info);
            let properties = properties.into_iter().collect();
            exchange.bare = Some(Bare { properties, reply: None });
            let stream = Stream {
                role: Role::Exchange(Box::new(exchange)),
                filters,
                request: Half::default(),
                response: Half::default(),
                info: StreamInfo { start: now, ..StreamInfo::default() },
                filter_state: crate::filter_state::FilterState::default(),
                logging: false,
            };
            shared.streams.insert(id, stream);
            id
        };
        self.wasm_create(id, 0);
        ExchangeId(id)
    }

    /// Runs a headers callback, which sees `headers` and no end of the stream.
    pub fn bare_headers(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        headers: Headers,
    ) -> BareOutcome {
        let way = direction.way();
        self.with_half(id, way, |half| half.headers = Some(headers));
        let status = self.wasm_headers(id.0, 0, way, false);
        let continues = status == crate::iteration::HeadersStatus::Continue;
        self.outcome(id, way, continues)
    }

    /// Runs a body callback, which sees `data` and nothing of what came before.
    pub fn bare_data(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        data: Bytes,
        end_stream: bool,
    ) -> BareOutcome {
        let way = direction.way();
        self.with_half(id, way, |half| {
            half.in_flight = data.into();
            half.buffered = None;
        });
        let status = self.wasm_data(id.0, 0, way, end_stream);
        let continues = status == crate::iteration::DataStatus::Continue;
        self.outcome(id, way, continues)
    }

    /// Ends a bare stream: done and delete.
    pub fn end_bare(&mut self, id: ExchangeId) {
        self.wasm_done(id.0, 0);
        let gone = self.shared.borrow_mut().streams.remove(&id.0);
        self.release_filters(&gone.map(|stream| stream.filters).unwrap_or_default());
    }

    /// What is there after a callback, which nobody sees after it.
    fn outcome(&self, id: ExchangeId, way: Way, continues: bool) -> BareOutcome {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id.0) else { return BareOutcome::default() };
        if let Some(side) = stream.side(0, way) {
            side.headers_visible = false;
            side.body = BodyView::None;
        }
        let half = stream.half(way);
        let headers = half.headers.clone().unwrap_or_default();
        let body = half.in_flight.take();
        let bare = stream.exchange().and_then(|exchange| exchange.bare.as_mut());
        let reply = bare.and_then(|bare| bare.reply.take()).map(|reply| BareReply {
            status: reply.status,
            grpc_status: reply.grpc_status,
            details: reply.details,
            headers: reply.headers,
            body: reply.body,
        });
        BareOutcome { continues, headers, body, reply }
    }

    fn with_half(&self, id: ExchangeId, way: Way, run: impl FnOnce(&mut Half)) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id.0) {
            run(stream.half(way));
        }
    }

    /// Keeps a reply to a bare stream, the first of a callback; false for other streams.
    pub(crate) fn keep_bare_reply(&self, id: u64, reply: &LocalReply) -> bool {
        let mut shared = self.shared.borrow_mut();
        let exchange = shared.streams.get_mut(&id).and_then(|stream| stream.exchange());
        let Some(bare) = exchange.and_then(|exchange| exchange.bare.as_mut()) else { return false };
        bare.reply.get_or_insert_with(|| reply.clone());
        true
    }

    /// Whether a stream is bare.
    pub(crate) fn is_bare(&self, id: u64) -> bool {
        let mut shared = self.shared.borrow_mut();
        let exchange = shared.streams.get_mut(&id).and_then(|stream| stream.exchange());
        exchange.is_some_and(|exchange| exchange.bare.is_some())
    }
}

impl Direction {
    fn way(self) -> Way {
        match self {
            Self::Request => Way::Request,
            Self::Response => Way::Response,
        }
    }
}

/// A property of a bare stream; `None` if the effective context belongs to no such stream.
pub(crate) fn property(state: &VmState, path: &[u8]) -> Option<Result<Bytes, Status>> {
    let (stream, _) = state.current_stream()?;
    let mut shared = state.shared.borrow_mut();
    let bare = shared.streams.get_mut(&stream)?.exchange()?.bare.as_ref()?;
    let segments = path.split(|byte| *byte == 0).filter(|segment| !segment.is_empty());
    let dotted = segments.collect::<Vec<_>>().join(&b'.');
    let found = bare.properties.iter().find(|(own, _)| own.as_bytes() == dotted);
    Some(found.map(|(_, value)| value.clone()).ok_or(Status::NotFound))
}
