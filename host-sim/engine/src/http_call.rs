//! Plugins' HTTP calls: one attempt each, no route, no retry.
//!
//! What the guest sees of a failure is Envoy's and surprises: a refused connection or a timeout is
//! a *response* (503, 504) made here, with headers and a body; only a response that breaks off
//! half-way arrives as a callback without headers.

use crate::Headers;
use crate::attempt::ResponsePart;
use crate::buffer::Buffer;
use crate::cluster::Cluster;
use crate::host_selection::{Wish, millis};
use crate::load_balancer::OverrideWalk;
use crate::local_reply::http_reply;
use crate::router::{Broken, reply};
use crate::stream::{LocalReply, Owner, Way};
use crate::thread_state::{Call, CallResponse, ThreadState};
use crate::timer::Timer;
use crate::vm::Callback;
use crate::worker::Turn;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A checked `proxy_http_call`.
pub(crate) struct CallRequest {
    pub(crate) vm: usize,
    pub(crate) generation: u64,
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) timeout: Option<Duration>,
}

/// Longest body a call collects; beyond it the call ends as if the connection had broken. Envoy's
/// `http.async_response_buffer_limit`.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;

/// `proxy_get_status` after a response that broke off.
const BROKEN_CONNECTION: (u32, &str) = (11, "reset");

/// Chooses an endpoint and notes the call; `None`: there is none, and no callback will come.
pub(crate) fn begin(
    shared: &mut ThreadState,
    cluster: &Arc<Cluster>,
    mut request: CallRequest,
) -> Option<u64> {
    let now = shared.now();
    let ThreadState { selectors, rng, .. } = shared;
    amend(&mut request);
    let mut walk = OverrideWalk::default();
    let wish = Wish {
        headers: &request.headers,
        walk: &mut walk,
        tried: &[],
        reselections: 0,
        original_dst: None,
        session: None,
    };
    let host = selectors.get_mut(cluster.index())?.choose(cluster, wish, rng);
    let Some(host) = host else {
        cluster.stats.cx_none_healthy.inc();
        return None;
    };
    if !cluster.has_room() {
        cluster.stats.rq_pending_overflow.inc();
        return None;
    }
    let (call, attempt) = (shared.fresh_id(), shared.fresh_id());
    let timer = request.timeout.map(|t| shared.timers.set(now + t, Timer::CallTimeout { call }));
    let state = Call {
        vm: request.vm,
        generation: request.generation,
        root: request.root,
        token: request.token,
        attempt,
        timer,
        started: now,
        pending: Some(Pending {
            cluster: cluster.clone(),
            host,
            headers: request.headers,
            body: request.body,
        }),
        response: CallResponse::default(),
    };
    shared.calls.insert(call, state);
    Some(call)
}

/// What Envoy's async client adds.
fn amend(request: &mut CallRequest) {
    request.headers.set_static("x-envoy-internal", "true");
    if let Some(timeout) = request.timeout {
        let millis = timeout.as_millis().to_string();
        request.headers.set_static("x-envoy-expected-rq-timeout-ms", millis);
    }
    if !request.body.is_empty() {
        request.headers.set_static("content-length", request.body.len().to_string());
    }
    if !request.headers.contains(":scheme") {
        request.headers.set_static(":scheme", "http");
    }
}

/// A call that waits for its guest to return.
pub(crate) struct Pending {
    cluster: Arc<Cluster>,
    host: Arc<crate::cluster::LiveHost>,
    headers: Headers,
    body: Bytes,
}

impl Turn<'_> {
    /// The guest that made the call has returned: off it goes.
    pub(crate) fn start_call(&mut self, call: u64) {
        let (attempt, pending) = {
            let mut shared = self.shared.borrow_mut();
            let Some(state) = shared.calls.get_mut(&call) else { return };
            let Some(pending) = state.pending.take() else { return };
            (state.attempt, pending)
        };
        let Pending { cluster, host, headers, body } = pending;
        self.begin_attempt(attempt, Owner::Call(call), cluster, host, 1);
        let end = body.is_empty();
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&attempt) {
            stream.request.headers = Some(headers);
            stream.request.observed_end = end;
        }
        self.pass_headers(attempt, Way::Request, self.first(attempt, Way::Request), end);
        if !body.is_empty() {
            self.feed_attempt(attempt, body, true);
        }
    }

    /// A piece of the response.
    pub(crate) fn call_response(&mut self, call: u64, part: ResponsePart) {
        let (ended, too_long) = {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(state) = shared.calls.get_mut(&call) else { return };
            let response = &mut state.response;
            let ended = match part {
                ResponsePart::Headers(mut headers, end) => {
                    let waited = millis(state.started, now).to_string();
                    headers.set_static("x-envoy-upstream-service-time", waited);
                    response.headers = Some(headers);
                    end
                }
                ResponsePart::Data(data, end) => {
                    response.body.push(data);
                    end
                }
                ResponsePart::Trailers(trailers) => {
                    response.trailers = Some(trailers);
                    true
                }
            };
            (ended, response.body.len() > MAX_RESPONSE_BYTES)
        };
        if too_long {
            if let Some(attempt) = self.attempt_of(call) {
                self.cancel_attempt(attempt);
            }
            self.finish_call(call, true);
        } else if ended {
            self.count_call(call);
            self.finish_call(call, false);
        }
    }

    /// A response made here stands for the upstream's.
    pub(crate) fn call_replied(&mut self, call: u64, reply: &LocalReply) {
        let (headers, body) = http_reply(reply.clone());
        if let Some(state) = self.shared.borrow_mut().calls.get_mut(&call) {
            let body = Buffer::from(body);
            state.response = CallResponse { headers: Some(headers), body, trailers: None };
        }
        self.finish_call(call, false);
    }

    /// The transport failed: before headers a 503, afterwards a callback without anything.
    pub(crate) fn call_reset(&mut self, call: u64, broken: &Broken, began: bool) {
        if began {
            self.finish_call(call, true);
        } else {
            self.call_replied(call, &reply(broken.status(), &broken.body(false), ""));
        }
    }

    pub(crate) fn on_call_timeout(&mut self, call: u64) {
        let (attempt, began) = {
            let mut shared = self.shared.borrow_mut();
            let Some(state) = shared.calls.get_mut(&call) else { return };
            state.timer = None;
            let pair = (state.attempt, state.response.headers.is_some());
            if let Some(stream) = shared.streams.get(&pair.0)
                && let Some(cluster) = &stream.info.cluster
            {
                cluster.stats.rq_timeout.inc();
            }
            pair
        };
        self.cancel_attempt(attempt);
        if began {
            self.finish_call(call, true);
        } else {
            self.call_replied(call, &reply(504, "upstream request timeout", "response_timeout"));
        }
        self.run_deferred();
    }

    /// Nobody waits for the calls of a root (or a whole VM) that is gone.
    pub(crate) fn cancel_calls(&mut self, vm: usize, generation: u64, root: Option<u32>) {
        let gone: Vec<_> = {
            let mut shared = self.shared.borrow_mut();
            let of = |call: &Call| {
                call.vm == vm
                    && call.generation == generation
                    && root.is_none_or(|root| call.root == root)
            };
            let mut gone: Vec<_> = shared.calls.extract_if(|_, call| of(call)).collect();
            gone.sort_unstable_by_key(|(id, _)| *id);
            gone.iter().for_each(|(_, call)| shared.cancel_timer(call.timer));
            gone
        };
        for (_, call) in gone {
            self.cancel_attempt(call.attempt);
        }
    }

    fn attempt_of(&self, call: u64) -> Option<u64> {
        self.shared.borrow().calls.get(&call).map(|state| state.attempt)
    }

    fn count_call(&self, call: u64) {
        let shared = self.shared.borrow();
        let Some(state) = shared.calls.get(&call) else { return };
        let status = state.response.headers.as_ref().and_then(Headers::status).unwrap_or(0);
        let stream = shared.streams.get(&state.attempt);
        if let Some(cluster) = stream.and_then(|stream| stream.info.cluster.as_ref()) {
            cluster.count_status(self.engine.stats(), status);
        }
    }

    /// Runs `on_http_call_response` on the root that made the call.
    fn finish_call(&mut self, call: u64, broken: bool) {
        let state = {
            let mut shared = self.shared.borrow_mut();
            let Some(state) = shared.calls.remove(&call) else { return };
            shared.cancel_timer(state.timer);
            state
        };
        self.end_attempt(state.attempt, false);
        if self.guest.is_some() {
            // The hostcall that made the call has not returned yet, and answers that it failed.
            return;
        }
        let Some(vm) = self.vm(state.vm).filter(|vm| vm.generation == state.generation) else {
            return;
        };
        let response = if broken { CallResponse::default() } else { state.response };
        let len = |headers: &Option<Headers>| headers.as_ref().map_or(0, |h| h.len() as u32);
        let (headers, trailers) = (len(&response.headers), len(&response.trailers));
        let body = u32::try_from(response.body.len()).unwrap_or(u32::MAX);
        let data = vm.store.data_mut();
        data.call_response = Some(response);
        data.status = if broken {
            (BROKEN_CONNECTION.0, Cow::Borrowed(BROKEN_CONNECTION.1))
        } else {
            (data.status.0, Cow::Borrowed(""))
        };
        let (root, token) = (state.root, state.token);
        let name = "proxy_on_http_call_response";
        let _ = self.invoke(state.vm, root, Callback::HttpCallResponse, name, |store, exports| {
            let callback = exports.http_call_response.as_ref()?;
            Some(callback.call(store, (root, token, headers, body, trailers)))
        });
        let Some(data) = self.state(state.vm) else { return };
        data.call_response = None;
        // The code is sticky, its text is not.
        data.status.1 = Cow::Borrowed("");
        self.run_deferred();
    }
}
