//! Certificates for loopback TLS: a root of our own and one leaf for `localhost`.
//!
//! The files are what Envoy's `DownstreamTlsContext` wants: `cert.pem` (leaf, then root) and
//! `key.pem` for the listener, `ca.pem` for who connects. They are made once and kept, because a
//! proxy and its clients in other processes must agree; they are made again when they have
//! expired, do not fit each other, or cannot be read.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! let certificates = host_sim_rig::certificates::ensure(directory.path())?;
//! let trusting = certificates.client_config()?;
//! # drop(trusting);
//! # anyhow::Ok(())
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What the leaf is valid for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long certificates are valid. Short enough that nobody mistakes them for real ones.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// Certificates this close to their end are made again, so that none expires in a running test.
const RENEW_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// Validity starts this much before now: clocks of other machines and containers differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The root, for clients to trust.
    pub ca: PathBuf,
    /// The leaf and the root, for servers to send.
    pub chain: PathBuf,
    /// The leaf's private key (PKCS #8).
    pub key: PathBuf,
}

/// Makes the files in `directory`, which is created if needed, unless good ones are there.
pub fn ensure(directory: &Path) -> anyhow::Result<Certificates> {
    let certificates = Certificates {
        ca: directory.join("ca.pem"),
        chain: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    };
    let soon = SystemTime::now() + RENEW_BEFORE;
    match certificates.verify(soon) {
        Ok(()) => log::debug!("certificates in {} are good", directory.display()),
        Err(reason) => {
            log::debug!("making certificates in {}: {reason:#}", directory.display());
            certificates
                .write(SystemTime::now())
                .with_context(|| format!("cannot write certificates to {}", directory.display()))?;
        }
    }
    Ok(certificates)
}

/// A client configuration that trusts the root in this PEM file and nothing else, on rustls' ring
/// provider, without ALPN.
pub fn client_config(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Certificates {
    /// A client configuration that trusts the root: [`client_config`] of `ca`.
    pub fn client_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        client_config(&self.ca)
    }

    /// A server configuration with the leaf, offering HTTP/2 and HTTP/1.1.
    pub fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.read_chain()?, self.read_key()?)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Whether a client that trusts the root accepts the leaf at `time`, for every name, and the
    /// key is the leaf's.
    fn verify(&self, time: SystemTime) -> anyhow::Result<()> {
        let chain = self.read_chain()?;
        let (leaf, intermediates) = chain.split_first().context("cert.pem is empty")?;
        let roots = Arc::new(roots(&self.ca)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
        let now = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH)?);
        for name in NAMES {
            let name = ServerName::try_from(name)?;
            verifier.verify_server_cert(leaf, intermediates, &name, &[], now)?;
        }
        CertifiedKey::from_der(chain.clone(), self.read_key()?, &provider())?.keys_match()?;
        Ok(())
    }

    fn write(&self, now: SystemTime) -> anyhow::Result<()> {
        let from = (now - BACKDATED).duration_since(UNIX_EPOCH)?;
        let from = date_time_ymd(1970, 1, 1) + from;
        let until = from + BACKDATED + LIFETIME;

        let mut root = CertificateParams::new(Vec::new())?;
        (root.not_before, root.not_after) = (from, until);
        root.distinguished_name.push(DnType::CommonName, "host-sim rig root");
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;

        let mut leaf = CertificateParams::new(NAMES.map(str::to_owned))?;
        (leaf.not_before, leaf.not_after) = (from, until);
        leaf.distinguished_name.push(DnType::CommonName, "localhost");
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = leaf.signed_by(&key, &root)?;

        if let Some(directory) = self.ca.parent() {
            fs::create_dir_all(directory)?;
        }
        replace(&self.key, &key.serialize_pem())?;
        replace(&self.chain, &(leaf.pem() + &root.pem()))?;
        replace(&self.ca, &root.pem())
    }

    fn read_chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        read_certificates(&self.chain)
    }

    fn read_key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.key.display()))
    }
}

/// Writes beside the file and renames, so that a reader never finds half a file.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let unfinished = path.with_extension(format!("pem.{}", std::process::id()));
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)?;
    Ok(())
}

fn roots(ca: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(ca)? {
        roots.add(certificate).with_context(|| format!("{} is no root", ca.display()))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_certificates_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let first = ensure(directory.path()).unwrap();
        let key = fs::read(&first.key).unwrap();
        assert_eq!(ensure(directory.path()).unwrap(), first);
        assert_eq!(fs::read(&first.key).unwrap(), key);
    }

    #[test]
    fn expired_certificates_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = ensure(directory.path()).unwrap();
        certificates.write(SystemTime::now() - LIFETIME).unwrap();
        assert!(certificates.verify(SystemTime::now() + BACKDATED).is_err());
        ensure(directory.path()).unwrap();
        certificates.verify(SystemTime::now()).unwrap();
    }

    #[test]
    fn a_key_of_another_leaf_is_noticed_and_replaced() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one_files, other_files) = (ensure(one.path()).unwrap(), ensure(other.path()).unwrap());
        fs::copy(&other_files.key, &one_files.key).unwrap();
        assert!(one_files.verify(SystemTime::now()).is_err());
        ensure(one.path()).unwrap().verify(SystemTime::now()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = ensure(&file.join("below")).unwrap_err();
        assert!(format!("{error:#}").contains("below"), "{error:#}");
    }
}
