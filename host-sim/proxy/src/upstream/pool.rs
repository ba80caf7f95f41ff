//! The connections of one worker to one endpoint of one cluster.

use super::connect::Dialer;
use super::failure::{Stage, broken, failure};
use super::http1_pool::{Http1Connection, Http1Pool};
use super::http2_pool::{Http2Pool, Http2Stream};
use crate::body_queue::RequestBody;
use host_sim_bootstrap::{CommonHttpOptions, Http2Options, UpstreamProtocol};
use host_sim_engine::{UpstreamFailure, UpstreamFailureKind, UpstreamLink};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use std::rc::Rc;
use std::time::Duration;

/// A pool and what its connections speak.
pub(crate) struct Pool {
    pub(super) dialer: Rc<Dialer>,
    common: CommonHttpOptions,
    http2: Http2Options,
    connections: Connections,
}

enum Connections {
    Http1(Http1Pool),
    Http2(Rc<Http2Pool>),
}

/// A connection while an attempt uses it.
pub(super) enum Lease {
    Http1(Http1Connection),
    /// Holds its place among the connection's streams.
    Http2(Http2Stream),
}

impl Lease {
    fn link(&self) -> &UpstreamLink {
        match self {
            Self::Http1(connection) => &connection.link,
            Self::Http2(stream) => stream.link(),
        }
    }
}

impl Pool {
    pub(super) fn new(
        dialer: Dialer,
        protocol: UpstreamProtocol,
        common: CommonHttpOptions,
        http2: Http2Options,
    ) -> Self {
        let connections = match protocol {
            UpstreamProtocol::Http2 => Connections::Http2(Rc::default()),
            // `use_downstream_protocol_config` is refused at the start.
            UpstreamProtocol::Http1 | UpstreamProtocol::SameAsDownstream => {
                Connections::Http1(Http1Pool::default())
            }
        };
        Self { dialer: Rc::new(dialer), common, http2, connections }
    }

    /// What the connections speak.
    pub(super) fn version(&self) -> Version {
        match self.connections {
            Connections::Http1(_) => Version::HTTP_11,
            Connections::Http2(_) => Version::HTTP_2,
        }
    }

    /// Sends a request and waits for the response's head. `connected` hears of each connection that
    /// the request is given, before anything of it is sent.
    ///
    /// A pooled connection may close under the request's feet. As long as nothing of the request
    /// was written, which hyper tells by handing it back, another connection is as good.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
        connect_timeout: Duration,
        connected: impl Fn(&UpstreamLink),
    ) -> Result<(Response<Incoming>, Lease), UpstreamFailure> {
        loop {
            let (mut lease, fresh) = self.lease(connect_timeout).await?;
            connected(lease.link());
            let sent = match &mut lease {
                Lease::Http1(connection) => connection.sender.try_send_request(request).await,
                Lease::Http2(stream) => stream.sender.try_send_request(request).await,
            };
            let mut error = match sent {
                Ok(response) => return Ok((response, lease)),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent) if !fresh => request = unsent,
                _ => return Err(broken(error.error(), Stage::BeforeHeaders)),
            }
        }
    }

    /// Takes a connection back after a complete response.
    pub(super) async fn give_back(&self, lease: Lease) {
        if let (Lease::Http1(connection), Connections::Http1(pool)) = (lease, &self.connections) {
            let max_requests = self.common.max_requests_per_connection;
            pool.give_back(connection, &self.dialer, max_requests).await;
        }
    }

    /// Closes what has been idle for too long; says whether nothing is left.
    pub(super) fn expire(&self) -> bool {
        let limit = self.common.idle_timeout;
        match &self.connections {
            Connections::Http1(pool) => {
                pool.expire(&self.dialer, limit);
                pool.is_empty()
            }
            Connections::Http2(pool) => {
                pool.expire(&self.dialer, limit);
                pool.is_empty()
            }
        }
    }

    /// A connection, and whether it was made for this request.
    async fn lease(&self, within: Duration) -> Result<(Lease, bool), UpstreamFailure> {
        match &self.connections {
            Connections::Http1(pool) => match pool.reuse().await {
                Some(connection) => Ok((Lease::Http1(connection), false)),
                None => {
                    let connection = pool.connect(&self.dialer, within).await?;
                    Ok((Lease::Http1(connection), true))
                }
            },
            Connections::Http2(pool) => {
                let max_requests = self.common.max_requests_per_connection;
                let mut fresh = false;
                for _ in 0..MAX_CONNECTS {
                    if let Some(stream) = pool.reuse(max_requests).await {
                        return Ok((Lease::Http2(stream), fresh));
                    }
                    pool.connect(&self.dialer, self.http2, within).await?;
                    fresh = true;
                }
                let detail = "every new connection closed before it carried a request";
                Err(failure(UpstreamFailureKind::ResetBeforeHeaders, detail))
            }
        }
    }
}

/// New connections that one attempt waits for. More than one, because others take the places on
/// it first when many attempts wait; few, because a peer that closes each at once is broken.
const MAX_CONNECTS: u32 = 16;
