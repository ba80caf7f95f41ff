//! A downstream exchange from its first byte to its log.

use crate::attempt::ResponsePart;
use crate::connection_manager;
use crate::flags::ResponseFlags;
use crate::iteration::{DataStatus, HeadersStatus, TrailersStatus};
use crate::native_filter::Native;
use crate::router::reply;
use crate::stream::{Exchange, Half, Role, Stream, StreamInfo, Way};
use crate::worker::Turn;
use crate::{Downstream, ExchangeId, Headers, Output};
use bytes::Bytes;

impl Turn<'_> {
    /// A new request begins on a connection of listener number `listener`.
    pub fn start_exchange(&mut self, listener: usize, info: Downstream) -> ExchangeId {
        self.receive_posts();
        let filters = self.downstream_filters(listener);
        let mut filter_state = self.connection_state(listener, info.connection_id);
        let mut shared = self.shared.borrow_mut();
        let (id, now) = (shared.fresh_id(), shared.now());
        if let Some(kept) = shared.connections.get(&info.connection_id) {
            filter_state.extend(kept);
        }
        let exchange = Exchange::new(listener, info);
        let stream = Stream {
            role: Role::Exchange(Box::new(exchange)),
            filters,
            request: Half::default(),
            response: Half::default(),
            info: StreamInfo { start: now, ..StreamInfo::default() },
            filter_state,
            logging: false,
        };
        shared.streams.insert(id, stream);
        drop(shared);
        if let Some(stats) = self.http_stats(listener) {
            stats.rq_total.inc();
            stats.rq_active.add(1);
        }
        ExchangeId(id)
    }

    /// The request's headers, pseudo headers included.
    pub fn request_headers(&mut self, id: ExchangeId, mut headers: Headers, end_stream: bool) {
        let id = id.0;
        let refusal = {
            let shared = &mut *self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(exchange) = stream.exchange() else { return };
            let protocol = exchange.downstream.protocol;
            let refusal = connection_manager::refusal(&headers, protocol);
            let listener = self.engine.bootstrap().listeners.get(exchange.listener);
            if let Some(manager) = listener.and_then(|listener| listener.http()) {
                let downstream = &exchange.downstream;
                connection_manager::amend(&mut headers, manager, downstream, &mut shared.rng);
            }
            exchange.is_head = headers.get(":method") == Some(b"HEAD");
            exchange.is_grpc =
                headers.get("content-type").is_some_and(|t| t.starts_with(b"application/grpc"));
            stream.request.headers = Some(headers);
            stream.request.observed_end = end_stream;
            if end_stream {
                stream.info.request_complete = Some(now);
            }
            refusal
        };
        if let Some((reply, flags)) = refusal {
            self.flag(id, flags);
            return self.reply_past_filters(id, reply);
        }
        self.refresh_route(id);
        self.start_limits(id);
        self.pass_headers(id, Way::Request, self.first(id, Way::Request), end_stream);
        self.run_deferred();
    }

    /// More of the request's body.
    pub fn request_data(&mut self, id: ExchangeId, data: Bytes, end_stream: bool) {
        let id = id.0;
        {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.info.request_bytes += data.len() as u64;
            if end_stream {
                stream.info.request_complete = Some(now);
            }
            stream.request.observed_end |= end_stream;
            if let Some(exchange) = stream.exchange() {
                exchange.limits.touch(now);
            }
            if stream.request.aborted || stream.exchange().is_none_or(|e| e.response_ended) {
                return;
            }
            stream.request.in_flight = data.into();
        }
        self.pass_data(id, Way::Request, self.first(id, Way::Request), end_stream);
        self.run_deferred();
    }

    /// The request's trailers; it ends here.
    pub fn request_trailers(&mut self, id: ExchangeId, trailers: Headers) {
        let id = id.0;
        {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.info.request_complete = Some(now);
            stream.request.observed_end = true;
            if let Some(exchange) = stream.exchange() {
                exchange.limits.touch(now);
            }
            if stream.request.aborted || stream.exchange().is_none_or(|e| e.response_ended) {
                return;
            }
            stream.request.trailers = Some(trailers);
        }
        self.pass_trailers(id, Way::Request, self.first(id, Way::Request));
        self.run_deferred();
    }

    /// The client went away.
    pub fn downstream_reset(&mut self, id: ExchangeId) {
        let id = id.0;
        {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            if stream.exchange().is_none_or(|e| !e.response_ended) {
                stream.info.flags |= ResponseFlags::DOWNSTREAM_DISCONNECT;
                stream.info.details = Some("downstream_remote_disconnect".to_owned());
            }
        }
        self.finish_exchange(id);
    }

    /// The connection is closed: what filter state it kept is gone.
    pub fn connection_closed(&mut self, connection_id: u64) {
        self.shared.borrow_mut().connections.remove(&connection_id);
    }

    /// The last byte of the response went to the codec: logs run now.
    pub fn downstream_complete(&mut self, id: ExchangeId) {
        self.finish_exchange(id.0);
    }

    /// Ends an exchange without a (complete) response.
    pub(crate) fn reset_exchange(&mut self, id: u64) {
        {
            let mut shared = self.shared.borrow_mut();
            if shared.streams.get_mut(&id).is_none_or(|stream| stream.exchange().is_none()) {
                return;
            }
            shared.outputs.push_back(Output::ResetExchange { exchange: ExchangeId(id) });
        }
        self.finish_exchange(id);
    }

    /// Logs in chain order, then done and delete; then nothing is left of the exchange.
    fn finish_exchange(&mut self, id: u64) {
        self.drop_attempt(id);
        let (count, listener) = {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.info.end = Some(now);
            stream.logging = true;
            let count = stream.filters.len();
            let Some(exchange) = stream.exchange() else { return };
            let (listener, timers) = (exchange.listener, exchange.limits.take_timers());
            timers.into_iter().for_each(|timer| shared.cancel_timer(timer));
            (count, listener)
        };
        self.refresh_route(id);
        for filter in 0..count {
            self.wasm_log(id, filter);
        }
        self.write_access_logs(id, listener);
        // What on_log could read is gone by now.
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
            stream.logging = false;
        }
        for filter in 0..count {
            self.wasm_done(id, filter);
        }
        let mut gone = self.shared.borrow_mut().streams.remove(&id);
        let filters = gone.as_mut().map(|stream| std::mem::take(&mut stream.filters));
        let filters = filters.unwrap_or_default();
        if let (Some(stream), Some(stats)) = (gone, self.http_stats(listener)) {
            stats.rq_active.add(-1);
            if let Some(end) = stream.info.end {
                stats.rq_time.record(crate::host_selection::millis(stream.info.start, end));
            }
        }
        self.release_filters(&filters);
    }

    /// One filter's headers callback.
    pub(crate) fn filter_headers(
        &mut self,
        id: u64,
        filter: usize,
        way: Way,
        end_stream: bool,
    ) -> HeadersStatus {
        match self.native(id, filter) {
            None => self.wasm_headers(id, filter, way, end_stream),
            Some(native) => self.native_headers(id, filter, &native, way),
        }
    }

    /// One filter's body callback.
    pub(crate) fn filter_data(
        &mut self,
        id: u64,
        filter: usize,
        way: Way,
        end_stream: bool,
    ) -> DataStatus {
        match self.native(id, filter) {
            None => self.wasm_data(id, filter, way, end_stream),
            Some(_) => DataStatus::Continue,
        }
    }

    /// One filter's trailers callback.
    pub(crate) fn filter_trailers(&mut self, id: u64, filter: usize, way: Way) -> TrailersStatus {
        match self.native(id, filter) {
            None => self.wasm_trailers(id, filter, way),
            Some(_) => TrailersStatus::Continue,
        }
    }

    fn native(&self, id: u64, filter: usize) -> Option<Native> {
        let shared = self.shared.borrow();
        shared.streams.get(&id)?.filters.get(filter)?.kind.native()
    }

    /// The end of a chain: router, codec, upstream request or driver.
    pub(crate) fn end_headers(&mut self, id: u64, way: Way, end_stream: bool) {
        match (way, self.is_attempt(id)) {
            (Way::Request, Some(false)) => self.route_request(id, end_stream),
            (Way::Request, Some(true)) => self.send_attempt(id, end_stream),
            (Way::Response, Some(false)) => self.send_headers(id, end_stream),
            (Way::Response, Some(true)) => {
                let headers = self.take_from(id, |half| half.headers.take());
                if let Some(headers) = headers {
                    self.attempt_response(id, ResponsePart::Headers(headers, end_stream));
                }
            }
            (_, None) => {}
        }
    }

    pub(crate) fn end_data(&mut self, id: u64, way: Way, end_stream: bool) {
        let Some(attempt) = self.is_attempt(id) else { return };
        let data = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.half(way).in_flight.take()
        };
        match (way, attempt) {
            (Way::Request, false) => self.route_data(id, data, end_stream),
            (Way::Request, true) => {
                let output =
                    Output::AttemptData { attempt: crate::AttemptId(id), data, end_stream };
                self.shared.borrow_mut().outputs.push_back(output);
            }
            (Way::Response, false) => self.send_data(id, data, end_stream),
            (Way::Response, true) => {
                self.attempt_response(id, ResponsePart::Data(data, end_stream));
            }
        }
    }

    pub(crate) fn end_trailers(&mut self, id: u64, way: Way) {
        let Some(attempt) = self.is_attempt(id) else { return };
        match (way, attempt) {
            (Way::Request, false) => self.route_trailers(id),
            (Way::Request, true) => {
                let mut shared = self.shared.borrow_mut();
                let trailers =
                    shared.streams.get(&id).and_then(|stream| stream.request.trailers.clone());
                let attempt = crate::AttemptId(id);
                let trailers = trailers.unwrap_or_default();
                shared.outputs.push_back(Output::AttemptTrailers { attempt, trailers });
            }
            (Way::Response, false) => self.send_trailers(id),
            (Way::Response, true) => {
                let trailers = self.take_from(id, |half| half.trailers.take());
                let trailers = trailers.unwrap_or_default();
                self.attempt_response(id, ResponsePart::Trailers(trailers));
            }
        }
    }

    fn send_headers(&mut self, id: u64, end_stream: bool) {
        if !self.has_status(id) {
            return self.refuse_response(id);
        }
        let shared = &mut *self.shared.borrow_mut();
        let now = shared.now();
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        let Some(headers) = stream.response.headers.as_mut() else { return };
        let Role::Exchange(exchange) = &mut stream.role else { return };
        exchange.limits.touch(now);
        let request_timer = exchange.limits.take_request_timer();
        if std::mem::replace(&mut exchange.response_started, true) {
            let text = "a filter resumed the response twice; Envoy would send its headers twice";
            return shared.log(crate::LogLevel::Error, None, text);
        }
        exchange.response_ended |= end_stream;
        let listener = exchange.listener;
        let found = self.engine.bootstrap().listeners.get(listener);
        if let Some(manager) = found.and_then(|found| found.http()) {
            let id_due = manager.always_set_request_id_in_response;
            let id = stream.request.headers.as_ref().filter(|_| id_due);
            let id = id.and_then(|headers| headers.value(b"x-request-id")).cloned();
            connection_manager::amend_response(headers, manager, id);
        }
        let status = headers.status();
        stream.info.code = status.or(stream.info.code);
        let headers = headers.clone();
        let exchange = ExchangeId(id);
        shared.cancel_timer(request_timer);
        shared.outputs.push_back(Output::ResponseHeaders { exchange, headers, end_stream });
        if let (Some(stats), Some(status)) = (self.http_stats(listener), status) {
            stats.count(status);
        }
    }

    /// Whether there is a status that a codec can write.
    fn has_status(&self, id: u64) -> bool {
        let shared = self.shared.borrow();
        let headers = shared.streams.get(&id).and_then(|stream| stream.response.headers.as_ref());
        headers.is_none_or(|headers| {
            headers.get_all(":status").count() == 1
                && headers.status().is_some_and(|status| (100..1000).contains(&status))
        })
    }

    /// A filter took the status away, or made it something else.
    fn refuse_response(&mut self, id: u64) {
        let details = "filter_removed_required_response_headers{missing_required_header:_:status}";
        self.reply_past_filters(id, reply(502, "missing required header: :status", details));
    }

    fn send_data(&mut self, id: u64, data: Bytes, end_stream: bool) {
        let mut shared = self.shared.borrow_mut();
        let now = shared.now();
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        stream.info.response_bytes += data.len() as u64;
        let Some(exchange) = stream.exchange() else { return };
        exchange.limits.touch(now);
        exchange.response_ended |= end_stream;
        let exchange = ExchangeId(id);
        shared.outputs.push_back(Output::ResponseData { exchange, data, end_stream });
    }

    fn send_trailers(&mut self, id: u64) {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        let trailers = stream.response.trailers.clone().unwrap_or_default();
        let Some(exchange) = stream.exchange() else { return };
        exchange.response_ended = true;
        let exchange = ExchangeId(id);
        shared.outputs.push_back(Output::ResponseTrailers { exchange, trailers });
    }

    fn is_attempt(&self, id: u64) -> Option<bool> {
        let shared = self.shared.borrow();
        shared.streams.get(&id).map(|stream| matches!(stream.role, Role::Attempt(_)))
    }

    fn take_from<R>(&self, id: u64, take: impl FnOnce(&mut Half) -> Option<R>) -> Option<R> {
        let mut shared = self.shared.borrow_mut();
        take(&mut shared.streams.get_mut(&id)?.response)
    }
}
