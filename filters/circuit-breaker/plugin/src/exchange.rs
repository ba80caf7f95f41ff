//! The request and its end, as the host knows them. Every answer costs a hostcall, so what is asked
//! more than once is remembered.

use crate::root::{TICK, Worker};
use circuit_breaker_core::{Clock, Request, Response, parse_http_date, parse_retry_after};
use core::cell::{Cell, OnceCell};
use core::time::Duration;
use plugin_kit::headers::{self, Map};
use plugin_kit::property;
use request_key::Attributes;
use shared_state::{Endpoint, UnixNanos};

/// The clock of one callback: read once, if at all.
#[derive(Clone, Copy)]
pub(crate) struct HostClock<'a> {
    worker: &'a Worker,
    /// What the last tick read, where the host ticks.
    ticked: Option<UnixNanos>,
    read: &'a Cell<Option<UnixNanos>>,
}

impl<'a> HostClock<'a> {
    pub(crate) fn new(worker: &'a Worker, read: &'a Cell<Option<UnixNanos>>) -> Self {
        Self { worker, ticked: worker.ticked(), read }
    }
}

impl Clock for HostClock<'_> {
    fn recent(self) -> UnixNanos {
        self.ticked.unwrap_or_else(|| self.now())
    }

    fn now(self) -> UnixNanos {
        let now = self.read.get().unwrap_or_else(plugin_kit::now);
        self.read.set(Some(now));
        now
    }

    fn patience(self) -> Duration {
        if self.worker.ticks() { Duration::ZERO } else { TICK }
    }
}

/// Readable in `on_http_request_headers` only.
pub(crate) struct HostRequest<'a> {
    steering_header: &'a str,
    cluster: OnceCell<Option<String>>,
    route: OnceCell<Option<String>>,
}

impl<'a> HostRequest<'a> {
    pub(crate) fn new(steering_header: &'a str) -> Self {
        Self { steering_header, cluster: OnceCell::new(), route: OnceCell::new() }
    }
}

impl Attributes for HostRequest<'_> {
    fn header(&self, name: &str) -> Option<String> {
        // Envoy makes one line of this header's; where a host does not, the first is the client's own.
        if name == "x-forwarded-for" {
            return headers::joined(Map::Request, name);
        }
        headers::get(Map::Request, name)
    }

    fn method(&self) -> Option<String> {
        self.header(":method")
    }

    fn source_address(&self) -> Option<String> {
        property::source_address()
    }

    fn route(&self) -> Option<String> {
        let named = || property::route_name().or_else(|| self.cluster());
        self.route.get_or_init(named).clone()
    }

    fn cluster(&self) -> Option<String> {
        self.cluster.get_or_init(property::cluster_name).clone()
    }
}

impl Request for HostRequest<'_> {
    fn destinations(&self) -> Option<String> {
        headers::get(Map::Request, self.steering_header)
    }

    fn num_endpoints(&self) -> Option<u32> {
        property::num_endpoints()
    }

    fn spare(&self) -> Option<u32> {
        property::spare()
    }
}

/// What a stream has seen of its response, without asking.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Its end.
    pub(crate) is_complete: bool,
    /// It had trailers or no body, as every gRPC response: only then is there a status to ask for.
    pub(crate) may_be_grpc: bool,
    /// How long the answer took; `None` if that was surely short, or has not been looked at.
    pub(crate) elapsed: Option<Duration>,
}

/// Readable in `on_log`.
pub(crate) struct HostResponse {
    seen: Seen,
    server: OnceCell<Option<Endpoint>>,
    via_upstream: OnceCell<bool>,
}

impl HostResponse {
    pub(crate) fn new(seen: Seen) -> Self {
        Self { seen, server: OnceCell::new(), via_upstream: OnceCell::new() }
    }
}

impl Response for HostResponse {
    fn server(&self) -> Option<Endpoint> {
        *self.server.get_or_init(property::upstream_address)
    }

    fn cluster(&self) -> Option<String> {
        property::cluster_name()
    }

    fn status(&self) -> Option<u16> {
        property::response_code()
    }

    fn is_complete(&self) -> bool {
        self.seen.is_complete
    }

    fn flags(&self) -> u64 {
        property::response_flags()
    }

    fn via_upstream(&self) -> bool {
        let details = || property::response_code_details();
        *self.via_upstream.get_or_init(|| details().as_deref() == Some(property::VIA_UPSTREAM))
    }

    fn grpc_status(&self) -> Option<u32> {
        if !self.seen.may_be_grpc {
            return None;
        }
        let content = headers::get(Map::Request, "content-type")?;
        let is_grpc = content.starts_with("application/grpc");
        let status = if is_grpc { property::uint("response\0grpc_status") } else { None };
        status.and_then(|status| u32::try_from(status).ok())
    }

    fn attempts(&self) -> u32 {
        property::attempt_count()
    }

    fn num_endpoints(&self) -> u32 {
        property::num_endpoints().unwrap_or(0)
    }

    fn retry_after(&self) -> Option<Duration> {
        let now = || {
            // The endpoint's own, or that of the proxy, which says it where the endpoint does not.
            let date = headers::get(Map::Response, "date");
            let now = || plugin_kit::now().since(UnixNanos::ZERO).as_secs();
            date.and_then(|date| parse_http_date(&date)).unwrap_or_else(now)
        };
        parse_retry_after(&headers::get(Map::Response, "retry-after")?, now)
    }

    fn elapsed(&self) -> Option<Duration> {
        self.seen.elapsed
    }
}

/// When the stream began, by the host's clock.
pub(crate) fn began_at() -> Option<UnixNanos> {
    property::request_time()
}
