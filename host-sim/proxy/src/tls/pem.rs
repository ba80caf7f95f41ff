//! Certificates and keys from where the file says they are.

use host_sim_bootstrap::{Certificate, DataSource};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::{env, fs};

/// Reads one certificate with its key and checks that they belong together.
pub(super) fn certified_key(
    certificate: &Certificate,
    base: Option<&Path>,
) -> Result<CertifiedKey, String> {
    let chain = certificates("certificate_chain", &certificate.chain, base)?;
    let key = read("private_key", &certificate.private_key, base)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
        let place = describe(&certificate.private_key);
        format!("private_key {place}: no usable PEM private key: {error}")
    })?;
    CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| {
        let (chain, key) = (describe(&certificate.chain), describe(&certificate.private_key));
        format!("certificate_chain {chain} with private_key {key}: {error}")
    })
}

/// Reads at least one certificate.
pub(super) fn certificates(
    field: &str,
    source: &DataSource,
    base: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(field, source, base)?;
    let place = describe(source);
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{field} {place}: not PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!("{field} {place}: no PEM certificate in it"));
    }
    Ok(found)
}

fn read(field: &str, source: &DataSource, base: Option<&Path>) -> Result<Vec<u8>, String> {
    match source {
        DataSource::File(path) => {
            let path = base.map_or_else(|| path.clone(), |base| base.join(path));
            fs::read(&path).map_err(|error| format!("{field} {}: {error}", path.display()))
        }
        DataSource::Inline(bytes) => Ok(bytes.clone()),
        DataSource::Environment(name) => env::var(name)
            .map(String::into_bytes)
            .map_err(|error| format!("{field} from environment variable {name}: {error}")),
    }
}

fn describe(source: &DataSource) -> String {
    match source {
        DataSource::File(path) => path.display().to_string(),
        DataSource::Inline(_) => "(inline)".to_owned(),
        DataSource::Environment(name) => format!("${name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_its_field() {
        let source = DataSource::File("no/such.pem".into());
        let error = certificates("trusted_ca", &source, Some(Path::new("/etc"))).unwrap_err();
        assert!(error.starts_with("trusted_ca /etc/no/such.pem: "), "{error}");
    }

    #[test]
    fn text_without_a_certificate_is_not_an_empty_chain() {
        let source = DataSource::Inline(b"hello".to_vec());
        let error = certificates("trusted_ca", &source, None).unwrap_err();
        assert_eq!(error, "trusted_ca (inline): no PEM certificate in it");
    }
}
