//! Plugins' gRPC calls and streams: one attempt each over the machinery of requests.
//!
//! What the guest sees was measured on Envoy, and surprises: a call that succeeds ends with its
//! message and nothing else, one that fails with a close and nothing else; whatever broke on the
//! way arrives as a gRPC status made here, with Envoy's details in braces behind the message; a
//! stream that the server has ended stays until the guest closes it.

mod frame;
mod service;

pub(crate) use service::{Parsed, Service, parse};

use crate::attempt::ResponsePart;
use crate::cluster::{Cluster, LiveHost};
use crate::exports::Exports;
use crate::host_selection::{Wish, millis};
use crate::load_balancer::OverrideWalk;
use crate::local_reply::grpc_reply;
use crate::router::{Broken, reply};
use crate::stream::{LocalReply, Owner, Way};
use crate::thread_state::ThreadState;
use crate::timer::{Timer, TimerId};
use crate::vm::{Callback, VmState};
use crate::worker::Worker;
use crate::{Headers, UnixNanos};
use base64::Engine as _;
use bytes::Bytes;
use frame::Decoder;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;

/// Names a call or stream: VM, its generation, and the guest's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GrpcId {
    pub(crate) vm: usize,
    pub(crate) generation: u64,
    pub(crate) token: u32,
}

/// A call has one message each way; a stream has as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Stream,
}

/// A checked `proxy_grpc_call` or `proxy_grpc_stream`.
pub(crate) struct GrpcRequest {
    pub(crate) id: GrpcId,
    pub(crate) root: u32,
    pub(crate) kind: Kind,
    pub(crate) service: Service,
    /// `/package.Service/Method`
    pub(crate) path: String,
    pub(crate) metadata: Headers,
    /// What a call says.
    pub(crate) message: Option<Bytes>,
    /// Of a call; 0 is none, and is sent as such.
    pub(crate) timeout: Option<Duration>,
}

/// A call or stream that the guest may still name.
pub(crate) struct Grpc {
    root: u32,
    kind: Kind,
    attempt: u64,
    timer: Option<TimerId>,
    pending: Option<Pending>,
    /// Until the guest has returned.
    outgoing: VecDeque<(Bytes, bool)>,
    decoder: Decoder,
    /// The answer of a call, until its status has come.
    message: Option<Bytes>,
    /// When the guest said its last.
    said_all: Option<UnixNanos>,
    /// The guest closed its side.
    local_closed: bool,
    /// The server is done.
    remote_closed: bool,
    /// Response headers have come.
    began: bool,
}

struct Pending {
    cluster: Arc<Cluster>,
    host: Arc<LiveHost>,
    headers: Headers,
}

/// What maps 4 and 5 and buffer 5 show during a callback of this root.
#[derive(Clone, Debug, Default)]
pub(crate) struct GrpcView {
    pub(crate) root: u32,
    pub(crate) initial: Option<Headers>,
    pub(crate) trailing: Option<Headers>,
    pub(crate) message: Option<Bytes>,
}

/// Why a call did not even begin: the reply that stands for its response.
pub(crate) struct Refused {
    /// Trailers of the response that a stream sees.
    pub(crate) trailers: Headers,
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// Chooses an endpoint and notes the call; what leaves goes when the guest has returned.
pub(crate) fn begin(
    shared: &mut ThreadState,
    cluster: &Arc<Cluster>,
    request: GrpcRequest,
) -> Result<(), Refused> {
    let now = shared.now();
    let headers = request_headers(&request);
    let ThreadState { selectors, rng, .. } = shared;
    let mut walk = OverrideWalk::default();
    let wish = Wish {
        headers: &headers,
        walk: &mut walk,
        tried: &[],
        reselections: 0,
        original_dst: None,
    };
    let host = selectors.get_mut(cluster.index()).and_then(|s| s.choose(cluster, wish, rng));
    let Some(host) = host else {
        cluster.stats.cx_none_healthy.inc();
        return Err(Refused::of(reply(503, "no healthy upstream", "no_healthy_upstream")));
    };
    if !cluster.has_room() {
        cluster.stats.rq_pending_overflow.inc();
        let broken = Broken::overflow();
        let mut refusal = reply(broken.status(), &broken.body(false), &broken.details());
        refusal.headers.push(("x-envoy-overloaded".into(), "true".into()));
        return Err(Refused::of(refusal));
    }
    let attempt = shared.fresh_id();
    let timer = request
        .timeout
        .filter(|timeout| !timeout.is_zero())
        .map(|timeout| shared.timers.set(now + timeout, Timer::GrpcTimeout { call: request.id }));
    let mut outgoing = VecDeque::new();
    if let Some(message) = &request.message {
        outgoing.push_back((frame::encode(message), true));
    }
    let state = Grpc {
        root: request.root,
        kind: request.kind,
        attempt,
        timer,
        pending: Some(Pending { cluster: cluster.clone(), host, headers }),
        said_all: request.message.is_some().then_some(now),
        outgoing,
        decoder: Decoder::new(request.service.max_message),
        message: None,
        local_closed: false,
        remote_closed: false,
        began: false,
    };
    shared.grpc.insert(request.id, state);
    Ok(())
}

impl Refused {
    fn of(refusal: LocalReply) -> Self {
        let details = refusal.details.clone();
        let (trailers, _) = grpc_reply(refusal);
        let (code, message) = status_of(&trailers);
        Self { trailers, code: code.unwrap_or(2), message: enhanced(&message, &details) }
    }
}

/// Headers in the order Envoy writes them.
fn request_headers(request: &GrpcRequest) -> Headers {
    let service = &request.service;
    let authority =
        if service.authority.is_empty() { &service.cluster } else { &service.authority };
    let mut headers = Headers::from_pairs([
        (":method", "POST"),
        (":path", request.path.as_str()),
        (":authority", authority.as_str()),
        (":scheme", "http"),
        ("te", "trailers"),
    ]);
    if let Some(timeout) = request.timeout {
        headers.set_static("grpc-timeout", timeout_value(timeout));
    }
    headers.set_static("content-type", "application/grpc");
    for (name, value) in service.initial_metadata.iter() {
        headers.set(name, value);
    }
    add_metadata(&mut headers, &request.metadata);
    encode_binary(&mut headers);
    if !service.skip_envoy_headers {
        headers.set_static("x-envoy-internal", "true");
    }
    if let Some(timeout) = request.timeout.filter(|timeout| !timeout.is_zero()) {
        headers.set_static("x-envoy-expected-rq-timeout-ms", timeout.as_millis().to_string());
    }
    headers
}

/// The guest's metadata comes last; what Envoy knows by itself gets a second value, not a second
/// line.
fn add_metadata(headers: &mut Headers, metadata: &Headers) {
    const INLINE: [&[u8]; 7] =
        [b":method", b":path", b":authority", b":scheme", b"te", b"grpc-timeout", b"content-type"];
    for (name, value) in metadata.iter() {
        match headers.value(name).cloned() {
            Some(first) if INLINE.contains(&name) => {
                headers.set(name, &[&first[..], b",", value].concat());
            }
            _ => headers.add(name, value),
        }
    }
}

/// Names that end in `-bin` carry base64.
fn encode_binary(headers: &mut Headers) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for (name, _) in headers.iter() {
        if name.ends_with(b"-bin") && !names.iter().any(|known| known == name) {
            names.push(name.to_vec());
        }
    }
    for name in names {
        let value = headers.value(&name).cloned().unwrap_or_default();
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        headers.set(&name, value.as_bytes());
    }
}

/// `grpc-timeout` has eight digits at most, and takes coarser units for more.
fn timeout_value(timeout: Duration) -> String {
    const MAX: u128 = 99_999_999;
    let (mut time, mut unit) = (timeout.as_millis(), 'm');
    for (factor, next) in [(1000, 'S'), (60, 'M'), (60, 'H')] {
        if time > MAX {
            (time, unit) = (time / factor, next);
        }
    }
    format!("{time}{unit}")
}

/// `grpc-status` and `grpc-message`. What is no status that gRPC knows is -1.
fn status_of(headers: &Headers) -> (Option<u32>, String) {
    let status = headers.get("grpc-status").filter(|value| !value.is_empty()).map(|value| {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.filter(|number| *number <= 16).unwrap_or(u32::MAX)
    });
    let message = headers.get("grpc-message").unwrap_or_default();
    (status, String::from_utf8_lossy(message).into_owned())
}

/// What gRPC makes of an HTTP status.
fn http_to_grpc(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Envoy puts its details behind the server's words.
fn enhanced(message: &str, details: &str) -> String {
    match (message, details) {
        ("", details) => details.to_owned(),
        (message, "") => message.to_owned(),
        (message, details) => format!("{message}{{{details}}}"),
    }
}

/// The details of an answer that came from the server.
const VIA_UPSTREAM: &str = "via_upstream";

/// The guest's side of a call, at the hostcalls.
impl ThreadState {
    /// The call of that number, if this root made it.
    fn grpc_of(&mut self, id: GrpcId, root: u32) -> Option<&mut Grpc> {
        self.grpc.get_mut(&id).filter(|grpc| grpc.root == root)
    }

    /// Queues a message of a stream; false if there is no such stream.
    pub(crate) fn grpc_say(&mut self, id: GrpcId, root: u32, message: &[u8], end: bool) -> bool {
        let now = self.now();
        let Some(grpc) = self.grpc_of(id, root) else { return false };
        grpc.say(frame::encode(message), end, now);
        true
    }

    /// Closes the guest's side of a stream; false if there is no such stream.
    pub(crate) fn grpc_half_close(&mut self, id: GrpcId, root: u32) -> bool {
        let now = self.now();
        let Some(grpc) = self.grpc_of(id, root) else { return false };
        grpc.local_closed = true;
        if grpc.remote_closed {
            self.grpc.remove(&id);
        } else {
            grpc.say(Bytes::new(), true, now);
        }
        true
    }

    /// Forgets a call or stream; what is left of it on the way, or none if there is no such.
    pub(crate) fn grpc_forget(&mut self, id: GrpcId, root: u32) -> Option<u64> {
        let attempt = self.grpc_of(id, root)?.attempt;
        let timer = self.grpc.remove(&id).and_then(|grpc| grpc.timer);
        self.cancel_timer(timer);
        Some(attempt)
    }
}

impl Grpc {
    fn say(&mut self, data: Bytes, end: bool, now: UnixNanos) {
        if self.said_all.is_some() || self.remote_closed {
            return;
        }
        self.said_all = end.then_some(now);
        self.outgoing.push_back((data, end));
    }
}

impl Worker {
    /// The guest has returned: what it said goes off.
    pub(crate) fn flush_grpc(&mut self, id: GrpcId) {
        let (attempt, pending) = {
            let mut shared = self.shared.borrow_mut();
            let Some(grpc) = shared.grpc.get_mut(&id) else { return };
            (grpc.attempt, grpc.pending.take())
        };
        if let Some(Pending { cluster, host, headers }) = pending {
            self.begin_attempt(attempt, Owner::Grpc(id), cluster, host, 1);
            if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&attempt) {
                stream.request.headers = Some(headers);
            }
            self.pass_headers(attempt, Way::Request, self.first(attempt, Way::Request), false);
        }
        loop {
            let next = {
                let mut shared = self.shared.borrow_mut();
                shared.grpc.get_mut(&id).and_then(|grpc| grpc.outgoing.pop_front())
            };
            let Some((data, end)) = next else { return };
            self.feed_attempt(attempt, data, end);
        }
    }

    /// A piece of the server's response.
    pub(crate) fn grpc_response(&mut self, id: GrpcId, part: ResponsePart) {
        match part {
            ResponsePart::Headers(mut headers, end) => {
                self.note_grpc_headers(id, &mut headers);
                self.grpc_headers(id, headers, end, VIA_UPSTREAM);
            }
            ResponsePart::Data(data, end) => self.grpc_data(id, &data, end),
            ResponsePart::Trailers(trailers) => self.grpc_trailers(id, trailers, VIA_UPSTREAM),
        }
    }

    /// A reply made here stands for the server's: all of it is in its headers.
    pub(crate) fn grpc_replied(&mut self, id: GrpcId, reply: LocalReply) {
        let details = reply.details.clone();
        let (headers, _) = grpc_reply(reply);
        self.grpc_headers(id, headers, true, &details);
    }

    /// The transport failed.
    pub(crate) fn grpc_reset(&mut self, id: GrpcId, broken: &Broken, began: bool) {
        if began {
            let details = format!("upstream_reset_after_response_started{{{}}}", broken.token);
            self.grpc_error(id, 13, &details);
        } else {
            let body = broken.body(false);
            self.grpc_replied(id, reply(broken.status(), &body, &broken.details()));
        }
    }

    pub(crate) fn on_grpc_timeout(&mut self, id: GrpcId) {
        let (attempt, began) = {
            let mut shared = self.shared.borrow_mut();
            let Some(grpc) = shared.grpc.get_mut(&id) else { return };
            grpc.timer = None;
            let pair = (grpc.attempt, grpc.began);
            let cluster = shared.streams.get(&pair.0).and_then(|s| s.info.cluster.as_ref());
            if let Some(cluster) = cluster {
                cluster.stats.rq_timeout.inc();
            }
            pair
        };
        self.cancel_attempt(attempt);
        if began {
            self.grpc_error(id, 13, "response_timeout");
        } else {
            self.grpc_replied(id, reply(504, "upstream request timeout", "response_timeout"));
        }
        self.run_deferred();
    }

    /// Ends the calls of a root that is going away, or of all roots of its VM.
    pub(crate) fn drop_grpc_of(&mut self, vm: usize, root: Option<u32>) {
        let mut ids: Vec<(GrpcId, u32)> = {
            let shared = self.shared.borrow();
            let own = shared
                .grpc
                .iter()
                .filter(|(id, grpc)| id.vm == vm && root.is_none_or(|root| grpc.root == root));
            own.map(|(id, grpc)| (*id, grpc.root)).collect()
        };
        ids.sort_unstable();
        for (id, root) in ids {
            let attempt = self.shared.borrow_mut().grpc_forget(id, root);
            if let Some(attempt) = attempt {
                self.cancel_attempt(attempt);
            }
        }
    }

    /// Counts the response, and adds how long it took once the guest had said all.
    fn note_grpc_headers(&self, id: GrpcId, headers: &mut Headers) {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now();
        let Some(grpc) = shared.grpc.get_mut(&id) else { return };
        grpc.began = true;
        let attempt = grpc.attempt;
        if let Some(said_all) = grpc.said_all {
            let waited = millis(said_all, now).to_string();
            headers.set_static("x-envoy-upstream-service-time", waited);
        }
        let stream = shared.streams.get(&attempt);
        if let Some(cluster) = stream.and_then(|stream| stream.info.cluster.as_ref()) {
            cluster.count_status(self.engine.stats(), headers.status().unwrap_or(0));
        }
    }

    fn grpc_headers(&mut self, id: GrpcId, headers: Headers, end: bool, details: &str) {
        let status = headers.status().unwrap_or(0);
        let trailers_only = end && (status == 200 || status_of(&headers).0.is_some());
        if trailers_only {
            self.grpc_initial(id, Headers::new());
            self.grpc_trailers(id, headers, details);
        } else if status != 200 {
            self.grpc_initial(id, Headers::new());
            self.grpc_error(id, http_to_grpc(status), details);
        } else {
            self.grpc_initial(id, headers);
        }
    }

    fn grpc_data(&mut self, id: GrpcId, data: &[u8], end: bool) {
        let frames = {
            let mut shared = self.shared.borrow_mut();
            let Some(grpc) = shared.grpc.get_mut(&id) else { return };
            grpc.decoder.decode(data)
        };
        let frames = match frames {
            Ok(frames) => frames,
            Err(frame::FrameError::Malformed) => return self.grpc_error(id, 13, VIA_UPSTREAM),
            Err(frame::FrameError::TooLong) => return self.grpc_error(id, 8, VIA_UPSTREAM),
        };
        for frame in frames {
            // Envoy offers no compression, so it takes none.
            if frame.compressed {
                return self.grpc_error(id, 13, VIA_UPSTREAM);
            }
            self.grpc_message(id, frame.message);
        }
        if end {
            self.grpc_error(id, 2, VIA_UPSTREAM);
        }
    }

    fn grpc_message(&mut self, id: GrpcId, message: Bytes) {
        let root = {
            let mut shared = self.shared.borrow_mut();
            let Some(grpc) = shared.grpc.get_mut(&id).filter(|grpc| !grpc.remote_closed) else {
                return;
            };
            if grpc.kind == Kind::Call {
                grpc.message = Some(message);
                return;
            }
            grpc.root
        };
        self.grpc_receive(id, root, message);
    }

    fn grpc_trailers(&mut self, id: GrpcId, trailers: Headers, details: &str) {
        let (code, message) = status_of(&trailers);
        self.grpc_trailing(id, trailers);
        self.grpc_close(id, code.unwrap_or(2), enhanced(&message, details));
    }

    /// The response is of no use.
    fn grpc_error(&mut self, id: GrpcId, code: u32, details: &str) {
        self.grpc_trailing(id, Headers::new());
        self.grpc_close(id, code, details.to_owned());
    }

    fn grpc_initial(&mut self, id: GrpcId, headers: Headers) {
        let Some(root) = self.open_stream(id) else { return };
        let count = headers.len() as u32;
        let view = GrpcView { root, initial: Some(headers), ..GrpcView::default() };
        let name = "proxy_on_grpc_receive_initial_metadata";
        self.grpc_callback(id, root, view, name, |store, exports| {
            exports.grpc_initial_metadata.as_ref().map(|f| f.call(store, (root, id.token, count)))
        });
    }

    fn grpc_trailing(&mut self, id: GrpcId, trailers: Headers) {
        let Some(root) = self.open_stream(id) else { return };
        let count = trailers.len() as u32;
        let view = GrpcView { root, trailing: Some(trailers), ..GrpcView::default() };
        let name = "proxy_on_grpc_receive_trailing_metadata";
        self.grpc_callback(id, root, view, name, |store, exports| {
            exports.grpc_trailing_metadata.as_ref().map(|f| f.call(store, (root, id.token, count)))
        });
    }

    fn grpc_receive(&mut self, id: GrpcId, root: u32, message: Bytes) {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let view = GrpcView { root, message: Some(message), ..GrpcView::default() };
        self.grpc_callback(id, root, view, "proxy_on_grpc_receive", |store, exports| {
            exports.grpc_receive.as_ref().map(|f| f.call(store, (root, id.token, len)))
        });
    }

    /// The end, as the guest sees it: of a call that went well, its message.
    fn grpc_close(&mut self, id: GrpcId, code: u32, message: String) {
        let (attempt, root, kind, answer) = {
            let mut shared = self.shared.borrow_mut();
            let Some(grpc) = shared.grpc.get_mut(&id).filter(|grpc| !grpc.remote_closed) else {
                return;
            };
            grpc.remote_closed = true;
            let found = (grpc.attempt, grpc.root, grpc.kind, grpc.message.take());
            let timer = grpc.timer.take();
            grpc.outgoing.clear();
            if found.2 == Kind::Call {
                shared.grpc.remove(&id);
            }
            shared.cancel_timer(timer);
            found
        };
        self.cancel_attempt(attempt);
        match (kind, code, answer) {
            (Kind::Call, 0, Some(answer)) => self.grpc_receive(id, root, answer),
            (Kind::Call, 0, None) => self.grpc_closed(id, root, 13, String::new()),
            _ => self.grpc_closed(id, root, code, message),
        }
        let mut shared = self.shared.borrow_mut();
        if shared.grpc.get(&id).is_some_and(|grpc| grpc.local_closed) {
            shared.grpc.remove(&id);
        }
    }

    /// Runs `on_grpc_close`; for a call that never began, too.
    pub(crate) fn grpc_closed(&mut self, id: GrpcId, root: u32, code: u32, message: String) {
        let name = "proxy_on_grpc_close";
        let Some(vm) = self.vm(id.vm).filter(|vm| vm.generation == id.generation) else { return };
        if vm.exports.has(name) {
            vm.store.data_mut().status = (code, Cow::Owned(message));
        }
        self.grpc_callback(id, root, GrpcView::default(), name, |store, exports| {
            exports.grpc_close.as_ref().map(|f| f.call(store, (root, id.token, code)))
        });
        if let Some(vm) = self.vm(id.vm) {
            vm.store.data_mut().status.1 = Cow::Borrowed("");
        }
    }

    /// The root of a stream that still has something to hear.
    fn open_stream(&self, id: GrpcId) -> Option<u32> {
        let shared = self.shared.borrow();
        let grpc = shared.grpc.get(&id)?;
        (grpc.kind == Kind::Stream && !grpc.remote_closed).then_some(grpc.root)
    }

    fn grpc_callback(
        &mut self,
        id: GrpcId,
        root: u32,
        view: GrpcView,
        name: &'static str,
        run: impl FnOnce(&mut Store<VmState>, &Exports) -> Option<wasmtime::Result<()>>,
    ) {
        let Some(vm) = self.vm(id.vm).filter(|vm| vm.generation == id.generation) else { return };
        vm.store.data_mut().grpc = view;
        let _ = vm.invoke(root, Callback::Other, name, run);
        vm.store.data_mut().grpc = GrpcView::default();
        self.run_deferred();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_takes_coarser_units_when_it_does_not_fit() {
        let value = |ms| timeout_value(Duration::from_millis(ms));
        assert_eq!(value(0), "0m");
        assert_eq!(value(99_999_999), "99999999m");
        assert_eq!(value(123_456_789), "123456S");
        assert_eq!(value(u64::from(u32::MAX) * 1000), "71582788M");
    }

    #[test]
    fn details_stand_in_braces_unless_there_is_nothing_else() {
        assert_eq!(enhanced("no way", "via_upstream"), "no way{via_upstream}");
        assert_eq!(enhanced("", "via_upstream"), "via_upstream");
        assert_eq!(enhanced("Cluster not available", ""), "Cluster not available");
    }

    #[test]
    fn a_status_that_grpc_does_not_know_is_minus_one() {
        let status = |text: &str| status_of(&Headers::from_pairs([("grpc-status", text)])).0;
        assert_eq!([status("0"), status("16")], [Some(0), Some(16)]);
        assert_eq!([status("17"), status("x")], [Some(u32::MAX), Some(u32::MAX)]);
        assert_eq!(status(""), None);
    }
}
