//! Whom upstream connections trust.
//!
//! Envoy verifies what it is told to and nothing else: without `trusted_ca` any certificate will
//! do, and with it the chain is checked but the name only against `match_typed_subject_alt_names`.
//! rustls, rightly, always checks the name, so its verifier is wrapped.

use super::pem;
use host_sim_bootstrap::UpstreamTls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// The verifier that the cluster's TLS context asks for.
pub(super) fn verifier(
    tls: &UpstreamTls,
    base: Option<&Path>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let provider = super::provider();
    let mut names = Vec::new();
    for name in &tls.subject_alt_names {
        let name = ServerName::try_from(name.clone());
        names.push(name.map_err(|_| "match_typed_subject_alt_names: not a DNS name".to_owned())?);
    }
    let chain = match &tls.trusted_ca {
        None => None,
        Some(source) => {
            let mut roots = RootCertStore::empty();
            for certificate in pem::certificates("trusted_ca", source, base)? {
                roots.add(certificate).map_err(|error| format!("trusted_ca: {error}"))?;
            }
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Some(builder.build().map_err(|error| format!("trusted_ca: {error}"))?)
        }
    };
    Ok(Arc::new(AsTold { chain, names, provider }))
}

/// Checks the chain if there are roots, the names if there are names.
#[derive(Debug)]
struct AsTold {
    chain: Option<Arc<WebPkiServerVerifier>>,
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AsTold {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            match chain.verify_server_cert(leaf, intermediates, name, ocsp, now) {
                // The name is the last thing that verifier looks at: the chain is good.
                Ok(_)
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        if !self.names.is_empty() {
            let parsed = ParsedCertificate::try_from(leaf)?;
            if !self.names.iter().any(|name| verify_server_name(&parsed, name).is_ok()) {
                return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
