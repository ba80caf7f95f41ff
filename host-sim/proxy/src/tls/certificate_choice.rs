//! Which certificate a handshake gets.

use super::certificate;
use host_sim_engine::CertificateInfo;
use rustls::client::verify_server_name;
use rustls::pki_types::{DnsName, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, OnceLock};

/// Envoy's rule: the first certificate valid for the name that the client asks for and signable
/// for it; else the first that the client can verify the signature of.
#[derive(Debug)]
pub(super) struct CertificateChoice {
    certificates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    key: Arc<CertifiedKey>,
    info: Arc<CertificateInfo>,
}

/// The same for one handshake, which wants to know what was chosen.
#[derive(Debug)]
pub(super) struct NotedChoice {
    choice: Arc<CertificateChoice>,
    chosen: OnceLock<Arc<CertificateInfo>>,
}

impl CertificateChoice {
    /// Checks that each certificate can be parsed.
    pub(super) fn new(certificates: Vec<Arc<CertifiedKey>>) -> Result<Self, String> {
        let candidate = |key: Arc<CertifiedKey>| {
            let leaf = key.end_entity_cert().map_err(|error| error.to_string())?;
            ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
            let info = Arc::new(certificate::describe(leaf));
            Ok(Candidate { key, info })
        };
        let certificates = certificates.into_iter().map(candidate);
        Ok(Self { certificates: certificates.collect::<Result<_, String>>()? })
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Candidate> {
        let schemes = hello.signature_schemes();
        let signable = |c: &&Candidate| c.key.key.choose_scheme(schemes).is_some();
        let name = hello.server_name().and_then(|name| DnsName::try_from(name).ok());
        let named = name.and_then(|name| {
            let name = ServerName::DnsName(name);
            self.certificates.iter().filter(signable).find(|c| is_valid_for(&c.key, &name))
        });
        named.or_else(|| self.certificates.iter().find(signable))
    }
}

impl ResolvesServerCert for CertificateChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello).map(|found| found.key.clone())
    }
}

impl NotedChoice {
    pub(super) fn of(choice: Arc<CertificateChoice>) -> Self {
        Self { choice, chosen: OnceLock::new() }
    }

    /// What was chosen, once the handshake is over.
    pub(super) fn chosen(&self) -> Option<Arc<CertificateInfo>> {
        self.chosen.get().cloned()
    }
}

impl ResolvesServerCert for NotedChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.choice.choose(&hello)?;
        // A second hello of the same handshake chooses the same.
        let _ = self.chosen.set(found.info.clone());
        Some(found.key.clone())
    }
}

fn is_valid_for(certificate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = certificate.end_entity_cert().ok();
    let parsed = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
