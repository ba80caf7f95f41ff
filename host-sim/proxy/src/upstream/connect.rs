//! New connections: TCP, TLS, within the cluster's time.

use super::failure::{connect_failure, failure};
use super::stats::UpstreamStats;
use crate::tls::ClientTls;
use host_sim_engine::{UpstreamFailure, UpstreamFailureKind};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A byte stream to an endpoint.
pub(super) trait Transport: Read + Write + Unpin {}

impl<T: Read + Write + Unpin> Transport for T {}

/// Where and how to connect.
pub(super) struct Dialer {
    pub(super) endpoint: SocketAddr,
    pub(super) tls: Option<ClientTls>,
    pub(super) stats: UpstreamStats,
}

impl Dialer {
    /// Connects, TLS handshake included: Envoy's connect timeout covers both.
    pub(super) async fn dial(
        &self,
        within: Duration,
    ) -> Result<Box<dyn Transport>, UpstreamFailure> {
        match timeout(within, self.connect()).await {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(error)) => Err(connect_failure(&error)),
            Err(_) => Err(failure(UpstreamFailureKind::ConnectTimeout, "connection timeout")),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Transport>> {
        let stream = TcpStream::connect(self.endpoint).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(TokioIo::new(stream))) };
        let connector = TlsConnector::from(tls.config.clone());
        let stream = connector.connect(tls.server_name(self.endpoint), stream).await?;
        Ok(Box::new(TokioIo::new(stream)))
    }
}
