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
use tokio_rustls::client::TlsStream;

/// A byte stream to an endpoint.
pub(super) trait Transport: Read + Write + Unpin {}

impl<T: Read + Write + Unpin> Transport for T {}

/// A connection that carries bytes.
pub(crate) enum ByteTransport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where and how to connect.
pub(crate) struct Dialer {
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

    /// A connection that carries bytes, and our own address on it.
    pub(crate) async fn dial_bytes(
        &self,
        within: Duration,
    ) -> Result<(ByteTransport, SocketAddr), UpstreamFailure> {
        match timeout(within, self.connect_bytes()).await {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(error)) => Err(connect_failure(&error)),
            Err(_) => Err(failure(UpstreamFailureKind::ConnectTimeout, "connection timeout")),
        }
    }

    /// Counts a connection that carries bytes, while the guard lives.
    pub(crate) fn count(&self) -> impl Sized + use<> {
        self.stats.opened_bytes()
    }

    async fn connect_bytes(&self) -> io::Result<(ByteTransport, SocketAddr)> {
        let stream = TcpStream::connect(self.endpoint).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let Some(tls) = &self.tls else { return Ok((ByteTransport::Plain(stream), local)) };
        let connector = TlsConnector::from(tls.bytes_config.clone());
        let stream = connector.connect(tls.server_name(self.endpoint), stream).await?;
        Ok((ByteTransport::Tls(Box::new(stream)), local))
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
