//! Transport sockets: `DownstreamTlsContext` and `UpstreamTlsContext`.

use std::path::PathBuf;

/// `DownstreamTlsContext`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamTls {
    /// At least one.
    pub certificates: Vec<Certificate>,
    /// Offered in this order; empty = no ALPN.
    pub alpn_protocols: Vec<String>,
    /// Default TLS 1.2.
    pub min_version: TlsVersion,
    /// Default TLS 1.3.
    pub max_version: TlsVersion,
}

/// `UpstreamTlsContext`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Server name to send; empty = none.
    pub sni: String,
    /// Who may sign the server's certificate; absent = Envoy does not verify it at all.
    pub trusted_ca: Option<DataSource>,
    /// `match_typed_subject_alt_names` of type DNS with `exact`; empty = any name.
    pub subject_alt_names: Vec<String>,
    /// Client certificates.
    pub certificates: Vec<Certificate>,
    /// Offered in this order; empty = what the cluster's protocol implies.
    pub alpn_protocols: Vec<String>,
    /// Default TLS 1.2.
    pub min_version: TlsVersion,
    /// Default TLS 1.3.
    pub max_version: TlsVersion,
}

/// `TlsCertificate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, leaf first.
    pub chain: DataSource,
    /// PEM.
    pub private_key: DataSource,
}

/// `envoy.config.core.v3.DataSource`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// `filename`, as written; relative ones are relative to the process' directory, as in Envoy.
    File(PathBuf),
    /// `inline_bytes` or `inline_string`.
    Inline(Vec<u8>),
    /// `environment_variable`.
    Environment(String),
}

/// The versions host-sim can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}
