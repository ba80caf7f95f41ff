//! A downstream connection on its way through a chain of network filters.
//!
//! Envoy's filter manager, rule by rule: a read offers *everything unread* to each filter in turn,
//! and what a filter holds back stays in the connection's one buffer, so that the next read shows
//! it again together with what is new. The way back is the same with the upstream's buffer, from
//! the last filter to the first. Nobody reads from a client before the chain's end can take bytes.

use crate::buffer::Buffer;
use crate::cluster::{Cluster, LiveHost};
use crate::filter_state::FilterState;
use crate::stream::{BodyView, Half, Role, Stream, StreamInfo, Way};
use crate::timer::TimerId;
use crate::worker::Turn;
use crate::{ConnectionId, Downstream, Output, ResponseFlags, UnixNanos};
use bytes::Bytes;
use host_sim_abi::PeerType;
use std::sync::Arc;

/// Bytes that filters may hold back before reading stops: Envoy's
/// `per_connection_buffer_limit_bytes`, of listeners and clusters alike.
const BUFFER_LIMIT: usize = 1024 * 1024;

/// What a connection has beyond a stream.
pub(crate) struct Connection {
    pub(crate) listener: usize,
    pub(crate) downstream: Downstream,
    /// How many filters, the last one included, have seen the new connection.
    begun: usize,
    pub(crate) link: Link,
    /// Read, and not offered to anybody yet.
    unread: Unread,
    unread_upstream: Unread,
    /// The client has been sent our end.
    pub(crate) write_ended: bool,
    /// The upstream has been sent the client's end.
    pub(crate) upstream_write_ended: bool,
    closed: bool,
    /// Only HTTP: a client's end closes the connection at once.
    pub(crate) http: bool,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) host: Option<Arc<LiveHost>>,
    /// When the upstream was asked for, and when it was there.
    pub(crate) asked: UnixNanos,
    pub(crate) connected: Option<UnixNanos>,
    /// When a byte moved last.
    pub(crate) moved: UnixNanos,
    pub(crate) idle_timer: Option<TimerId>,
    pub(crate) longest_timer: Option<TimerId>,
}

/// How far the end of the chain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    #[default]
    None,
    Connecting,
    Open,
}

#[derive(Default)]
struct Unread {
    bytes: Buffer,
    end: bool,
}

impl Connection {
    fn can_read(&self) -> bool {
        !self.closed && (self.http || self.link == Link::Open)
    }
}

impl Turn<'_> {
    /// A client has connected to listener number `listener`, TLS handshake included.
    pub fn open_connection(&mut self, listener: usize, info: Downstream) -> ConnectionId {
        self.receive_posts();
        let filters = self.network_filters(listener);
        let engine = self.engine.clone();
        let http = engine.bootstrap().listeners.get(listener).is_some_and(|l| l.http().is_some());
        let id = {
            let mut shared = self.shared.borrow_mut();
            let (id, now) = (shared.fresh_id(), shared.now());
            let connection = Connection {
                listener,
                downstream: info,
                begun: 0,
                link: Link::None,
                unread: Unread::default(),
                unread_upstream: Unread::default(),
                write_ended: false,
                upstream_write_ended: false,
                closed: false,
                http,
                cluster: None,
                host: None,
                asked: now,
                connected: None,
                moved: now,
                idle_timer: None,
                longest_timer: None,
            };
            let stream = Stream {
                role: Role::Connection(Box::new(connection)),
                filters,
                request: Half::default(),
                response: Half::default(),
                info: StreamInfo { start: now, ..StreamInfo::default() },
                filter_state: FilterState::default(),
                logging: false,
            };
            shared.streams.insert(id, stream);
            id
        };
        self.start_connection_limits(id);
        self.continue_reading(id, 0);
        self.run_deferred();
        ConnectionId(id)
    }

    /// Bytes from the client; `end_stream` when it has closed its half.
    pub fn connection_data(&mut self, id: ConnectionId, data: Bytes, end_stream: bool) {
        let id = id.0;
        {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let received = data.len() as u64;
            stream.info.request_bytes += received;
            let Some(connection) = stream.connection() else { return };
            connection.moved = now;
            connection.unread.bytes.push(data);
            connection.unread.end |= end_stream;
            let listener = connection.listener;
            drop(shared);
            if let Some(stats) = self.tcp_stats(listener) {
                stats.rx_bytes.add(received);
            }
        }
        self.read_more(id);
        self.run_deferred();
    }

    /// The client is gone: reset, or closed altogether.
    pub fn connection_reset(&mut self, id: ConnectionId) {
        self.close_connection(id.0, PeerType::Remote, true);
        self.run_deferred();
    }

    /// Ends a connection from our side, as a proxy that shuts down does.
    pub fn close_downstream(&mut self, id: ConnectionId) {
        self.close_connection(id.0, PeerType::Local, false);
        self.run_deferred();
    }

    /// Bytes from the upstream, or from the codec that serves the connection.
    pub fn connection_upstream_data(&mut self, id: ConnectionId, data: Bytes, end_stream: bool) {
        let id = id.0;
        {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let stream = shared.streams.get_mut(&id);
            let Some(connection) = stream.and_then(Stream::connection) else { return };
            connection.moved = now;
            connection.unread_upstream.bytes.push(data);
            connection.unread_upstream.end |= end_stream;
        }
        self.read_more_upstream(id);
        self.run_deferred();
    }

    /// Whether bytes from the client would reach the filters now. Read no more while it is false:
    /// somebody else decides when it ends.
    #[must_use]
    pub fn reads_downstream(&self, id: ConnectionId) -> bool {
        self.reads(id.0, Way::Request)
    }

    /// Whether bytes from the upstream would reach the filters now.
    #[must_use]
    pub fn reads_upstream(&self, id: ConnectionId) -> bool {
        self.reads(id.0, Way::Response)
    }

    fn reads(&self, id: u64, way: Way) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return false };
        let held = stream.half(way).in_flight.len();
        stream.connection().is_some_and(|c| c.can_read()) && held < BUFFER_LIMIT
    }

    /// Offers what has been read to the filters.
    pub(crate) fn read_more(&mut self, id: u64) {
        if !self.reads(id, Way::Request) {
            return;
        }
        let hang_up = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(connection) = stream.connection() else { return };
            let mut unread = std::mem::take(&mut connection.unread);
            if unread.bytes.is_empty() && !unread.end {
                return;
            }
            let hang_up = connection.http && unread.end;
            stream.request.in_flight.append(&mut unread.bytes);
            stream.request.observed_end |= unread.end && !hang_up;
            hang_up
        };
        self.continue_reading(id, 0);
        if hang_up {
            return self.close_connection(id, PeerType::Remote, false);
        }
        self.close_if_over(id, PeerType::Remote);
    }

    /// Runs the filters from number `from` on: those that are new see the connection first.
    pub(crate) fn continue_reading(&mut self, id: u64, from: usize) {
        for filter in from.. {
            let Some((filters, begun, _)) = self.progress(id) else { return };
            if filter > filters {
                return;
            }
            if filter >= begun {
                self.with_connection(id, |connection| connection.begun = filter + 1);
                let goes_on = if filter == filters {
                    self.begin_upstream(id);
                    true
                } else {
                    self.network_new_connection(id, filter)
                };
                if !goes_on {
                    return;
                }
            }
            let Some((_, _, end_stream)) = self.progress(id) else { return };
            if end_stream.is_none() {
                continue;
            }
            let end_stream = end_stream == Some(true);
            if filter == filters {
                return self.pass_upstream(id, end_stream);
            }
            if !self.network_data(id, filter, end_stream) {
                return;
            }
        }
    }

    /// Number of filters, how many have begun, and whether there is something to read: `Some(end)`.
    /// `None` when the connection is over.
    fn progress(&self, id: u64) -> Option<(usize, usize, Option<bool>)> {
        let mut shared = self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id)?;
        let (filters, end) = (stream.filters.len(), stream.request.observed_end);
        let anything = end || !stream.request.in_flight.is_empty();
        let connection = stream.connection().filter(|connection| !connection.closed)?;
        Some((filters, connection.begun, anything.then_some(end)))
    }

    /// A filter lets the connection go on: `proxy_continue_stream(Downstream)`.
    pub(crate) fn resume_connection(&mut self, id: u64, filter: usize) {
        self.continue_reading(id, filter + 1);
        self.read_more(id);
    }

    /// The client's bytes have passed all filters.
    fn pass_upstream(&mut self, id: u64, end_stream: bool) {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        let data = stream.request.in_flight.take();
        let Some(connection) = stream.connection() else { return };
        let ended = std::mem::replace(&mut connection.upstream_write_ended, end_stream);
        if ended || (data.is_empty() && !end_stream) {
            connection.upstream_write_ended |= ended;
            return;
        }
        let connection = ConnectionId(id);
        shared.outputs.push_back(Output::UpstreamBytes { connection, data, end_stream });
    }

    /// Offers what came from the upstream to the filters, the last one first.
    fn read_more_upstream(&mut self, id: u64) {
        if !self.reads(id, Way::Response) {
            return;
        }
        let (filters, end_stream) = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(connection) = stream.connection() else { return };
            let mut unread = std::mem::take(&mut connection.unread_upstream);
            stream.response.in_flight.append(&mut unread.bytes);
            stream.response.observed_end |= unread.end;
            (stream.filters.len(), unread.end)
        };
        for filter in (0..filters).rev() {
            if !self.network_upstream_data(id, filter, end_stream) {
                return self.close_if_over(id, PeerType::Local);
            }
        }
        self.pass_downstream(id, end_stream);
        self.close_if_over(id, PeerType::Local);
    }

    /// The upstream's bytes have passed all filters.
    fn pass_downstream(&mut self, id: u64, end_stream: bool) {
        let (listener, sent) = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let data = stream.response.in_flight.take();
            let sent = data.len() as u64;
            stream.info.response_bytes += sent;
            let Some(connection) = stream.connection().filter(|c| !c.closed) else { return };
            connection.write_ended |= end_stream;
            // A codec that is done closes the connection; it has no half to close.
            let end_stream = end_stream && !connection.http;
            let listener = connection.listener;
            if sent > 0 || end_stream {
                let connection = ConnectionId(id);
                shared.outputs.push_back(Output::DownstreamBytes { connection, data, end_stream });
            }
            (listener, sent)
        };
        if let Some(stats) = self.tcp_stats(listener) {
            stats.tx_bytes.add(sent);
        }
    }

    /// Ends a connection both halves of which are closed, downstream or upstream. The half that
    /// `last` closed was the last one.
    fn close_if_over(&mut self, id: u64, last: PeerType) {
        let over = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let (read, upstream_read) = (stream.request.observed_end, stream.response.observed_end);
            let Some(connection) = stream.connection() else { return };
            let downstream = connection.write_ended && (read || connection.http);
            match (downstream, connection.upstream_write_ended && upstream_read) {
                (true, _) => Some(last),
                // The upstream connection is gone, and takes the client's with it.
                (false, true) => Some(PeerType::Local),
                (false, false) => None,
            }
        };
        if let Some(by) = over {
            self.close_connection(id, by, false);
        }
    }

    /// Ends a connection: close, done, log, delete of each filter in order, then the access log.
    pub(crate) fn close_connection(&mut self, id: u64, by: PeerType, reset: bool) {
        let (filters, listener, http) = {
            let shared = &mut *self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let filters = stream.filters.len();
            let Some(connection) = stream.connection() else { return };
            if std::mem::replace(&mut connection.closed, true) {
                return;
            }
            let (listener, http) = (connection.listener, connection.http);
            let timers = [connection.idle_timer.take(), connection.longest_timer.take()];
            let has_link = std::mem::take(&mut connection.link) != Link::None;
            stream.info.end = Some(now);
            timers.into_iter().for_each(|timer| shared.cancel_timer(timer));
            let connection = ConnectionId(id);
            if has_link {
                shared.outputs.push_back(Output::CloseUpstream { connection, reset });
            }
            let reset = reset && by == PeerType::Local;
            shared.outputs.push_back(Output::CloseDownstream { connection, reset });
            (filters, listener, http)
        };
        self.release_host(id);
        for filter in 0..filters {
            self.network_close(id, filter, by);
        }
        // A connection manager logs requests, not connections.
        if !http {
            self.write_access_logs(id, listener);
        }
        let gone = self.shared.borrow_mut().streams.remove(&id);
        self.release_filters(&gone.map(|stream| stream.filters).unwrap_or_default());
    }

    /// All connections, in the order in which they came: a proxy that stops closes them.
    pub(crate) fn close_all_connections(&mut self) {
        let mut open: Vec<u64> = {
            let mut shared = self.shared.borrow_mut();
            let streams = shared.streams.iter_mut();
            let open = streams.filter_map(|(id, stream)| stream.connection().map(|_| *id));
            open.collect()
        };
        open.sort_unstable();
        for id in open {
            self.close_connection(id, PeerType::Local, false);
            self.run_deferred();
        }
    }

    /// What network filters have left in the filter state of a connection, which its requests see.
    pub(crate) fn connection_state(&self, listener: usize, number: u64) -> FilterState {
        if self.engine.network_filters().get(listener).is_none_or(Vec::is_empty) {
            return FilterState::default();
        }
        let mut shared = self.shared.borrow_mut();
        let mut streams = shared.streams.values_mut();
        let of = |stream: &mut Stream| {
            let connection = stream.connection()?;
            let same = connection.downstream.connection_id == number;
            (same && connection.listener == listener).then_some(())
        };
        let found = streams.find_map(|stream| of(stream).map(|()| stream.filter_state.clone()));
        found.unwrap_or_default()
    }

    pub(crate) fn flag_connection(&self, id: u64, flags: ResponseFlags) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id) {
            stream.info.flags |= flags;
        }
    }

    pub(crate) fn with_connection<R>(
        &self,
        id: u64,
        run: impl FnOnce(&mut Connection) -> R,
    ) -> Option<R> {
        self.shared.borrow_mut().streams.get_mut(&id)?.connection().map(run)
    }

    pub(crate) fn is_connection(&self, id: u64) -> bool {
        self.with_connection(id, |_| ()).is_some()
    }

    /// What a filter sees of a buffer, before its callback.
    pub(crate) fn show_bytes(&self, id: u64, filter: usize, way: Way) -> u32 {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return 0 };
        if let Some(side) = stream.side(filter, way) {
            side.body = BodyView::InFlight;
        }
        u32::try_from(stream.half(way).in_flight.len()).unwrap_or(u32::MAX)
    }
}
