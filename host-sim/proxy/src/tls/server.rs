//! `DownstreamTlsContext` as a rustls server configuration.

use super::certificate_choice::CertificateChoice;
use super::pem;
use crate::ProxyError;
use host_sim_bootstrap::{DownstreamTls, Listener};
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use std::path::Path;
use std::sync::Arc;

/// The listener's TLS, shared by all workers so that a session resumes on any of them.
pub(crate) fn server_config(
    listener: &Listener,
    base: Option<&Path>,
) -> Result<Option<Arc<ServerConfig>>, ProxyError> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    build(tls, base).map(|config| Some(Arc::new(config))).map_err(|reason| ProxyError::Tls {
        place: format!("listener {:?}", listener.name),
        reason,
    })
}

fn build(tls: &DownstreamTls, base: Option<&Path>) -> Result<ServerConfig, String> {
    let mut certificates = Vec::new();
    for certificate in &tls.certificates {
        certificates.push(Arc::new(pem::certified_key(certificate, base)?));
    }
    let choice = CertificateChoice::new(certificates)?;
    let versions = super::versions(tls.min_version, tls.max_version);
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(choice));
    config.alpn_protocols = super::alpn(&tls.alpn_protocols);
    // Tickets and not a session cache: a cache is one lock for all workers.
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(config)
}
