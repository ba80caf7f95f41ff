//! A stream: one pass of a request and its response through one filter chain.
//!
//! Two roles share it, as in Envoy: an *exchange* (the downstream chain, ending in the router) and
//! an *attempt* (a cluster's upstream chain, ending in the codec). The rules of iteration, pausing
//! and buffering are the same for both; see `iteration.rs`. A third, a *connection*, has contexts,
//! attributes and logs like them but rules of its own; see `connection.rs`.

use crate::bare::Bare;
use crate::buffer::Buffer;
use crate::cluster::{Cluster, LiveHost};
use crate::connection::Connection;
use crate::filter_state::FilterState;
use crate::flags::ResponseFlags;
use crate::grpc::GrpcId;
use crate::local_ratelimit::Quota;
use crate::native_filter::{HeaderMutation, LocalRateLimit};
use crate::plugin::Plugin;
use crate::router::Router;
use crate::stream_limits::Limits;
use crate::{Downstream, Headers, UnixNanos, UpstreamLink};
use bytes::Bytes;
use host_sim_bootstrap::StatefulSession;
use std::net::SocketAddr;
use std::sync::Arc;

/// Request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Request,
    Response,
}

/// See the module.
pub(crate) struct Stream {
    pub(crate) role: Role,
    pub(crate) filters: Vec<Filter>,
    pub(crate) request: Half,
    pub(crate) response: Half,
    pub(crate) info: StreamInfo,
    /// Filter state: `wasm.<path>` from `set_property`, raw keys from `set_envoy_filter_state`.
    pub(crate) filter_state: FilterState,
    /// `on_log` runs: maps can be read, not written.
    pub(crate) logging: bool,
}

pub(crate) enum Role {
    Exchange(Box<Exchange>),
    Attempt(Box<Attempt>),
    /// Bytes: `request` is what comes from the client, `response` what comes from the upstream.
    Connection(Box<Connection>),
}

/// What a downstream stream has of its own.
pub(crate) struct Exchange {
    pub(crate) listener: usize,
    pub(crate) downstream: Downstream,
    pub(crate) router: Router,
    /// The route, once looked up; taken away by `clear_route_cache`.
    pub(crate) cached_route: Option<Option<RouteRef>>,
    /// Sent by a filter during a request callback; performed when the callback is over.
    pub(crate) pending_reply: Option<LocalReply>,
    /// Response headers have gone to the driver.
    pub(crate) response_started: bool,
    /// The response is complete, or the stream was reset: requests go no further.
    pub(crate) response_ended: bool,
    /// A local reply was sent; later ones are ignored.
    pub(crate) replied: bool,
    pub(crate) is_head: bool,
    pub(crate) is_grpc: bool,
    pub(crate) limits: Limits,
    /// Present if there is neither connection manager nor router.
    pub(crate) bare: Option<Bare>,
}

/// One try at one endpoint.
pub(crate) struct Attempt {
    pub(crate) owner: Owner,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) host: Arc<LiveHost>,
    /// 1, 2, 3 ...
    pub(crate) number: u32,
    /// The driver has been asked to start it.
    pub(crate) sent: bool,
    pub(crate) response_ended: bool,
    pub(crate) response_started: bool,
}

/// Who made an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Exchange(u64),
    Call(u64),
    Grpc(GrpcId),
}

/// A route of a listener's table, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteRef {
    pub(crate) host: usize,
    pub(crate) route: usize,
}

/// One direction of a stream.
#[derive(Default)]
pub(crate) struct Half {
    pub(crate) headers: Option<Headers>,
    pub(crate) trailers: Option<Headers>,
    /// What paused filters hold back.
    pub(crate) buffered: Option<Buffer>,
    /// What the filter that runs now was given.
    pub(crate) in_flight: Buffer,
    /// The end has come in.
    pub(crate) observed_end: bool,
    /// A local reply ended this direction while filters ran.
    pub(crate) aborted: bool,
    /// A filter's callback of this direction runs.
    pub(crate) calling: bool,
}

/// A filter's place in a stream.
pub(crate) struct Filter {
    pub(crate) kind: FilterKind,
    pub(crate) request: Side,
    pub(crate) response: Side,
}

pub(crate) enum FilterKind {
    Wasm(WasmFilter),
    HeaderMutation(Arc<HeaderMutation>),
    /// With what the bucket said, for the response.
    LocalRateLimit(Arc<LocalRateLimit>, Option<Quota>),
    StatefulSession(Arc<StatefulSession>),
    /// No configuration has been discovered: answers 500.
    MissingConfig,
}

pub(crate) struct WasmFilter {
    pub(crate) plugin: Arc<Plugin>,
    /// Held for as long as the stream lives.
    pub(crate) handle: usize,
    pub(crate) vm: usize,
    /// A reloaded VM does not know the contexts of its forerunner.
    pub(crate) generation: u64,
    pub(crate) root: u32,
    pub(crate) context: Option<u32>,
    /// The 503 of a failed VM is sent once.
    pub(crate) failure_replied: bool,
}

/// How far a filter lets one direction pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Iteration {
    #[default]
    Continue,
    /// Headers or data were held; data callbacks still come.
    StopSingle,
    /// Nothing comes until the filter continues.
    StopAll,
}

/// One filter's state in one direction, and what it may touch there.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) iteration: Iteration,
    pub(crate) headers_continued: bool,
    pub(crate) iterate_from_current: bool,
    pub(crate) end_stream: bool,
    pub(crate) headers_visible: bool,
    pub(crate) trailers_visible: bool,
    pub(crate) body: BodyView,
    /// The last body callback had `end_of_stream`.
    pub(crate) end_seen: bool,
}

/// Which bytes `get_buffer_bytes` shows a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyView {
    #[default]
    None,
    InFlight,
    Buffered,
}

/// A response made here.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalReply {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// Added to the reply's headers, names in lower case.
    pub(crate) headers: Vec<(Bytes, Bytes)>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) details: String,
}

/// What is known about a stream, for attributes, access logs and stats.
#[derive(Default)]
pub(crate) struct StreamInfo {
    pub(crate) start: UnixNanos,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) request_complete: Option<UnixNanos>,
    pub(crate) end: Option<UnixNanos>,
    pub(crate) code: Option<u16>,
    pub(crate) details: Option<String>,
    pub(crate) flags: ResponseFlags,
    pub(crate) route: Option<RouteRef>,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) transport_failure: Option<String>,
    /// The connection to the endpoint, and since when the attempt has it.
    pub(crate) upstream_link: Option<UpstreamLink>,
    pub(crate) upstream_ready: Option<UnixNanos>,
    pub(crate) attempts: u32,
    pub(crate) upstream_first_tx: Option<UnixNanos>,
    pub(crate) upstream_first_rx: Option<UnixNanos>,
    pub(crate) upstream_last_rx: Option<UnixNanos>,
}

impl Stream {
    pub(crate) fn half(&mut self, way: Way) -> &mut Half {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }

    pub(crate) fn side(&mut self, filter: usize, way: Way) -> Option<&mut Side> {
        self.filters.get_mut(filter).map(|filter| filter.side(way))
    }

    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.role {
            Role::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.role {
            Role::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    pub(crate) fn attempt(&mut self) -> Option<&mut Attempt> {
        match &mut self.role {
            Role::Attempt(attempt) => Some(attempt),
            _ => None,
        }
    }
}

impl Exchange {
    pub(crate) fn new(listener: usize, downstream: Downstream) -> Self {
        Self {
            listener,
            downstream,
            router: Router::default(),
            cached_route: None,
            pending_reply: None,
            response_started: false,
            response_ended: false,
            replied: false,
            is_head: false,
            is_grpc: false,
            limits: Limits::default(),
            bare: None,
        }
    }
}

impl Filter {
    pub(crate) fn new(kind: FilterKind) -> Self {
        Self { kind, request: Side::default(), response: Side::default() }
    }

    pub(crate) fn side(&mut self, way: Way) -> &mut Side {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }
}

impl Half {
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// Moves what is in flight behind what is held back.
    pub(crate) fn hold(&mut self) {
        let buffered = self.buffered.get_or_insert_default();
        buffered.append(&mut self.in_flight);
    }
}

impl Stream {
    /// Envoy's `clearRouteCache`: the route is looked up again when it is needed. What attributes
    /// show stays the old route until then.
    pub(crate) fn clear_route_cache(&mut self) {
        if let Some(exchange) = self.exchange() {
            exchange.cached_route = None;
        }
    }

    /// The value of an entry, whatever it is.
    pub(crate) fn filter_state(&self, key: &[u8]) -> Option<&Bytes> {
        self.filter_state.get(key).map(|entry| &entry.value)
    }
}
