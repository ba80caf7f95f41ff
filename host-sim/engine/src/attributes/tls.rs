//! What `connection.*` and `upstream.*` tell of TLS: the same names of either connection.
//!
//! A subject is there whenever there is TLS, and empty without a certificate; what else a
//! certificate may lack is absent. Of several alternative names the first one counts.

use crate::cel::Value;
use crate::{CertificateInfo, TlsInfo};

pub(super) fn attribute(tls: &TlsInfo, name: &str) -> Option<Value> {
    let (local, peer) = (tls.local.as_deref(), tls.peer.as_deref());
    match name {
        "tls_version" => Some(Value::text(&tls.version)),
        "subject_local_certificate" => Some(subject(local)),
        "subject_peer_certificate" => Some(subject(peer)),
        "uri_san_local_certificate" => local?.uri_san.as_deref().map(Value::text),
        "uri_san_peer_certificate" => peer?.uri_san.as_deref().map(Value::text),
        "dns_san_local_certificate" => local?.dns_san.as_deref().map(Value::text),
        "dns_san_peer_certificate" => peer?.dns_san.as_deref().map(Value::text),
        "sha256_peer_certificate_digest" => Some(Value::text(&peer?.sha256)),
        "peer_certificate" => Some(Value::text(&peer?.pem)),
        _ => None,
    }
}

fn subject(certificate: Option<&CertificateInfo>) -> Value {
    Value::text(certificate.map_or("", |certificate| &certificate.subject))
}
