//! Which certificate a handshake gets.

use rustls::client::verify_server_name;
use rustls::pki_types::{DnsName, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// Envoy's rule: the first certificate valid for the name that the client asks for and signable
/// for it; else the first that the client can verify the signature of.
#[derive(Debug)]
pub(super) struct CertificateChoice {
    certificates: Vec<Arc<CertifiedKey>>,
}

impl CertificateChoice {
    /// Checks that each certificate can be parsed.
    pub(super) fn new(certificates: Vec<Arc<CertifiedKey>>) -> Result<Self, String> {
        for certificate in &certificates {
            let leaf = certificate.end_entity_cert().map_err(|error| error.to_string())?;
            ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
        }
        Ok(Self { certificates })
    }
}

impl ResolvesServerCert for CertificateChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let signable = |c: &&Arc<CertifiedKey>| c.key.choose_scheme(schemes).is_some();
        let name = hello.server_name().and_then(|name| DnsName::try_from(name).ok());
        let named = name.and_then(|name| {
            let name = ServerName::DnsName(name);
            self.certificates.iter().filter(signable).find(|c| is_valid_for(c, &name))
        });
        named.or_else(|| self.certificates.iter().find(signable)).cloned()
    }
}

fn is_valid_for(certificate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = certificate.end_entity_cert().ok();
    let parsed = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
