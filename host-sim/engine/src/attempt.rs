//! One try at one endpoint: the upstream chain, and what the driver reports about it.
//!
//! The same machine serves requests and plugins' HTTP calls. Filters of the cluster's upstream
//! chain get a context per attempt, with done and delete at its end and never a log.

use crate::cluster::{Cluster, LiveHost};
use crate::filter_state::FilterState;
use crate::flags::ResponseFlags;
use crate::host_selection::millis;
use crate::retry::Reset;
use crate::router::{Broken, reply};
use crate::stream::{Attempt, Half, Owner, Role, Stream, StreamInfo, Way};
use crate::worker::Turn;
use crate::{AttemptId, Headers, Output, UpstreamFailure, UpstreamFailureKind, UpstreamLink};
use bytes::Bytes;
use host_sim_bootstrap::UpstreamProtocol;
use std::sync::Arc;

impl Turn<'_> {
    /// The attempt has a connection. A driver that knows none need not tell: then what attributes
    /// say of it, `upstream.local_address` among them, does not exist.
    pub fn attempt_connected(&mut self, id: AttemptId, link: &UpstreamLink) {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now();
        let owner = match shared.streams.get_mut(&id.0).and_then(Stream::attempt) {
            Some(Attempt { owner: Owner::Exchange(exchange), .. }) => Some(*exchange),
            Some(_) => None,
            None => return,
        };
        for stream in [Some(id.0), owner].into_iter().flatten() {
            if let Some(stream) = shared.streams.get_mut(&stream) {
                stream.info.upstream_link = Some(link.clone());
                stream.info.upstream_ready = Some(now);
            }
        }
    }

    /// The upstream's response headers. Interim responses (1xx) are the driver's own affair.
    pub fn upstream_headers(&mut self, id: AttemptId, headers: Headers, end_stream: bool) {
        let id = id.0;
        if !self.receive(id, end_stream, |half| half.headers = Some(headers)) {
            return;
        }
        self.with_attempt(id, |attempt| attempt.response_started = true);
        self.pass_headers(id, Way::Response, self.first(id, Way::Response), end_stream);
        self.run_deferred();
    }

    /// More of the upstream's body.
    pub fn upstream_data(&mut self, id: AttemptId, data: Bytes, end_stream: bool) {
        let id = id.0;
        if !self.receive(id, end_stream, |half| half.in_flight = data.into()) {
            return;
        }
        self.pass_data(id, Way::Response, self.first(id, Way::Response), end_stream);
        self.run_deferred();
    }

    /// The upstream's trailers; the response ends here.
    pub fn upstream_trailers(&mut self, id: AttemptId, trailers: Headers) {
        let id = id.0;
        if !self.receive(id, true, |half| half.trailers = Some(trailers)) {
            return;
        }
        self.pass_trailers(id, Way::Response, self.first(id, Way::Response));
        self.run_deferred();
    }

    /// The attempt ended without a complete response.
    pub fn upstream_failed(&mut self, id: AttemptId, failure: UpstreamFailure) {
        let Some((owner, began, cluster)) = self.note_failure(id.0) else { return };
        let http1 = cluster.config().http.protocol == UpstreamProtocol::Http1;
        let broken = Broken::of(&failure, http1);
        self.note_transport_failure(id.0, &broken);
        match failure.kind {
            UpstreamFailureKind::ConnectFailure => cluster.stats.cx_connect_fail.inc(),
            UpstreamFailureKind::ConnectTimeout => {
                cluster.stats.cx_connect_fail.inc();
                cluster.stats.cx_connect_timeout.inc();
            }
            _ => cluster.stats.rq_rx_reset.inc(),
        }
        self.end_attempt(id.0, false);
        match owner {
            Owner::Exchange(exchange) => {
                self.note_transport_failure(exchange, &broken);
                let started = !matches!(
                    failure.kind,
                    UpstreamFailureKind::ConnectFailure | UpstreamFailureKind::ConnectTimeout
                );
                self.attempt_reset(exchange, Reset::Upstream(failure.kind), &broken, started);
            }
            Owner::Call(call) => self.call_reset(call, &broken, began),
            Owner::Grpc(id) => self.grpc_reset(id, &broken, began),
        }
        self.run_deferred();
    }

    /// Sets up an attempt's stream and counts it.
    pub(crate) fn begin_attempt(
        &mut self,
        id: u64,
        owner: Owner,
        cluster: Arc<Cluster>,
        host: Arc<LiveHost>,
        number: u32,
    ) {
        let filters = self.upstream_filters(cluster.index());
        cluster.count_request(number > 1, true);
        host.count(true);
        let mut shared = self.shared.borrow_mut();
        let now = shared.now();
        let info = StreamInfo {
            start: now,
            endpoint: Some(host.address),
            cluster: Some(cluster.clone()),
            ..StreamInfo::default()
        };
        let attempt = Attempt {
            owner,
            cluster,
            host,
            number,
            sent: false,
            response_ended: false,
            response_started: false,
        };
        let stream = Stream {
            role: Role::Attempt(Box::new(attempt)),
            filters,
            request: Half::default(),
            response: Half::default(),
            info,
            filter_state: FilterState::default(),
            logging: false,
        };
        shared.streams.insert(id, stream);
    }

    /// Request data for an attempt.
    pub(crate) fn feed_attempt(&mut self, id: u64, data: Bytes, end_stream: bool) {
        if self.observe_request(id, end_stream) && self.fill(id, Way::Request, data) {
            self.pass_data(id, Way::Request, self.first(id, Way::Request), end_stream);
        }
    }

    pub(crate) fn feed_attempt_trailers(&mut self, id: u64, trailers: Headers) {
        if self.observe_request(id, true) {
            if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
                stream.request.trailers = Some(trailers);
            }
            self.pass_trailers(id, Way::Request, self.first(id, Way::Request));
        }
    }

    /// The driver's part of an attempt: headers have passed the upstream filters.
    pub(crate) fn send_attempt(&mut self, id: u64, end_stream: bool) {
        if let Some(defect) = self.request_defect(id) {
            return self.refuse_request(id, &defect);
        }
        let shared = &mut *self.shared.borrow_mut();
        let now = shared.now();
        let owner = shared.request_owner(id);
        let headers = shared.streams.get(&owner).and_then(|stream| stream.request.headers.clone());
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        stream.info.upstream_first_tx = Some(now);
        let Some(attempt) = stream.attempt() else { return };
        if std::mem::replace(&mut attempt.sent, true) {
            return;
        }
        attempt.cluster.stats.rq_total.inc();
        let output = Output::StartAttempt {
            attempt: AttemptId(id),
            cluster: attempt.cluster.clone(),
            endpoint: attempt.host.address,
            headers: headers.unwrap_or_default(),
            end_stream,
            connect_timeout: attempt.cluster.config().connect_timeout,
        };
        if let Some(stream) = shared.streams.get_mut(&owner) {
            stream.info.upstream_first_tx = Some(now);
        }
        shared.outputs.push_back(output);
    }

    fn request_defect(&self, id: u64) -> Option<String> {
        let shared = self.shared.borrow();
        shared.streams.get(&shared.request_owner(id))?.request.headers.as_ref()?.request_defect()
    }

    /// A filter made headers that no codec can write.
    fn refuse_request(&mut self, id: u64, defect: &str) {
        let owner = self.shared.borrow().request_owner(id);
        self.flag(owner, ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
        let reason = defect.replace(' ', "_");
        let details = format!("filter_removed_required_request_headers{{{reason}}}");
        self.local_reply(id, reply(503, defect, &details));
    }

    /// Ends an attempt whose outcome nobody waits for.
    pub(crate) fn cancel_attempt(&mut self, id: u64) {
        self.end_attempt(id, true);
    }

    /// Tears an attempt down: contexts done and deleted, numbers counted back.
    pub(crate) fn end_attempt(&mut self, id: u64, cancel: bool) {
        let filters = {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.info.end = Some(now);
            let count = stream.filters.len();
            let Some(attempt) = stream.attempt() else { return };
            let due = cancel && attempt.sent && !attempt.response_ended;
            if due {
                attempt.cluster.stats.rq_tx_reset.inc();
                shared.outputs.push_back(Output::CancelAttempt { attempt: AttemptId(id) });
            }
            count
        };
        for filter in 0..filters {
            self.wasm_done(id, filter);
        }
        let mut shared = self.shared.borrow_mut();
        let Some(mut stream) = shared.streams.remove(&id) else { return };
        if let Some(attempt) = stream.attempt() {
            attempt.cluster.count_request(attempt.number > 1, false);
            attempt.host.count(false);
        }
        drop(shared);
        self.release_filters(&stream.filters);
    }

    /// Response headers, data or trailers have passed the upstream filters.
    pub(crate) fn attempt_response(&mut self, id: u64, part: ResponsePart) {
        let owner = {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(attempt) = stream.attempt() else { return };
            let owner = attempt.owner;
            if part.is_last() {
                attempt.response_ended = true;
            }
            if let Owner::Exchange(exchange) = owner
                && let Some(stream) = shared.streams.get_mut(&exchange)
                && part.is_last()
            {
                stream.info.upstream_last_rx = Some(now);
            }
            owner
        };
        match (owner, part) {
            (Owner::Exchange(exchange), ResponsePart::Headers(headers, end)) => {
                self.attempt_headers(exchange, id, headers, end);
            }
            (Owner::Exchange(exchange), ResponsePart::Data(data, end)) => {
                self.response_data(exchange, id, data, end);
            }
            (Owner::Exchange(exchange), ResponsePart::Trailers(trailers)) => {
                self.response_trailers(exchange, id, trailers);
            }
            (Owner::Call(call), part) => self.call_response(call, part),
            (Owner::Grpc(id), part) => self.grpc_response(id, part),
        }
    }

    fn response_data(&mut self, exchange: u64, attempt: u64, data: Bytes, end: bool) {
        if end {
            self.finish_response(exchange, attempt);
        }
        {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&exchange) else { return };
            stream.response.observed_end |= end;
            stream.response.in_flight = data.into();
        }
        self.pass_data(exchange, Way::Response, self.first(exchange, Way::Response), end);
    }

    fn response_trailers(&mut self, exchange: u64, attempt: u64, trailers: Headers) {
        self.finish_response(exchange, attempt);
        {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&exchange) else { return };
            stream.response.observed_end = true;
            stream.response.trailers = Some(trailers);
        }
        self.pass_trailers(exchange, Way::Response, self.first(exchange, Way::Response));
    }

    /// The upstream is done; the route's timeout with it.
    pub(crate) fn finish_response(&mut self, exchange: u64, attempt: u64) {
        self.end_attempt(attempt, false);
        let shared = &mut *self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&exchange).and_then(Stream::exchange) else {
            return;
        };
        stream.router.attempt = None;
        let timer = stream.router.route_timer.take();
        shared.cancel_timer(timer);
    }

    /// Notes a part of the response; false when nobody waits for it any more.
    fn receive(&self, id: u64, end: bool, put: impl FnOnce(&mut Half)) -> bool {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now();
        let Some(stream) = shared.streams.get_mut(&id) else { return false };
        stream.info.upstream_last_rx = Some(now);
        stream.response.observed_end |= end;
        put(&mut stream.response);
        let (owner, cluster, began) = match stream.attempt() {
            Some(attempt) => (attempt.owner, attempt.cluster.clone(), stream.info.start),
            None => return false,
        };
        if end {
            cluster.stats.rq_time.record(millis(began, now));
        }
        if let Owner::Exchange(exchange) = owner
            && let Some(stream) = shared.streams.get_mut(&exchange)
        {
            stream.info.upstream_first_rx.get_or_insert(now);
        }
        true
    }

    fn observe_request(&self, id: u64, end: bool) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return false };
        stream.request.observed_end |= end;
        true
    }

    fn note_transport_failure(&self, id: u64, broken: &Broken) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
            stream.info.transport_failure.clone_from(&broken.transport);
        }
    }

    fn note_failure(&self, id: u64) -> Option<(Owner, bool, Arc<Cluster>)> {
        let mut shared = self.shared.borrow_mut();
        let attempt = shared.streams.get_mut(&id)?.attempt()?;
        attempt.response_ended = true;
        Some((attempt.owner, attempt.response_started, attempt.cluster.clone()))
    }

    fn with_attempt(&self, id: u64, run: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) =
            self.shared.borrow_mut().streams.get_mut(&id).and_then(Stream::attempt)
        {
            run(attempt);
        }
    }
}

/// A piece of an upstream's response behind the upstream filters.
pub(crate) enum ResponsePart {
    Headers(Headers, bool),
    Data(Bytes, bool),
    Trailers(Headers),
}

impl ResponsePart {
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Self::Headers(_, end) | Self::Data(_, end) => *end,
            Self::Trailers(_) => true,
        }
    }
}
