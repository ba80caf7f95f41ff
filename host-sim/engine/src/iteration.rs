//! How headers, data and trailers pass through a filter chain: Envoy's `FilterManager`.
//!
//! One set of rules for both directions (requests in order, responses backwards) and both chains.
//! They are Envoy's own, quirks included, because plugins depend on the quirks: a filter that
//! resumes inside of the callback that then returns Pause holds the body for ever; a body callback
//! that pauses sees everything held so far the next time; a reply sent by a filter ends the
//! request's iteration but runs through the response callbacks of filters that saw the request.

use crate::stream::{BodyView, Iteration, Way};
use crate::worker::Turn;

/// Bytes a stream may hold back in one direction: Envoy's default buffer limit.
pub(crate) const BUFFER_LIMIT: usize = 1024 * 1024;

/// What a filter's headers callback came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadersStatus {
    Continue,
    /// Hold the headers; body callbacks still come.
    Stop,
    /// Hold everything.
    StopAll,
}

/// What a filter's body callback came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataStatus {
    Continue,
    Buffer,
    /// Hold the end; the bytes themselves are gone.
    NoBuffer,
}

/// What a filter's trailers callback came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrailersStatus {
    Continue,
    Stop,
}

/// Where an iteration begins: a filter, or beyond the last one.
pub(crate) type Start = Option<usize>;

impl Turn<'_> {
    /// The first filter of a direction.
    pub(crate) fn first(&self, id: u64, way: Way) -> Start {
        let count = self.shared.borrow().streams.get(&id).map_or(0, |s| s.filters.len());
        match way {
            Way::Request => (count > 0).then_some(0),
            Way::Response => count.checked_sub(1),
        }
    }

    fn after(&self, id: u64, way: Way, filter: usize) -> Start {
        let count = self.shared.borrow().streams.get(&id).map_or(0, |s| s.filters.len());
        match way {
            Way::Request => (filter + 1 < count).then_some(filter + 1),
            Way::Response => filter.checked_sub(1),
        }
    }

    /// Runs headers callbacks from `at` on, then the end of the chain.
    pub(crate) fn pass_headers(&mut self, id: u64, way: Way, mut at: Start, end_stream: bool) {
        while let Some(filter) = at {
            let Some(was_calling) = self.enter_filter(id, way, filter, end_stream) else { return };
            let status = self.filter_headers(id, filter, way, end_stream);
            if !self.leave_filter(id, way, was_calling) {
                return;
            }
            let mut shared = self.shared.borrow_mut();
            let side = shared.streams.get_mut(&id).and_then(|stream| stream.side(filter, way));
            let Some(side) = side else { return };
            match status {
                HeadersStatus::Continue => side.headers_continued = true,
                HeadersStatus::Stop => side.iteration = Iteration::StopSingle,
                HeadersStatus::StopAll => side.iteration = Iteration::StopAll,
            }
            if status != HeadersStatus::Continue {
                return;
            }
            drop(shared);
            at = self.after(id, way, filter);
        }
        self.end_headers(id, way, end_stream);
    }

    /// Runs body callbacks from `at` on over what is in flight, then the end of the chain.
    pub(crate) fn pass_data(&mut self, id: u64, way: Way, mut at: Start, mut end_stream: bool) {
        let had_trailers = self.has_trailers(id, way);
        let mut trailers_from = None;
        while let Some(filter) = at {
            if self.holds_all(id, way, filter) {
                self.check_limit(id, way);
                return;
            }
            let end = end_stream && !self.has_trailers(id, way);
            if self.ended_before(id, way, filter) {
                return;
            }
            let Some(was_calling) = self.enter_filter(id, way, filter, end) else { return };
            let status = self.filter_data(id, filter, way, end);
            if !self.leave_filter(id, way, was_calling) {
                return;
            }
            if !had_trailers && trailers_from.is_none() && self.has_trailers(id, way) {
                end_stream = false;
                trailers_from = Some(filter);
            }
            if !self.after_data(id, way, filter, status) {
                break;
            }
            at = self.after(id, way, filter);
        }
        if at.is_none() {
            self.end_data(id, way, end_stream);
        }
        if let Some(filter) = trailers_from {
            let from = self.after(id, way, filter);
            self.pass_trailers(id, way, from);
        }
    }

    /// Runs trailers callbacks from `at` on, then the end of the chain.
    pub(crate) fn pass_trailers(&mut self, id: u64, way: Way, mut at: Start) {
        while let Some(filter) = at {
            {
                let mut shared = self.shared.borrow_mut();
                let side = shared.streams.get_mut(&id).and_then(|s| s.side(filter, way));
                if side.is_none_or(|side| side.iteration == Iteration::StopAll) {
                    return;
                }
            }
            let Some(was_calling) = self.enter_filter(id, way, filter, true) else { return };
            let status = self.filter_trailers(id, filter, way);
            if !self.leave_filter(id, way, was_calling) {
                return;
            }
            let mut shared = self.shared.borrow_mut();
            let side = shared.streams.get_mut(&id).and_then(|stream| stream.side(filter, way));
            let Some(side) = side else { return };
            if status == TrailersStatus::Stop {
                if side.iteration == Iteration::Continue {
                    side.iteration = Iteration::StopSingle;
                }
                return;
            }
            let was_held = side.iteration == Iteration::StopSingle;
            drop(shared);
            if was_held {
                self.resume(id, way, filter);
                return;
            }
            at = self.after(id, way, filter);
        }
        self.end_trailers(id, way);
    }

    /// `continueDecoding` and `continueEncoding`: passes on what a filter has held.
    pub(crate) fn resume(&mut self, id: u64, way: Way, filter: usize) {
        let headers_due = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let over = stream.exchange().is_some_and(|exchange| exchange.response_ended);
            if over || stream.half(way).aborted {
                return;
            }
            let half = stream.half(way);
            let end = half.observed_end && half.buffered.is_none() && !half.has_trailers();
            let Some(side) = stream.side(filter, way) else { return };
            side.iterate_from_current = side.iteration == Iteration::StopAll;
            side.iteration = Iteration::Continue;
            (!std::mem::replace(&mut side.headers_continued, true)).then_some(end)
        };
        let next = self.after(id, way, filter);
        if let Some(end) = headers_due {
            self.pass_headers(id, way, next, end);
        }
        self.resume_body(id, way, filter, next);
    }

    fn resume_body(&mut self, id: u64, way: Way, filter: usize, next: Start) {
        let (from, had_trailers, held) = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(side) = stream.side(filter, way) else { return };
            let from = if side.iterate_from_current { Some(filter) } else { next };
            let half = stream.half(way);
            let had_trailers = half.has_trailers();
            let end = half.observed_end && !had_trailers;
            let held = half.buffered.take();
            // A callback that resumes its own stream may have bytes in flight of its own.
            let held = held.map(|held| (std::mem::replace(&mut half.in_flight, held), end));
            (from, had_trailers, held)
        };
        if let Some((outer, end)) = held {
            self.pass_data(id, way, from, end);
            if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
                stream.half(way).in_flight = outer;
            }
        }
        if had_trailers {
            self.pass_trailers(id, way, from);
        }
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id)
            && let Some(side) = stream.side(filter, way)
        {
            side.iterate_from_current = false;
        }
    }

    /// Envoy's `commonHandleAfterDataCallback`: whether the next filter gets the data now.
    fn after_data(&mut self, id: u64, way: Way, filter: usize, status: DataStatus) -> bool {
        {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return false };
            let Some(side) = stream.side(filter, way) else { return false };
            let was_held = side.iteration == Iteration::StopSingle;
            if status == DataStatus::Continue && !was_held {
                return true;
            }
            if status != DataStatus::Continue {
                side.iteration = Iteration::StopSingle;
            }
            let half = stream.half(way);
            if status == DataStatus::NoBuffer {
                half.in_flight = crate::buffer::Buffer::default();
                if half.observed_end && !half.has_trailers() && half.buffered.is_none() {
                    half.buffered = Some(crate::buffer::Buffer::default());
                }
            } else {
                half.hold();
            }
        }
        match status {
            DataStatus::Continue => self.resume(id, way, filter),
            DataStatus::Buffer => self.check_limit(id, way),
            DataStatus::NoBuffer => {}
        }
        false
    }

    /// Moves what is in flight aside if the filter lets nothing through.
    fn holds_all(&self, id: u64, way: Way, filter: usize) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return true };
        if stream.side(filter, way).is_none_or(|side| side.iteration != Iteration::StopAll) {
            return false;
        }
        stream.half(way).hold();
        true
    }

    /// The filter has seen the end already: the data is not for it nor for those behind it.
    fn ended_before(&self, id: u64, way: Way, filter: usize) -> bool {
        let mut shared = self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id);
        stream.and_then(|s| s.side(filter, way).map(|side| side.end_stream)).unwrap_or(true)
    }

    fn has_trailers(&self, id: u64, way: Way) -> bool {
        let mut shared = self.shared.borrow_mut();
        shared.streams.get_mut(&id).is_some_and(|stream| stream.half(way).has_trailers())
    }

    /// Marks a callback as running; gives back what was marked before.
    fn enter_filter(&self, id: u64, way: Way, filter: usize, end_stream: bool) -> Option<bool> {
        let mut shared = self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id)?;
        stream.side(filter, way)?.end_stream = end_stream;
        Some(std::mem::replace(&mut stream.half(way).calling, true))
    }

    /// Whether iteration goes on: the stream is still there and nobody has replied meanwhile.
    fn leave_filter(&mut self, id: u64, way: Way, was_calling: bool) -> bool {
        let reply = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return false };
            let half = stream.half(way);
            half.calling = was_calling;
            if !half.aborted {
                return true;
            }
            stream.exchange().and_then(|exchange| exchange.pending_reply.take())
        };
        if let Some(reply) = reply {
            self.reply_through_filters(id, reply);
        }
        false
    }

    /// A paused filter holds more than a stream may.
    fn check_limit(&mut self, id: u64, way: Way) {
        let over = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.half(way).buffered.as_ref().is_some_and(|held| held.len() > BUFFER_LIMIT)
        };
        if over {
            self.buffer_overflow(id, way);
        }
    }

    /// The body a filter resumed is no longer its own.
    pub(crate) fn forget_body(&self, id: u64, way: Way, filter: usize) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id)
            && let Some(side) = stream.side(filter, way)
        {
            side.body = BodyView::None;
        }
    }
}
