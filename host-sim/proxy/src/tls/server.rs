//! `DownstreamTlsContext` as a rustls server configuration.

use super::certificate_choice::{CertificateChoice, NotedChoice};
use super::pem;
use crate::ProxyError;
use host_sim_bootstrap::{DownstreamTls, Listener};
use host_sim_engine::TlsInfo;
use rustls::crypto::ring::Ticketer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A listener's TLS, shared by all workers so that a session resumes on any of them.
#[derive(Clone)]
pub(crate) struct ServerTls {
    config: Arc<ServerConfig>,
    choice: Arc<CertificateChoice>,
}

impl ServerTls {
    /// The listener's TLS; `None` = plain text.
    pub(crate) fn of(listener: &Listener, base: Option<&Path>) -> Result<Option<Self>, ProxyError> {
        let Some(tls) = &listener.tls else { return Ok(None) };
        build(tls, base).map(Some).map_err(|reason| ProxyError::Tls {
            place: format!("listener {:?}", listener.name),
            reason,
        })
    }

    /// A handshake, and what it has agreed on.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, TlsInfo)> {
        // rustls does not tell which certificate it has shown: a choice of the connection's own
        // does. The rest of the configuration is counted references.
        let choice = Arc::new(NotedChoice::of(self.choice.clone()));
        let mut config = (*self.config).clone();
        config.cert_resolver = choice.clone();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let connection = stream.get_ref().1;
        let info = TlsInfo {
            sni: connection.server_name().map(Arc::from),
            local: choice.chosen(),
            ..super::agreed(connection)
        };
        Ok((stream, info))
    }
}

fn build(tls: &DownstreamTls, base: Option<&Path>) -> Result<ServerTls, String> {
    let mut certificates = Vec::new();
    for certificate in &tls.certificates {
        certificates.push(Arc::new(pem::certified_key(certificate, base)?));
    }
    let choice = Arc::new(CertificateChoice::new(certificates)?);
    let versions = super::versions(tls.min_version, tls.max_version);
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(client_verifier(tls, base)?)
        .with_cert_resolver(choice.clone());
    config.alpn_protocols = super::alpn(&tls.alpn_protocols);
    // Tickets and not a session cache: a cache is one lock for all workers.
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(ServerTls { config: Arc::new(config), choice })
}

/// Whom to let in: anybody, unless there are roots.
fn client_verifier(
    tls: &DownstreamTls,
    base: Option<&Path>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Some(source) = &tls.trusted_ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates("trusted_ca", source, base)? {
        roots.add(certificate).map_err(|error| format!("trusted_ca: {error}"))?;
    }
    let roots = Arc::new(roots);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, super::provider());
    if !tls.require_client_certificate {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| format!("trusted_ca: {error}"))
}
