//! What a driver tells about a downstream connection and about an upstream failure.

use std::net::SocketAddr;
use std::sync::Arc;

/// The connection an exchange came in on.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address the client connected to.
    pub local: SocketAddr,
    /// What was agreed, on TLS connections.
    pub tls: Option<TlsInfo>,
    /// HTTP version of the connection.
    pub protocol: Protocol,
    /// Number of the connection, for the `connection.id` attribute; any unique number.
    pub connection_id: u64,
}

/// What the TLS handshake agreed on.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// As Envoy writes it: `TLSv1.2`, `TLSv1.3`.
    pub version: String,
    /// Server name the client asked for.
    pub sni: Option<Arc<str>>,
    /// The certificate that this end has; none is as good as an empty one.
    pub local: Option<Arc<CertificateInfo>>,
    /// The certificate that the other end has shown.
    pub peer: Option<Arc<CertificateInfo>>,
}

/// What attributes tell of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Distinguished name as of RFC 2253: the most specific part first.
    pub subject: String,
    /// The first URI among the subject's alternative names.
    pub uri_san: Option<String>,
    /// The first DNS name among them.
    pub dns_san: Option<String>,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The certificate itself, in PEM with a line break at its end.
    pub pem: String,
}

/// Our end of a connection to an endpoint.
#[derive(Clone, Debug)]
pub struct UpstreamLink {
    /// The address that the endpoint sees.
    pub local: SocketAddr,
    /// What was agreed, on TLS connections.
    pub tls: Option<Arc<TlsInfo>>,
}

impl UpstreamLink {
    /// A connection in plain text.
    #[must_use]
    pub const fn plain(local: SocketAddr) -> Self {
        Self { local, tls: None }
    }
}

/// HTTP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Protocol {
    /// As attributes and access logs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Why an attempt ended without a complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFailure {
    /// Which class; decides flags, local reply and retry.
    pub kind: UpstreamFailureKind,
    /// The transport's own words, e.g. `Connection refused`: becomes
    /// `upstream.transport_failure_reason` after Envoy's prefix.
    pub detail: String,
}

/// Classes of upstream failure, as the router tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailureKind {
    /// Refused, unreachable, or the TLS handshake failed.
    ConnectFailure,
    /// No connection within the cluster's `connect_timeout`.
    ConnectTimeout,
    /// The connection was closed or reset before response headers.
    ResetBeforeHeaders,
    /// The connection was closed or reset between response headers and the response's end.
    ResetMidStream,
    /// HTTP/2 RST_STREAM, any code but REFUSED_STREAM: the connection lives on.
    RemoteReset,
    /// HTTP/2 REFUSED_STREAM: the upstream did nothing with the request.
    RefusedStream,
    /// The upstream does not speak HTTP as it should.
    ProtocolError,
}
