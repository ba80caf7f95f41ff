//! The router: the end of the downstream chain.
//!
//! Route, cluster, endpoint, attempt, and again: what `envoy.filters.http.router` does, with its
//! words for what went wrong. The local replies, flags and code details here are an interface:
//! plugins classify outcomes by them.

mod broken;
mod plan;

pub(crate) use broken::Broken;
pub(crate) use plan::routed;

use crate::buffer::Buffer;
use crate::cluster::{Cluster, LiveHost};
use crate::flags::ResponseFlags;
use crate::host_selection::{ORIGINAL_DST_KEY, Session, Wish};
use crate::iteration::BUFFER_LIMIT;
use crate::load_balancer::OverrideWalk;
use crate::retry::{Reset, RetryDecision, RetryState};
use crate::stream::{LocalReply, Owner, RouteRef, Stream, Way};
use crate::thread_state::ThreadState;
use crate::timer::{Timer, TimerId};
use crate::worker::Turn;
use crate::{Headers, route};
use bytes::Bytes;
use plan::{Plan, cluster_of, plan};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A request's way through the router.
#[derive(Default)]
pub(crate) struct Router {
    pub(crate) started: bool,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) retry: Option<RetryState>,
    walk: OverrideWalk,
    /// Where a session wants to go.
    pub(crate) session: Option<Session>,
    tried: Vec<SocketAddr>,
    reselections: u32,
    /// The attempt under way.
    pub(crate) attempt: Option<u64>,
    /// The request's body, kept while a retry may need it.
    body: Option<Buffer>,
    pub(crate) request_ended: bool,
    pub(crate) route_timer: Option<TimerId>,
    pub(crate) per_try_timer: Option<TimerId>,
    pub(crate) retry_timer: Option<TimerId>,
}

impl Turn<'_> {
    /// Looks the route up if the cache is empty; keeps attributes in step.
    pub(crate) fn refresh_route(&self, id: u64) -> Option<RouteRef> {
        let mut shared = self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id)?;
        let exchange = stream.exchange()?;
        if let Some(cached) = exchange.cached_route {
            return cached;
        }
        let table = &self.engine.bootstrap().listeners.get(exchange.listener)?.http()?.route_config;
        // Without this header Envoy finds no route: it takes the request for one it has refused.
        let headers = stream.request.headers.as_ref()?;
        let found = route::find(table, headers).filter(|_| headers.contains("x-forwarded-proto"));
        stream.info.route = found;
        stream.info.cluster = found.and_then(|found| routed(table, found)).and_then(|routed| {
            cluster_of(&self.engine, routed.route, stream.request.headers.as_ref()?)
        });
        stream.exchange()?.cached_route = Some(found);
        found
    }

    /// The request's headers have passed every filter.
    pub(crate) fn route_request(&mut self, id: u64, end_stream: bool) {
        let found = self.refresh_route(id);
        self.refresh_idle_timeout(id);
        let engine = self.engine.clone();
        let plan = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(exchange) = stream.exchange() else { return };
            if std::mem::replace(&mut exchange.router.started, true) {
                drop(shared);
                let text = "a filter resumed the request twice; Envoy would route it twice";
                self.shared.borrow().log(crate::LogLevel::Error, None, text);
                return;
            }
            exchange.router.request_ended = end_stream;
            let listener = exchange.listener;
            let routed = found.and_then(|found| {
                routed(&engine.bootstrap().listeners.get(listener)?.http()?.route_config, found)
            });
            match routed {
                None => Plan::Refuse(reply(404, "", "route_not_found"), ResponseFlags::NO_ROUTE),
                Some(routed) => plan(&engine, routed, stream),
            }
        };
        match plan {
            Plan::Forward(cluster) => self.forward(id, cluster, end_stream),
            Plan::Respond(response) => {
                let mut reply = reply(response.status, "", "direct_response");
                reply.body = response.body.into();
                self.local_reply(id, reply);
            }
            Plan::Refuse(reply, flags) => {
                self.flag(id, flags);
                self.local_reply(id, reply);
            }
        }
    }

    fn forward(&mut self, id: u64, cluster: Arc<Cluster>, end_stream: bool) {
        self.transform_request(id);
        {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let retries = stream.exchange().is_some_and(|e| e.router.retry.is_some());
            if let Some(exchange) = stream.exchange() {
                exchange.router.cluster = Some(cluster);
                exchange.router.body = (retries && !end_stream).then(Buffer::default);
            }
        }
        if end_stream {
            self.request_sent(id);
        }
        self.start_attempt(id);
    }

    /// The request is complete: the route's timeout runs from here.
    fn request_sent(&self, id: u64) {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now();
        let ThreadState { streams, timers, .. } = &mut *shared;
        let Some(exchange) = streams.get_mut(&id).and_then(Stream::exchange) else { return };
        if let Some(timer) = exchange.limits.take_request_timer() {
            timers.cancel(timer);
        }
        let router = &mut exchange.router;
        router.request_ended = true;
        if let Some(timeout) = router.timeout {
            router.route_timer =
                Some(timers.set(now + timeout, Timer::RouteTimeout { exchange: id }));
        }
        if let (Some(timeout), Some(_)) = (router.per_try_timeout, router.attempt) {
            let timer = Timer::PerTryTimeout { exchange: id };
            router.per_try_timer = Some(timers.set(now + timeout, timer));
        }
    }

    /// Chooses an endpoint and sends the request, or what there is of it.
    pub(crate) fn start_attempt(&mut self, id: u64) {
        let Some((cluster, host, number)) = self.choose_endpoint(id) else { return };
        let Some(host) = host else {
            cluster.stats.cx_none_healthy.inc();
            if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
                stream.info.attempts = number;
            }
            self.flag(id, ResponseFlags::NO_HEALTHY_UPSTREAM);
            return self.local_reply(id, reply(503, "no healthy upstream", "no_healthy_upstream"));
        };
        if !cluster.has_room() {
            cluster.stats.rq_pending_overflow.inc();
            return self.attempt_reset(id, Reset::Overflow, &Broken::overflow(), false);
        }
        let Some((attempt, end)) = self.note_attempt(id, host.address, number) else { return };
        self.count_attempt_header(id, number);
        self.begin_attempt(attempt, Owner::Exchange(id), cluster, host, number);
        self.pass_headers(attempt, Way::Request, self.first(attempt, Way::Request), end);
        if !end {
            self.replay(id, attempt);
        }
    }

    /// The cluster, its choice for the next attempt, and the attempt's number.
    fn choose_endpoint(&self, id: u64) -> Option<(Arc<Cluster>, Option<Arc<LiveHost>>, u32)> {
        let ThreadState { streams, selectors, rng, .. } = &mut *self.shared.borrow_mut();
        let stream = streams.get_mut(&id)?;
        let original = stream.filter_state(ORIGINAL_DST_KEY).cloned();
        let number = stream.info.attempts + 1;
        let headers = stream.request.headers.take()?;
        let chosen = stream.exchange().and_then(|exchange| {
            let router = &mut exchange.router;
            let cluster = router.cluster.clone()?;
            let wish = Wish {
                headers: &headers,
                walk: &mut router.walk,
                tried: if number > 1 { &router.tried } else { &[] },
                reselections: if number > 1 { router.reselections } else { 0 },
                original_dst: original.as_deref(),
                // A session is for the first attempt.
                session: router.session.filter(|_| number == 1),
            };
            let host = selectors.get_mut(cluster.index())?.choose(&cluster, wish, rng);
            Some((cluster, host, number))
        });
        stream.request.headers = Some(headers);
        chosen
    }

    /// Writes a new attempt down; its id, and whether its headers are all there is to send.
    fn note_attempt(&self, id: u64, endpoint: SocketAddr, number: u32) -> Option<(u64, bool)> {
        let mut shared = self.shared.borrow_mut();
        let (attempt, now) = (shared.fresh_id(), shared.now());
        let ThreadState { streams, timers, .. } = &mut *shared;
        let stream = streams.get_mut(&id)?;
        stream.info.attempts = number;
        stream.info.endpoint = Some(endpoint);
        stream.info.transport_failure = None;
        (stream.info.upstream_link, stream.info.upstream_ready) = (None, None);
        let trailers = stream.request.has_trailers();
        let router = &mut stream.exchange()?.router;
        router.attempt = Some(attempt);
        router.tried.push(endpoint);
        if let (Some(timeout), true) = (router.per_try_timeout, router.request_ended) {
            if let Some(old) = router.per_try_timer.take() {
                timers.cancel(old);
            }
            let timer = Timer::PerTryTimeout { exchange: id };
            router.per_try_timer = Some(timers.set(now + timeout, timer));
        }
        let body = router.body.as_ref().is_some_and(|body| !body.is_empty());
        Some((attempt, router.request_ended && !body && !trailers))
    }

    /// Gives a new attempt what has come of the request's body so far.
    fn replay(&mut self, id: u64, attempt: u64) {
        let (body, trailers, ended) = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let trailers = stream.request.trailers.clone();
            let Some(exchange) = stream.exchange() else { return };
            if exchange.router.attempt != Some(attempt) {
                return;
            }
            let body = exchange.router.body.as_ref().map(|body| body.read(0, body.len()));
            (body.unwrap_or_default(), trailers, exchange.router.request_ended)
        };
        let trailers = trailers.filter(|_| ended);
        if !body.is_empty() {
            self.feed_attempt(attempt, body, ended && trailers.is_none());
        }
        if let Some(trailers) = trailers {
            self.feed_attempt_trailers(attempt, trailers);
        }
    }

    /// More of the request's body has passed every filter.
    pub(crate) fn route_data(&mut self, id: u64, data: Bytes, end_stream: bool) {
        let (attempt, too_long) = {
            let mut shared = self.shared.borrow_mut();
            let Some(exchange) = shared.streams.get_mut(&id).and_then(Stream::exchange) else {
                return;
            };
            let router = &mut exchange.router;
            let mut too_long = false;
            if let Some(body) = &mut router.body {
                body.push(data.clone());
                // Too long to keep: from here on a failure is final.
                if body.len() > BUFFER_LIMIT {
                    router.body = None;
                    router.retry = None;
                    too_long = true;
                }
            }
            (router.attempt, too_long)
        };
        if too_long && attempt.is_none() {
            // Between two attempts there is nothing to pass the body on to.
            let text = "exceeded request buffer limit while retrying upstream";
            let details = "request_payload_exceeded_retry_buffer_limit";
            return self.local_reply(id, reply(507, text, details));
        }
        if end_stream {
            self.request_sent(id);
        }
        if let Some(attempt) = attempt {
            self.feed_attempt(attempt, data, end_stream);
        }
    }

    pub(crate) fn route_trailers(&mut self, id: u64) {
        self.request_sent(id);
        let attempt = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let trailers = stream.request.trailers.clone();
            stream.exchange().and_then(|e| e.router.attempt).zip(trailers)
        };
        if let Some((attempt, trailers)) = attempt {
            self.feed_attempt_trailers(attempt, trailers);
        }
    }

    /// An attempt of the exchange has response headers that passed the upstream filters.
    pub(crate) fn attempt_headers(&mut self, id: u64, attempt: u64, headers: Headers, end: bool) {
        let status = headers.status().unwrap_or(0);
        if let Some(after) = self.retry_after_response(id, &headers) {
            self.end_attempt(attempt, !end);
            return self.schedule_retry(id, after);
        }
        {
            let shared = &mut *self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let complete = stream.info.request_complete;
            let passed = stream.exchange().is_some_and(|exchange| exchange.router.request_ended);
            let since = complete.filter(|_| passed);
            stream.info.code = Some(status);
            stream.info.details = Some("via_upstream".to_owned());
            stream.response.headers = Some(headers);
            stream.response.observed_end = end;
            // Of a response that overtakes its request Envoy tells no time.
            if let (Some(headers), Some(since)) = (&mut stream.response.headers, since) {
                let waited = crate::host_selection::millis(since, now);
                headers.set_static("x-envoy-upstream-service-time", waited.to_string());
            }
            let first_try = stream.info.attempts == 1;
            let Some(exchange) = stream.exchange() else { return };
            // From the first byte on only the route's timeout counts.
            let timer = exchange.router.per_try_timer.take();
            if let Some(cluster) = &exchange.router.cluster {
                cluster.count_status(self.engine.stats(), status);
                if !first_try && status < 500 {
                    cluster.stats.rq_retry_success.inc();
                }
            }
            shared.cancel_timer(timer);
        }
        self.transform_response(id);
        if end {
            self.finish_response(id, attempt);
        }
        self.pass_headers(id, Way::Response, self.first(id, Way::Response), end);
    }

    fn retry_after_response(&mut self, id: u64, headers: &Headers) -> Option<Duration> {
        let shared = &mut *self.shared.borrow_mut();
        let draw = shared.rng.next();
        let stream = shared.streams.get_mut(&id)?;
        let router = &mut stream.exchange()?.router;
        let cluster = router.cluster.clone()?;
        let retry = router.retry.as_mut()?;
        let decision = retry.after_response(headers, cluster.has_retry_room(), draw);
        judge(decision, &cluster, stream)
    }

    /// An attempt ended without a usable response.
    pub(crate) fn attempt_reset(
        &mut self,
        id: u64,
        reset: Reset,
        broken: &Broken,
        request_started: bool,
    ) {
        let retry = {
            let shared = &mut *self.shared.borrow_mut();
            let draw = shared.rng.next();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let started = stream.response.headers.is_some();
            let Some(exchange) = stream.exchange() else { return };
            let router = &mut exchange.router;
            let cluster = router.cluster.clone();
            match (router.retry.as_mut(), cluster) {
                (Some(retry), Some(cluster)) if !started => {
                    let room = cluster.has_retry_room();
                    let decision = retry.after_reset(reset, request_started, room, draw);
                    judge(decision, &cluster, stream)
                }
                _ => None,
            }
        };
        match retry {
            Some(after) => self.schedule_retry(id, after),
            None => self.give_up(id, reset, broken),
        }
    }

    fn schedule_retry(&mut self, id: u64, after: Duration) {
        let shared = &mut *self.shared.borrow_mut();
        let at = shared.now() + after;
        let timer = shared.timers.set(at, Timer::Retry { exchange: id });
        let Some(exchange) = shared.streams.get_mut(&id).and_then(Stream::exchange) else { return };
        exchange.router.attempt = None;
        exchange.router.retry_timer = Some(timer);
        let old = exchange.router.per_try_timer.take();
        shared.cancel_timer(old);
    }

    /// No retry: tells the client what happened.
    fn give_up(&mut self, id: u64, reset: Reset, broken: &Broken) {
        self.flag(id, broken.flags);
        let (retried, response_begun) = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let begun = stream.response.headers.is_some();
            let retried = stream.info.attempts > 1;
            if let Some(exchange) = stream.exchange() {
                exchange.router.attempt = None;
            }
            if begun {
                let details = format!("upstream_reset_after_response_started{{{}}}", broken.token);
                stream.info.details = Some(details);
            }
            (retried, begun)
        };
        if response_begun {
            return self.reset_exchange(id);
        }
        if reset == Reset::PerTryTimeout {
            let reply = reply(504, "upstream request timeout", "upstream_per_try_timeout");
            return self.local_reply(id, reply);
        }
        let status = broken.status();
        let mut reply = reply(status, &broken.body(retried), &broken.details());
        if reset == Reset::Overflow {
            reply.headers.push(("x-envoy-overloaded".into(), "true".into()));
        }
        self.local_reply(id, reply);
    }

    pub(crate) fn on_route_timeout(&mut self, id: u64) {
        let begun = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.info.flags |= ResponseFlags::UPSTREAM_TIMEOUT;
            let begun = stream.response.headers.is_some();
            if begun {
                stream.info.details = Some("response_timeout".to_owned());
            }
            let Some(exchange) = stream.exchange() else { return };
            exchange.router.route_timer = None;
            if let Some(cluster) = &exchange.router.cluster {
                cluster.stats.rq_timeout.inc();
            }
            begun
        };
        self.drop_attempt(id);
        if begun {
            self.reset_exchange(id);
        } else {
            self.local_reply(id, reply(504, "upstream request timeout", "response_timeout"));
        }
    }

    pub(crate) fn on_per_try_timeout(&mut self, id: u64) {
        let attempt = {
            let mut shared = self.shared.borrow_mut();
            let Some(exchange) = shared.streams.get_mut(&id).and_then(Stream::exchange) else {
                return;
            };
            exchange.router.per_try_timer = None;
            if let Some(cluster) = &exchange.router.cluster {
                cluster.stats.rq_per_try_timeout.inc();
            }
            exchange.router.attempt.take()
        };
        let Some(attempt) = attempt else { return };
        self.end_attempt(attempt, true);
        self.attempt_reset(id, Reset::PerTryTimeout, &Broken::timeout(), true);
    }

    pub(crate) fn on_retry(&mut self, id: u64) {
        if let Some(exchange) =
            self.shared.borrow_mut().streams.get_mut(&id).and_then(Stream::exchange)
        {
            exchange.router.retry_timer = None;
        }
        self.start_attempt(id);
    }

    /// Stops all the router does for an exchange.
    pub(crate) fn drop_attempt(&mut self, id: u64) {
        let attempt = {
            let shared = &mut *self.shared.borrow_mut();
            let Some(exchange) = shared.streams.get_mut(&id).and_then(Stream::exchange) else {
                return;
            };
            let router = &mut exchange.router;
            let timers =
                [router.route_timer.take(), router.per_try_timer.take(), router.retry_timer.take()];
            let attempt = router.attempt.take();
            timers.into_iter().for_each(|timer| shared.cancel_timer(timer));
            attempt
        };
        if let Some(attempt) = attempt {
            self.cancel_attempt(attempt);
        }
    }
}

/// A reply of the router's.
pub(crate) fn reply(status: u16, body: &str, details: &str) -> LocalReply {
    let body = Bytes::copy_from_slice(body.as_bytes());
    LocalReply { status, body, details: details.to_owned(), ..LocalReply::default() }
}

/// Counts a decision; how long to wait before the retry, if there is one.
fn judge(decision: RetryDecision, cluster: &Cluster, stream: &mut Stream) -> Option<Duration> {
    match decision {
        RetryDecision::Retry { after } => {
            cluster.stats.rq_retry.inc();
            return Some(after);
        }
        RetryDecision::No => {}
        RetryDecision::LimitExceeded => {
            cluster.stats.rq_retry_limit_exceeded.inc();
            stream.info.flags |= ResponseFlags::RETRY_LIMIT_EXCEEDED;
        }
        RetryDecision::Overflow => {
            cluster.stats.rq_retry_overflow.inc();
            stream.info.flags |= ResponseFlags::UPSTREAM_OVERFLOW;
        }
    }
    None
}
