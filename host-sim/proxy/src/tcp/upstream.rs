//! The upstream's side: a connection to an endpoint, or the pipe to an HTTP codec.

use super::side::{Side, Sides};
use crate::driver::Driver;
use crate::upstream::ByteTransport;
use host_sim_engine::{Cluster, ConnectionId, UpstreamFailure, UpstreamFailureKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a response that may wait in the pipe.
const PIPE: usize = 64 * 1024;

impl Sides {
    /// Connects to an endpoint on a task of its own, and then moves bytes.
    pub(crate) fn connect(
        &self,
        driver: &Rc<Driver>,
        id: ConnectionId,
        cluster: Arc<Cluster>,
        endpoint: SocketAddr,
        within: Duration,
    ) {
        let (sides, driver) = (self.clone(), driver.clone());
        tokio::task::spawn_local(async move {
            let dialer = driver.upstreams().dialer(&cluster, endpoint);
            let Some(dialer) = dialer else {
                let detail = "no cluster".to_owned();
                let failure = UpstreamFailure { kind: UpstreamFailureKind::ConnectFailure, detail };
                return driver.feed(|worker| worker.upstream_connect_failed(id, failure));
            };
            let _counted = dialer.count();
            let dialed = tokio::select! {
                dialed = dialer.dial_bytes(within) => dialed,
                () = sides.upstream_gone() => return,
            };
            match dialed {
                Ok((transport, link)) => {
                    driver.feed(|worker| worker.upstream_connected(id, link));
                    sides.changed();
                    match transport {
                        ByteTransport::Plain(socket) => {
                            sides.run(&driver, id, Side::Upstream, socket).await;
                        }
                        ByteTransport::Tls(socket) => {
                            sides.run(&driver, id, Side::Upstream, *socket).await;
                        }
                    }
                }
                Err(failure) => {
                    driver.feed(|worker| worker.upstream_connect_failed(id, failure));
                    sides.changed();
                }
            }
        });
    }

    /// Puts the HTTP codec at the chain's end.
    pub(crate) fn serve_http(&self, driver: &Rc<Driver>, id: ConnectionId) {
        let Some(serve) = self.http.borrow_mut().take() else { return };
        let (near, far) = tokio::io::duplex(PIPE);
        serve(far);
        let (sides, driver) = (self.clone(), driver.clone());
        tokio::task::spawn_local(async move {
            sides.run(&driver, id, Side::Upstream, near).await;
        });
    }
}
