//! TLS settings of the bootstrap as rustls configurations.

mod certificate;
mod certificate_choice;
mod client;
mod pem;
mod server;
mod server_verifier;

use host_sim_bootstrap::TlsVersion;
use host_sim_engine::TlsInfo;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CommonState, ProtocolVersion, SupportedProtocolVersion};
use std::sync::Arc;

pub(crate) use client::ClientTls;
pub(crate) use server::ServerTls;

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

/// What a handshake has agreed on, but for this end's part in it.
fn agreed(connection: &CommonState) -> TlsInfo {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let peer = connection.peer_certificates().and_then(|chain| chain.first());
    TlsInfo {
        version: version.to_owned(),
        peer: peer.map(|leaf| Arc::new(certificate::describe(leaf))),
        ..TlsInfo::default()
    }
}
