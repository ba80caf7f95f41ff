//! HTTP/1.1 keep-alive connections of one endpoint.

use super::connect::Dialer;
use super::failure::{Stage, broken};
use crate::body_queue::RequestBody;
use host_sim_engine::{UpstreamFailure, UpstreamLink};
use hyper::client::conn::http1::{SendRequest, handshake};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A connection that has been idle for longer is looked at again by the event loop before use. Its
/// peer may have closed it while this worker was busy; a shorter pause is too rare a moment for a
/// close to be worth a system call on each request.
const TRUSTED_IDLE: Duration = Duration::from_millis(1);

/// Idle connections, the last used first: the others get a chance to time out.
#[derive(Default)]
pub(super) struct Http1Pool {
    idle: RefCell<Vec<Idle>>,
    open: Rc<Cell<usize>>,
}

struct Idle {
    connection: Http1Connection,
    since: Instant,
}

/// A connection in use by one attempt.
pub(super) struct Http1Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) link: UpstreamLink,
    requests: u32,
}

impl Http1Pool {
    /// An idle connection that is still open.
    pub(super) async fn reuse(&self) -> Option<Http1Connection> {
        loop {
            let Idle { connection, since } = self.idle.borrow_mut().pop()?;
            if since.elapsed() > TRUSTED_IDLE {
                // Lets the event loop deliver a close that has already arrived.
                tokio::task::yield_now().await;
            }
            if connection.sender.is_ready() && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
    }

    /// A new connection.
    pub(super) async fn connect(
        &self,
        dialer: &Dialer,
        within: Duration,
    ) -> Result<Http1Connection, UpstreamFailure> {
        let active = dialer.stats.opened(false);
        let (io, link) = dialer.dial(within).await?;
        let (sender, connection) =
            handshake(io).await.map_err(|error| broken(&error, Stage::BeforeHeaders))?;
        let open = self.open.clone();
        open.set(open.get() + 1);
        tokio::task::spawn_local(async move {
            // What broke it has been reported to the attempt that was using it, if any was.
            let _ = connection.await;
            open.set(open.get() - 1);
            drop(active);
        });
        Ok(Http1Connection { sender, link, requests: 0 })
    }

    /// Takes a connection back once its exchange is over, unless it has served its time.
    pub(super) async fn give_back(
        &self,
        mut connection: Http1Connection,
        dialer: &Dialer,
        max_requests: Option<u32>,
    ) {
        connection.requests += 1;
        if max_requests.is_some_and(|max| connection.requests >= max) {
            dialer.stats.max_requests.inc();
            return;
        }
        // Ready once request and response are complete; an error when the peer keeps it no longer.
        if connection.sender.ready().await.is_ok() {
            self.idle.borrow_mut().push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes connections that have been idle for `limit`.
    pub(super) fn expire(&self, dialer: &Dialer, limit: Option<Duration>) {
        self.idle.borrow_mut().retain(|idle| {
            let expired = limit.is_some_and(|limit| idle.since.elapsed() >= limit);
            if expired {
                dialer.stats.idle_timeout.inc();
            }
            !expired && !idle.connection.sender.is_closed()
        });
    }

    /// Whether there is no connection at all.
    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0
    }
}
