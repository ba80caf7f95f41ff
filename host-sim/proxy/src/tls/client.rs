//! `UpstreamTlsContext` as a rustls client configuration.

use super::{certificate, pem, server_verifier};
use crate::ProxyError;
use host_sim_bootstrap::{Cluster, UpstreamProtocol, UpstreamTls};
use host_sim_engine::{CertificateInfo, TlsInfo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// How connections to one cluster's endpoints are encrypted.
#[derive(Clone)]
pub(crate) struct ClientTls {
    /// The configuration.
    pub(crate) config: Arc<ClientConfig>,
    /// The same for connections that carry bytes: they offer no protocol of their own accord.
    pub(crate) bytes_config: Arc<ClientConfig>,
    /// `sni`; without one none is sent.
    name: Option<ServerName<'static>>,
    /// The certificate to show when asked for one.
    local: Option<Arc<CertificateInfo>>,
}

impl ClientTls {
    /// The cluster's TLS; `None` = plain text.
    pub(crate) fn of(cluster: &Cluster, base: Option<&Path>) -> Result<Option<Self>, ProxyError> {
        let Some(tls) = &cluster.tls else { return Ok(None) };
        build(tls, cluster.http.protocol, base).map(Some).map_err(|reason| ProxyError::Tls {
            place: format!("cluster {:?}", cluster.name),
            reason,
        })
    }

    /// The name to ask `endpoint` for.
    pub(crate) fn server_name(&self, endpoint: SocketAddr) -> ServerName<'static> {
        // rustls wants a name and sends no SNI for an address.
        self.name.clone().unwrap_or_else(|| ServerName::IpAddress(endpoint.ip().into()))
    }

    /// What a handshake has agreed on.
    pub(crate) fn agreed(&self, connection: &CommonState) -> TlsInfo {
        TlsInfo { local: self.local.clone(), ..super::agreed(connection) }
    }
}

fn build(
    tls: &UpstreamTls,
    protocol: UpstreamProtocol,
    base: Option<&Path>,
) -> Result<ClientTls, String> {
    let verifier = server_verifier::verifier(tls, base)?;
    let versions = super::versions(tls.min_version, tls.max_version);
    let builder = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut local = None;
    let mut config = match tls.certificates.first() {
        Some(certificate) => {
            let key = pem::certified_key(certificate, base)?;
            local = key.cert.first().map(|leaf| Arc::new(certificate::describe(leaf)));
            let single = rustls::sign::SingleCertAndKey::from(key);
            builder.with_client_cert_resolver(Arc::new(single))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = if tls.alpn_protocols.is_empty() {
        vec![default_alpn(protocol).to_vec()]
    } else {
        super::alpn(&tls.alpn_protocols)
    };
    let name = match tls.sni.as_str() {
        "" => None,
        sni => Some(
            ServerName::try_from(sni.to_owned())
                .map_err(|_| format!("sni {sni:?} is no host name"))?,
        ),
    };
    let mut bytes_config = config.clone();
    bytes_config.alpn_protocols = super::alpn(&tls.alpn_protocols);
    Ok(ClientTls { config: Arc::new(config), bytes_config: Arc::new(bytes_config), name, local })
}

/// What Envoy's connection pools offer when the file is silent.
fn default_alpn(protocol: UpstreamProtocol) -> &'static [u8] {
    match protocol {
        UpstreamProtocol::Http2 => b"h2",
        UpstreamProtocol::Http1 | UpstreamProtocol::SameAsDownstream => b"http/1.1",
    }
}
