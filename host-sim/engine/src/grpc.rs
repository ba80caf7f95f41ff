//! Plugins' gRPC calls and streams: one attempt each over the machinery of requests.
//!
//! What the guest sees was measured on Envoy, and surprises: a call that succeeds ends with its
//! message and nothing else, one that fails with a close and nothing else; whatever broke on the
//! way arrives as a gRPC status made here, with Envoy's details in braces behind the message; a
//! stream that the server has ended stays until the guest closes it.

mod frame;
mod request_headers;
mod response;
mod service;
mod status;

pub(crate) use service::{Parsed, Service, parse};
pub(crate) use status::http_to_grpc;

use crate::cluster::{Cluster, LiveHost};
use crate::host_selection::Wish;
use crate::load_balancer::OverrideWalk;
use crate::local_reply::grpc_reply;
use crate::router::{Broken, reply};
use crate::stream::{LocalReply, Owner, Way};
use crate::thread_state::ThreadState;
use crate::timer::{Timer, TimerId};
use crate::worker::Turn;
use crate::{Headers, UnixNanos};
use bytes::Bytes;
use frame::Decoder;
use request_headers::request_headers;
use status::{enhanced, status_of};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

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
        session: None,
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

/// The guest's side of a call, at the hostcalls.
impl ThreadState {
    /// The call of that number, if this root made it.
    fn grpc_of(&mut self, id: GrpcId, root: u32) -> Option<&mut Grpc> {
        self.grpc.get_mut(&id).filter(|grpc| grpc.root == root)
    }

    /// The cluster that a call goes to.
    pub(crate) fn grpc_cluster(&self, id: GrpcId) -> Option<Arc<Cluster>> {
        let grpc = self.grpc.get(&id)?;
        match &grpc.pending {
            Some(pending) => Some(pending.cluster.clone()),
            None => self.streams.get(&grpc.attempt)?.info.cluster.clone(),
        }
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

impl Turn<'_> {
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
}
