//! TLS between a client and the proxy, as far as plugins can see it.

use host_sim_engine::{CertificateInfo, TlsInfo};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// A server name, or what both ends know of their connection.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TlsSpec {
    /// TLS 1.3 for this server name, without certificates.
    Name(String),
    /// All of it.
    Known(Box<KnownTls>),
}

/// What attributes tell of a TLS connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KnownTls {
    /// Which name the client asks for. Default none.
    pub server_name: Option<String>,
    /// Default `TLSv1.3`.
    pub version: Version,
    /// The listener's certificate.
    pub local: Option<CertificateSpec>,
    /// The client's certificate. Default none: `connection.mtls` is false.
    pub peer: Option<CertificateSpec>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    #[serde(rename = "TLSv1.2")]
    V1_2,
    /// TLS 1.3.
    #[default]
    #[serde(rename = "TLSv1.3")]
    V1_3,
}

/// A certificate.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateSpec {
    /// Distinguished name as of RFC 2253: `CN=client,O=weir`.
    pub subject: String,
    /// The first URI among its alternative names.
    pub uri_san: Option<String>,
    /// The first DNS name among them.
    pub dns_san: Option<String>,
    /// SHA-256 of it, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The certificate itself, in PEM.
    pub pem: String,
}

impl TlsSpec {
    /// As the engine wants it.
    pub(crate) fn info(&self) -> TlsInfo {
        let known = match self {
            Self::Name(name) => {
                &KnownTls { server_name: Some(name.clone()), ..KnownTls::default() }
            }
            Self::Known(known) => known.as_ref(),
        };
        let certificate = |given: &CertificateSpec| {
            let CertificateSpec { subject, uri_san, dns_san, sha256, pem } = given.clone();
            Arc::new(CertificateInfo { subject, uri_san, dns_san, sha256, pem })
        };
        TlsInfo {
            version: match known.version {
                Version::V1_2 => "TLSv1.2".to_owned(),
                Version::V1_3 => "TLSv1.3".to_owned(),
            },
            sni: known.server_name.as_deref().map(Arc::from),
            local: known.local.as_ref().map(certificate),
            peer: known.peer.as_ref().map(certificate),
        }
    }
}
