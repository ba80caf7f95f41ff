//! The driver: one heap of events, and the workers' outputs carried out.

use super::{Host, wire};
use crate::endpoint::{Behaviour, Failure};
use crate::grpc_answer::GrpcBegin;
use crate::request::text_pairs;
use crate::{Received, Reply, RequestId};
use bytes::Bytes;
use host_sim_engine::{
    AttemptId, Clock, ConnectionId, ExchangeId, Headers, Output, UnixNanos, UpstreamFailure,
    UpstreamLink, Worker,
};
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Our end of every connection to an endpoint.
pub(super) const LOCAL_END: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_000);

/// From a connection attempt to its refusal.
pub(super) const REFUSAL_LATENCY: Duration = Duration::from_micros(200);

/// An attempt under way.
pub(super) struct Attempt {
    endpoint: SocketAddr,
    head: Headers,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    connect_timeout: Duration,
    /// What the endpoint does: known when it begins to, of gRPC requests from the start.
    pub(super) behaviour: Option<Arc<Behaviour>>,
    /// When that is.
    begins: GrpcBegin,
    /// It has begun; where the endpoint noted the request.
    begun: Option<Option<usize>>,
}

/// Something that happens at a time. Equal times happen in the order they were scheduled.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) at: UnixNanos,
    sequence: u64,
    worker: usize,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Respond(AttemptId),
    /// The next message of a gRPC answer, or its status.
    SayGrpc(AttemptId, usize),
    /// A later chunk of a response's body.
    Chunk(AttemptId, usize),
    /// A later part of a request: a chunk of its body, or its trailers behind the last.
    Send(RequestId, usize),
    Abort(RequestId),
    TcpConnected(ConnectionId),
    TcpRefused(ConnectionId),
    TcpTimedOut(ConnectionId),
    TcpSends(ConnectionId, Vec<u8>, bool),
    TcpResets(ConnectionId),
}

impl Host {
    pub(super) fn run_until(&mut self, end: UnixNanos) {
        if self.crew.is_some() {
            self.run_on_stage(end, false);
            return;
        }
        while let Some(time) = self.next_time().filter(|time| *time <= end) {
            self.step(time);
        }
        self.clock.advance_to(end);
    }

    pub(super) fn next_time(&mut self) -> Option<UnixNanos> {
        let event = self.events.peek().map(|Reverse(event)| event.at);
        let deadlines = self.workers.iter_mut().filter_map(Worker::next_deadline);
        deadlines.chain(event).min()
    }

    /// Does what is due at `time`: events first, in the order they were scheduled, then timers.
    pub(super) fn step(&mut self, time: UnixNanos) {
        self.clock.advance_to(time);
        while let Some(Reverse(event)) = self.events.peek()
            && event.at <= self.clock.now()
        {
            if let Some(Reverse(event)) = self.events.pop() {
                self.happen(event);
            }
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].next_deadline().is_some_and(|due| due <= self.clock.now()) {
                self.workers[worker].on_deadline();
                self.drain(worker);
            }
        }
    }

    /// A worker as the engine names it: the main thread, which is the last, has no number.
    pub(super) fn number(&self, worker: usize) -> Option<u32> {
        u32::try_from(worker).ok().filter(|_| worker < self.workers())
    }

    pub(super) fn schedule(&mut self, after: Duration, worker: usize, what: What) {
        self.sequence += 1;
        let event = Event { at: self.clock.now() + after, sequence: self.sequence, worker, what };
        self.events.push(Reverse(event));
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event.what {
            What::Respond(attempt) => self.respond(event.worker, attempt),
            What::SayGrpc(attempt, step) => {
                if let Some(recorder) = &self.recorder {
                    recorder.answered(self.number(event.worker), attempt);
                }
                self.say_grpc(event.worker, attempt, step);
            }
            What::Chunk(attempt, at) => {
                if let Some(recorder) = &self.recorder {
                    recorder.answered(self.number(event.worker), attempt);
                }
                self.respond_chunk(event.worker, attempt, at);
            }
            What::Send(id, at) => self.send_from(event.worker, id, at),
            What::TcpConnected(id) => self.tcp_connected(event.worker, id),
            What::TcpRefused(id) => self.tcp_failed(event.worker, id, true),
            What::TcpTimedOut(id) => self.tcp_failed(event.worker, id, false),
            What::TcpSends(id, bytes, end) => self.upstream_sends(event.worker, id, bytes, end),
            What::TcpResets(id) => self.upstream_resets(event.worker, id),
            What::Abort(id) => {
                let sent = &mut self.requests[id.0];
                if !sent.complete {
                    sent.complete = true;
                    self.incomplete -= 1;
                    let (exchange, wire) = (sent.exchange, sent.wire);
                    if let Some(recorder) = &self.recorder {
                        recorder.aborted(self.number(event.worker), id.0);
                    }
                    match wire {
                        Some((connection, _)) => self.client_leaves(event.worker, connection),
                        None => self.workers[event.worker].downstream_reset(exchange),
                    }
                }
            }
        }
        self.drain(event.worker);
    }

    /// Carries out what a worker asks for, until it asks for nothing.
    pub(super) fn drain(&mut self, worker: usize) {
        while let Some(output) = self.workers[worker].poll_output() {
            if let Some(recorder) = &self.recorder {
                recorder.output(self.number(worker), &output);
            }
            let Some(output) = self.carry_out_behind(worker, output) else { continue };
            match output {
                Output::StartAttempt {
                    attempt,
                    endpoint,
                    headers,
                    end_stream,
                    connect_timeout,
                    ..
                } => {
                    let started = self.new_attempt(endpoint, headers, connect_timeout);
                    self.attempts.insert((worker, attempt), started);
                    self.attempt_progress(worker, attempt, Bytes::new(), end_stream);
                }
                Output::AttemptData { attempt, data, end_stream } => {
                    self.attempt_progress(worker, attempt, data, end_stream);
                }
                Output::AttemptTrailers { attempt, trailers } => {
                    if let Some(attempt) = self.attempts.get_mut(&(worker, attempt)) {
                        attempt.trailers = text_pairs(&trailers);
                    }
                    self.attempt_progress(worker, attempt, Bytes::new(), true);
                }
                Output::CancelAttempt { attempt } => {
                    self.attempts.remove(&(worker, attempt));
                }
                Output::ResponseHeaders { exchange, headers, end_stream } => {
                    self.response_headers(worker, exchange, &headers, end_stream);
                }
                Output::ResponseData { exchange, data, end_stream } => {
                    if self.history
                        && let Some(reply) = self.reply_of(worker, exchange)
                    {
                        reply.body.extend_from_slice(&data);
                    }
                    self.response_progress(worker, exchange, end_stream);
                }
                Output::ResponseTrailers { exchange, trailers } => {
                    if self.history
                        && let Some(reply) = self.reply_of(worker, exchange)
                    {
                        reply.trailers = text_pairs(&trailers);
                    }
                    self.response_progress(worker, exchange, true);
                }
                Output::ResetExchange { exchange } => self.response_reset(worker, exchange),
                other => self.carry_out_tcp(worker, other),
            }
        }
    }

    fn new_attempt(
        &mut self,
        endpoint: SocketAddr,
        head: Headers,
        connect_timeout: Duration,
    ) -> Attempt {
        let grpc = head.get("content-type").is_some_and(|t| t.starts_with(b"application/grpc"));
        let behaviour = grpc.then(|| {
            let path = head.get_str(":path").unwrap_or("/").to_owned();
            self.endpoints.with(|all| all.entry(endpoint).or_default().next(&path))
        });
        let answer = behaviour.as_ref().and_then(|behaviour| behaviour.grpc.as_ref());
        let begins = answer.map_or(GrpcBegin::End, |answer| answer.begins);
        let (body, trailers) = (Vec::new(), Vec::new());
        Attempt { endpoint, head, body, trailers, connect_timeout, behaviour, begins, begun: None }
    }

    /// Collects the request, and has the endpoint act when it is whole, or as soon as it likes.
    fn attempt_progress(&mut self, worker: usize, id: AttemptId, data: Bytes, end_stream: bool) {
        let Some(attempt) = self.attempts.get_mut(&(worker, id)) else { return };
        if let Some(noted) = attempt.begun {
            self.endpoints.with(|all| {
                let endpoint = all.get_mut(&attempt.endpoint);
                let received = endpoint.zip(noted).and_then(|(e, at)| e.received.get_mut(at));
                if let Some(received) = received {
                    received.body.extend_from_slice(&data);
                }
            });
            return;
        }
        attempt.body.extend_from_slice(&data);
        let due = end_stream
            || match attempt.begins {
                GrpcBegin::Headers => true,
                GrpcBegin::FirstMessage => !attempt.body.is_empty(),
                GrpcBegin::End => false,
            };
        if !due {
            return;
        }
        let path = attempt.head.get_str(":path").unwrap_or("/").to_owned();
        let history = self.history;
        let at = self.clock.elapsed();
        let (behaviour, noted) = self.endpoints.with(|all| {
            let endpoint = all.entry(attempt.endpoint).or_default();
            let behaviour = attempt.behaviour.take().unwrap_or_else(|| endpoint.next(&path));
            let unseen = behaviour.failure.is_some_and(Failure::is_before_request);
            let noted = (!unseen && history).then_some(endpoint.received.len());
            if noted.is_some() {
                endpoint.received.push(Received {
                    at,
                    path,
                    headers: text_pairs(&attempt.head),
                    body: std::mem::take(&mut attempt.body),
                    trailers: std::mem::take(&mut attempt.trailers),
                });
            }
            (behaviour, noted)
        });
        let after = match behaviour.failure {
            Some(Failure::Refuse) => REFUSAL_LATENCY,
            Some(Failure::ConnectTimeout) => attempt.connect_timeout,
            _ => behaviour.latency,
        };
        let hangs = behaviour.failure == Some(Failure::Hang);
        attempt.behaviour = Some(behaviour);
        attempt.begun = Some(noted);
        if !hangs {
            self.schedule(after, worker, What::Respond(id));
        }
    }

    /// The endpoint's response, or its beginning, unless the attempt was cancelled meanwhile.
    fn respond(&mut self, worker: usize, id: AttemptId) {
        let attempt = self.attempts.get(&(worker, id));
        let Some(behaviour) = attempt.and_then(|attempt| attempt.behaviour.clone()) else { return };
        if let Some(recorder) = &self.recorder {
            recorder.answered(self.number(worker), id);
        }
        let in_body = behaviour.failure.is_none_or(|failure| failure == Failure::ResetMidStream);
        if behaviour.grpc.is_some() && in_body {
            return self.say_grpc(worker, id, 0);
        }
        let mid_stream = behaviour.failure == Some(Failure::ResetMidStream);
        if let Some(failure) = behaviour.failure.filter(|_| !mid_stream) {
            self.fail_attempt(worker, id, failure);
            return;
        }
        let to = &mut self.workers[worker];
        let answer = &behaviour.answer;
        let status = answer.status.to_string();
        let head = std::iter::once((":status", status.as_str()));
        let others = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let last = answer.trailers.is_empty() && answer.chunks.is_empty() && !mid_stream;
        let ends = answer.body.is_empty() && last;
        to.attempt_connected(id, &UpstreamLink::plain(LOCAL_END));
        to.upstream_headers(id, Headers::from_pairs(head.chain(others)), ends);
        if !answer.body.is_empty() {
            to.upstream_data(id, Bytes::copy_from_slice(&answer.body), last);
        }
        self.respond_further(worker, id, &behaviour, 0);
    }

    /// A later chunk of the body.
    fn respond_chunk(&mut self, worker: usize, id: AttemptId, at: usize) {
        let attempt = self.attempts.get(&(worker, id));
        let Some(behaviour) = attempt.and_then(|attempt| attempt.behaviour.clone()) else { return };
        let answer = &behaviour.answer;
        let Some(chunk) = answer.chunks.get(at) else { return };
        let last = at + 1 == answer.chunks.len()
            && answer.trailers.is_empty()
            && behaviour.failure.is_none();
        self.workers[worker].upstream_data(id, Bytes::copy_from_slice(&chunk.data), last);
        self.respond_further(worker, id, &behaviour, at + 1);
    }

    /// What follows the part of the body before chunk `next`: that chunk, or the end.
    fn respond_further(
        &mut self,
        worker: usize,
        id: AttemptId,
        behaviour: &Behaviour,
        next: usize,
    ) {
        let answer = &behaviour.answer;
        if let Some(chunk) = answer.chunks.get(next) {
            self.schedule(chunk.after, worker, What::Chunk(id, next));
            return;
        }
        if let Some(failure) = behaviour.failure {
            self.fail_attempt(worker, id, failure);
            return;
        }
        self.attempts.remove(&(worker, id));
        if !answer.trailers.is_empty() {
            let trailers = answer.trailers.iter().map(|(name, value)| (name, value));
            self.workers[worker].upstream_trailers(id, Headers::from_pairs(trailers));
        }
    }

    fn fail_attempt(&mut self, worker: usize, id: AttemptId, failure: Failure) {
        self.attempts.remove(&(worker, id));
        if let Some((kind, detail)) = failure.kind() {
            let failure = UpstreamFailure { kind, detail: detail.to_owned() };
            self.workers[worker].upstream_failed(id, failure);
        }
    }

    /// Sends parts of a request from `at` on, until one comes later.
    pub(super) fn send_from(&mut self, worker: usize, id: RequestId, mut at: usize) {
        loop {
            let sent = &mut self.requests[id.0];
            let (exchange, wire, parts) = (sent.exchange, sent.wire, sent.parts.len());
            if sent.complete || at > parts {
                return;
            }
            let has_trailers = !sent.trailers.is_empty();
            if at == parts {
                if has_trailers {
                    let trailers = std::mem::take(&mut sent.trailers);
                    let trailers = Headers::from_pairs(trailers.iter().map(|(n, v)| (n, v)));
                    match wire {
                        Some((connection, chunked)) => {
                            let bytes = wire::end(&trailers, chunked);
                            self.client_sends(worker, connection, bytes);
                        }
                        None => self.workers[worker].request_trailers(exchange, trailers),
                    }
                    self.drain(worker);
                }
                return;
            }
            let data = std::mem::take(&mut sent.parts[at].1);
            let last = at + 1 == parts && !has_trailers;
            match wire {
                Some((connection, chunked)) => {
                    let mut bytes = wire::data(&data, chunked);
                    if last {
                        bytes.extend(wire::end(&Headers::new(), chunked));
                    }
                    self.client_sends(worker, connection, bytes);
                }
                None => self.workers[worker].request_data(exchange, data, last),
            }
            self.drain(worker);
            at += 1;
            let pause = self.requests[id.0].parts.get(at).map(|(after, _)| *after);
            if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                self.schedule(pause, worker, What::Send(id, at));
                return;
            }
        }
    }

    fn response_headers(
        &mut self,
        worker: usize,
        exchange: ExchangeId,
        headers: &Headers,
        end_stream: bool,
    ) {
        let Some(id) = self.by_exchange.get(&(worker, exchange)) else { return };
        let latency = self.clock.now().since(self.requests[id.0].at);
        let mut all = if self.history { text_pairs(headers) } else { Vec::new() };
        all.retain(|(name, _)| !name.starts_with(':'));
        self.requests[id.0].reply = Some(Reply {
            status: headers.status().unwrap_or(0),
            headers: all,
            body: Vec::new(),
            trailers: Vec::new(),
            reset: false,
            latency,
        });
        self.response_progress(worker, exchange, end_stream);
    }

    fn reply_of(&mut self, worker: usize, exchange: ExchangeId) -> Option<&mut Reply> {
        let id = self.by_exchange.get(&(worker, exchange))?;
        self.requests.get_mut(id.0)?.reply.as_mut()
    }

    fn response_progress(&mut self, worker: usize, exchange: ExchangeId, end_stream: bool) {
        if !end_stream {
            return;
        }
        self.complete(worker, exchange);
        self.workers[worker].downstream_complete(exchange);
    }

    fn response_reset(&mut self, worker: usize, exchange: ExchangeId) {
        match self.reply_of(worker, exchange) {
            Some(reply) => reply.reset = true,
            None => {
                if let Some(id) = self.by_exchange.get(&(worker, exchange)) {
                    self.requests[id.0].reply = Some(Reply {
                        status: 0,
                        headers: Vec::new(),
                        body: Vec::new(),
                        trailers: Vec::new(),
                        reset: true,
                        latency: Duration::ZERO,
                    });
                }
            }
        }
        self.complete(worker, exchange);
    }

    fn complete(&mut self, worker: usize, exchange: ExchangeId) {
        if let Some(id) = self.by_exchange.remove(&(worker, exchange)) {
            self.complete_request(id);
        }
    }

    /// A request has all of its response that it will ever have.
    pub(super) fn complete_request(&mut self, id: RequestId) {
        let now = self.clock.now();
        let sent = &mut self.requests[id.0];
        if !std::mem::replace(&mut sent.complete, true) {
            self.incomplete -= 1;
        }
        if let Some(reply) = &mut sent.reply {
            reply.latency = now.since(sent.at);
        }
    }
}
