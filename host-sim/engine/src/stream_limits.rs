//! How long an exchange may take: `stream_idle_timeout` (and the route's `idle_timeout`),
//! `request_timeout` and `max_stream_duration` of the connection manager.
//!
//! The idle timer is not moved when something moves: that would be a timer set and cancelled for
//! each chunk. It looks at the clock of the last movement when it fires, and sets itself again.
//!
//! What the client sees is Envoy's: 504 when its request was complete, 408 when it was not, and a
//! reset once response headers are out.

use crate::flags::ResponseFlags;
use crate::listener::HttpStats;
use crate::router::reply;
use crate::stream::Stream;
use crate::thread_state::ThreadState;
use crate::timer::{Timer, TimerId};
use crate::worker::Turn;
use crate::{Counter, Engine, UnixNanos};
use host_sim_bootstrap::RouteAction;
use std::time::Duration;

/// An exchange's timers.
#[derive(Default)]
pub(crate) struct Limits {
    idle: Option<Duration>,
    /// When something moved last.
    moved: UnixNanos,
    idle_timer: Option<TimerId>,
    request_timer: Option<TimerId>,
    duration_timer: Option<TimerId>,
}

impl Limits {
    /// Bytes went in or out.
    pub(crate) fn touch(&mut self, now: UnixNanos) {
        self.moved = now;
    }

    /// The request is complete, or its response has begun.
    pub(crate) fn take_request_timer(&mut self) -> Option<TimerId> {
        self.request_timer.take()
    }

    /// All timers, for an exchange that is over.
    pub(crate) fn take_timers(&mut self) -> [Option<TimerId>; 3] {
        [self.idle_timer.take(), self.request_timer.take(), self.duration_timer.take()]
    }
}

impl Turn<'_> {
    /// The request's headers are in: the limits begin.
    pub(crate) fn start_limits(&self, id: u64) {
        let shared = &mut *self.shared.borrow_mut();
        let now = shared.now();
        let ThreadState { streams, timers, .. } = shared;
        let Some(stream) = streams.get_mut(&id) else { return };
        let route_idle = route_idle(&self.engine, stream);
        let Some(exchange) = stream.exchange() else { return };
        let listener = self.engine.bootstrap().listeners.get(exchange.listener);
        let Some(manager) = listener.and_then(|listener| listener.http()) else { return };
        let mut set = |limit: Option<Duration>, timer| Some(timers.set(now + limit?, timer));
        let limits = &mut exchange.limits;
        limits.moved = now;
        limits.idle = route_idle.unwrap_or(manager.stream_idle_timeout);
        limits.idle_timer = set(limits.idle, Timer::StreamIdle { exchange: id });
        let timer = Timer::RequestTimeout { exchange: id };
        limits.request_timer = set(manager.request_timeout, timer);
        let timer = Timer::MaxStreamDuration { exchange: id };
        limits.duration_timer = set(manager.common.max_stream_duration, timer);
    }

    /// A route that was looked up anew may have another `idle_timeout`.
    pub(crate) fn refresh_idle_timeout(&self, id: u64) {
        let shared = &mut *self.shared.borrow_mut();
        let ThreadState { streams, timers, .. } = shared;
        let Some(stream) = streams.get_mut(&id) else { return };
        let Some(idle) = route_idle(&self.engine, stream) else { return };
        let Some(exchange) = stream.exchange() else { return };
        let limits = &mut exchange.limits;
        if limits.idle == idle {
            return;
        }
        limits.idle = idle;
        if let Some(old) = limits.idle_timer.take() {
            timers.cancel(old);
        }
        let timer = Timer::StreamIdle { exchange: id };
        limits.idle_timer = idle.map(|idle| timers.set(limits.moved + idle, timer));
    }

    pub(crate) fn on_stream_idle(&mut self, id: u64) {
        {
            let shared = &mut *self.shared.borrow_mut();
            let now = shared.now();
            let ThreadState { streams, timers, .. } = shared;
            let Some(stream) = streams.get_mut(&id) else { return };
            let Some(exchange) = stream.exchange() else { return };
            let limits = &mut exchange.limits;
            limits.idle_timer = None;
            let Some(idle) = limits.idle else { return };
            let due = limits.moved + idle;
            if due > now {
                limits.idle_timer = Some(timers.set(due, Timer::StreamIdle { exchange: id }));
                return;
            }
            stream.info.flags |= ResponseFlags::STREAM_IDLE_TIMEOUT;
        }
        self.count_limit(id, |stats| &stats.rq_idle_timeout);
        self.time_out(id, "stream timeout", "stream_idle_timeout");
    }

    pub(crate) fn on_request_timeout(&mut self, id: u64) {
        self.count_limit(id, |stats| &stats.rq_timeout);
        self.end_late(id, 408, "request timeout", "request_overall_timeout");
    }

    pub(crate) fn on_max_stream_duration(&mut self, id: u64) {
        self.count_limit(id, |stats| &stats.rq_max_duration_reached);
        self.time_out(id, "downstream duration timeout", "max_duration_timeout");
    }

    fn count_limit(&self, id: u64, counter: fn(&HttpStats) -> &Counter) {
        let mut shared = self.shared.borrow_mut();
        let exchange = shared.streams.get_mut(&id).and_then(Stream::exchange);
        if let Some(stats) = exchange.and_then(|exchange| self.http_stats(exchange.listener)) {
            counter(stats).inc();
        }
    }

    fn time_out(&mut self, id: u64, text: &str, details: &str) {
        let shared = self.shared.borrow();
        let complete = shared.streams.get(&id).is_some_and(|stream| stream.request.observed_end);
        drop(shared);
        self.end_late(id, if complete { 504 } else { 408 }, text, details);
    }

    fn end_late(&mut self, id: u64, status: u16, text: &str, details: &str) {
        let too_late = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(exchange) = stream.exchange() else { return };
            let too_late = exchange.response_started || exchange.replied;
            if too_late {
                stream.info.details = Some(details.to_owned());
            }
            too_late
        };
        if too_late {
            self.reset_exchange(id);
        } else {
            self.local_reply(id, reply(status, text, details));
        }
    }
}

/// The route's `idle_timeout`, if it has one; 0 s is off.
fn route_idle(engine: &Engine, stream: &mut Stream) -> Option<Option<Duration>> {
    let found = stream.info.route?;
    let listener = engine.bootstrap().listeners.get(stream.exchange()?.listener)?;
    match &crate::router::routed(&listener.http()?.route_config, found)?.route.action {
        RouteAction::Forward(forward) => {
            forward.idle_timeout.map(|idle| Some(idle).filter(|idle| !idle.is_zero()))
        }
        RouteAction::Respond(_) => None,
    }
}
