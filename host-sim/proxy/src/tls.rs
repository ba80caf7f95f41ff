//! TLS settings of the bootstrap as rustls configurations.

mod certificate_choice;
mod client;
mod pem;
mod server;
mod server_verifier;

use host_sim_bootstrap::TlsVersion;
use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, ring};
use std::sync::Arc;

pub(crate) use client::ClientTls;
pub(crate) use server::server_config;

/// Ring on purpose: it needs no C++ build tools.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let known =
        [(TlsVersion::V1_2, &rustls::version::TLS12), (TlsVersion::V1_3, &rustls::version::TLS13)];
    known.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, v)| v).collect()
}

fn alpn(protocols: &[String]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.clone().into_bytes()).collect()
}
