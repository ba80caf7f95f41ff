//! New connections: TCP, TLS, within the cluster's time.

use super::failure::{connect_failure, failure};
use super::stats::UpstreamStats;
use crate::tls::ClientTls;
use host_sim_engine::{UpstreamFailure, UpstreamFailureKind, UpstreamLink};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
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
    ) -> Result<(Box<dyn Transport>, UpstreamLink), UpstreamFailure> {
        match timeout(within, self.connect()).await {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(error)) => Err(connect_failure(&error)),
            Err(_) => Err(failure(UpstreamFailureKind::ConnectTimeout, "connection timeout")),
        }
    }

    /// A connection that carries bytes.
    pub(crate) async fn dial_bytes(
        &self,
        within: Duration,
    ) -> Result<(ByteTransport, UpstreamLink), UpstreamFailure> {
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

    async fn connect_bytes(&self) -> io::Result<(ByteTransport, UpstreamLink)> {
        let (stream, mut link) = self.connect_plain().await?;
        let Some(tls) = &self.tls else { return Ok((ByteTransport::Plain(stream), link)) };
        let connector = TlsConnector::from(tls.bytes_config.clone());
        let stream = connector.connect(tls.server_name(self.endpoint), stream).await?;
        link.tls = Some(Arc::new(tls.agreed(stream.get_ref().1)));
        Ok((ByteTransport::Tls(Box::new(stream)), link))
    }

    async fn connect(&self) -> io::Result<(Box<dyn Transport>, UpstreamLink)> {
        let (stream, mut link) = self.connect_plain().await?;
        let Some(tls) = &self.tls else { return Ok((Box::new(TokioIo::new(stream)), link)) };
        let connector = TlsConnector::from(tls.config.clone());
        let stream = connector.connect(tls.server_name(self.endpoint), stream).await?;
        link.tls = Some(Arc::new(tls.agreed(stream.get_ref().1)));
        Ok((Box::new(TokioIo::new(stream)), link))
    }

    async fn connect_plain(&self) -> io::Result<(TcpStream, UpstreamLink)> {
        let stream = TcpStream::connect(self.endpoint).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok((stream, UpstreamLink::plain(local)))
    }
}
