//! What comes back, piece by piece, and the callbacks in which the guest hears of it.
//!
//! Whether the server answered, a reply made here stands for it or the transport broke: all ways
//! lead through initial metadata, trailing metadata and the close, as Envoy's one client does it.

use super::frame::FrameError;
use super::status::{enhanced, http_to_grpc, status_of};
use super::{GrpcId, GrpcView, Kind};
use crate::Headers;
use crate::attempt::ResponsePart;
use crate::exports::Exports;
use crate::host_selection::millis;
use crate::local_reply::grpc_reply;
use crate::router::{Broken, reply};
use crate::stream::LocalReply;
use crate::thread_state::Deferred;
use crate::vm::{Callback, Entry};
use crate::worker::Turn;
use bytes::Bytes;
use std::borrow::Cow;

/// The details of an answer that came from the server.
const VIA_UPSTREAM: &str = "via_upstream";

impl Turn<'_> {
    /// A piece of the server's response. With the last of it the filters of the upstream are done,
    /// before the guest hears of it.
    pub(crate) fn grpc_response(&mut self, id: GrpcId, mut part: ResponsePart) {
        if let ResponsePart::Headers(headers, _) = &mut part {
            self.note_grpc_headers(id, headers);
        }
        let attempt = self.shared.borrow().grpc.get(&id).map(|grpc| grpc.attempt);
        if let Some(attempt) = attempt.filter(|_| part.is_last()) {
            self.cancel_attempt(attempt);
        }
        match part {
            ResponsePart::Headers(headers, end) => {
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
            Err(FrameError::Malformed) => return self.grpc_error(id, 13, VIA_UPSTREAM),
            Err(FrameError::TooLong) => return self.grpc_error(id, 8, VIA_UPSTREAM),
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
        let talks = |worker: &Self| {
            let shared = worker.shared.borrow();
            shared.grpc.get(&id).is_some_and(|grpc| grpc.said_all.is_none())
        };
        let talked = talks(self);
        self.grpc_trailing(id, trailers);
        if talked && !talks(self) {
            // Who ends a stream that is just ending resets it in Envoy, and hears so a second time.
            return self.grpc_error(id, 13, "upstream_reset_before_response_started");
        }
        self.grpc_close(id, code.unwrap_or(2), enhanced(&message, details));
    }

    /// The response is of no use. What is left of it is not waited for.
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

    /// The end, as the guest sees it: of a call that went well, its message. If there is still an
    /// upstream, its filters are done after that.
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
            // One that has its answer can still be named while the guest reads it.
            let answered = code == 0 && found.3.is_some();
            if found.2 == Kind::Call && !answered {
                shared.grpc.remove(&id);
            }
            shared.cancel_timer(timer);
            found
        };
        match (kind, code, answer) {
            (Kind::Call, 0, Some(answer)) => {
                self.grpc_receive(id, root, answer);
                self.shared.borrow_mut().grpc.remove(&id);
            }
            (Kind::Call, 0, None) => self.grpc_closed(id, root, 13, String::new()),
            _ => self.grpc_closed(id, root, code, message),
        }
        self.cancel_attempt(attempt);
        let mut shared = self.shared.borrow_mut();
        if shared.grpc.get(&id).is_some_and(|grpc| grpc.local_closed) {
            shared.grpc.remove(&id);
        }
    }

    /// Runs `on_grpc_close`; for a call that never began, too.
    pub(crate) fn grpc_closed(&mut self, id: GrpcId, root: u32, code: u32, message: String) {
        if self.guest.is_some() {
            let closed = Deferred::GrpcClosed { call: id, root, code, message };
            return self.late.push((id.vm, closed));
        }
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
        run: impl FnOnce(&mut Entry<'_>, &Exports) -> Option<wasmtime::Result<()>>,
    ) {
        let Some(state) = self.state(id.vm).filter(|state| state.generation == id.generation)
        else {
            return;
        };
        let outer = std::mem::replace(&mut state.grpc, view);
        let _ = self.invoke(id.vm, root, Callback::Other, name, run);
        if let Some(state) = self.state(id.vm) {
            state.grpc = outer;
        }
        self.run_deferred();
    }
}
