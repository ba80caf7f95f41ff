//! Transport sockets: `DownstreamTlsContext` and `UpstreamTlsContext`.

use std::path::PathBuf;

use crate::header_matcher::{HeaderMatch, STRING_MATCHER};
use crate::reader::{Message, Reader};

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
    /// Who may sign clients' certificates; absent = clients are not asked for one.
    pub trusted_ca: Option<DataSource>,
    /// Whether a client without a certificate is turned away.
    pub require_client_certificate: bool,
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
    /// Default TLS 1.2: for clients, Envoy's is lower than for servers.
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

pub(crate) const DOWNSTREAM_TLS: Message<Option<DownstreamTls>> = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    read: downstream_tls,
};

pub(crate) const UPSTREAM_TLS: Message<Option<UpstreamTls>> = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    read: upstream_tls,
};

pub(crate) const DATA_SOURCE: Message<DataSource> =
    Message { name: "envoy.config.core.v3.DataSource", read: data_source };

const COMMON: Message<Common> =
    Message { name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext", read: common };

const PARAMETERS: Message<Versions> =
    Message { name: "envoy.extensions.transport_sockets.tls.v3.TlsParameters", read: parameters };

const CERTIFICATE: Message<Certificate> =
    Message { name: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate", read: certificate };

const VALIDATION: Message<Validation> = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
    read: validation,
};

const SAN_MATCHER: Message<String> = Message {
    name: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    read: san_matcher,
};

/// `CommonTlsContext`.
struct Common {
    certificates: Vec<Certificate>,
    validation: Option<Validation>,
    alpn_protocols: Vec<String>,
    versions: Versions,
}

/// `TlsParameters`; none is `TLS_AUTO`.
#[derive(Default)]
struct Versions {
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
}

/// `CertificateValidationContext`.
struct Validation {
    trusted_ca: Option<DataSource>,
    subject_alt_names: Vec<String>,
}

fn downstream_tls(message: &mut Reader<'_>) -> Option<Option<DownstreamTls>> {
    let common = message.required("common_tls_context", COMMON)?;
    let require_client_certificate = message.flag("require_client_certificate", false);
    let at = "common_tls_context";
    if common.validation.as_ref().is_some_and(|found| !found.subject_alt_names.is_empty()) {
        let what = "names of clients are not matched by host-sim, only 'trusted_ca' is looked at";
        message.problem_at(at, what);
    }
    let trusted_ca = common.validation.and_then(|found| found.trusted_ca);
    if require_client_certificate && trusted_ca.is_none() && message.is_sound(at) {
        let what = "host-sim asks clients for certificates only with 'trusted_ca' in \
                    'validation_context'";
        message.problem_at(at, what);
    }
    let (min_version, max_version) = range(message, &common.versions, TlsVersion::V1_3)?;
    if common.certificates.is_empty() && message.is_sound(at) {
        message.problem_at(at, "field 'tls_certificates' needs at least one certificate");
    }
    Some(Some(DownstreamTls {
        certificates: common.certificates,
        alpn_protocols: common.alpn_protocols,
        min_version,
        max_version,
        trusted_ca,
        require_client_certificate,
    }))
}

fn upstream_tls(message: &mut Reader<'_>) -> Option<Option<UpstreamTls>> {
    let sni = message.text("sni");
    let common = message.message("common_tls_context", COMMON).unwrap_or(Common {
        certificates: Vec::new(),
        validation: None,
        alpn_protocols: Vec::new(),
        versions: Versions::default(),
    });
    let (min_version, max_version) = range(message, &common.versions, TlsVersion::V1_2)?;
    let (trusted_ca, subject_alt_names) = common
        .validation
        .map_or((None, Vec::new()), |found| (found.trusted_ca, found.subject_alt_names));
    Some(Some(UpstreamTls {
        sni,
        trusted_ca,
        subject_alt_names,
        certificates: common.certificates,
        alpn_protocols: common.alpn_protocols,
        min_version,
        max_version,
    }))
}

fn common(message: &mut Reader<'_>) -> Option<Common> {
    let versions = message.message("tls_params", PARAMETERS);
    Some(Common {
        certificates: message.list("tls_certificates", CERTIFICATE),
        validation: message.message("validation_context", VALIDATION),
        alpn_protocols: message.texts("alpn_protocols"),
        versions: versions.unwrap_or_default(),
    })
}

fn parameters(message: &mut Reader<'_>) -> Option<Versions> {
    let choices = [
        ("TLS_AUTO", 0, Some(None)),
        ("TLSv1_0", 1, None),
        ("TLSv1_1", 2, None),
        ("TLSv1_2", 3, Some(Some(TlsVersion::V1_2))),
        ("TLSv1_3", 4, Some(Some(TlsVersion::V1_3))),
    ];
    let min = message.choice("tls_minimum_protocol_version", &choices);
    let max = message.choice("tls_maximum_protocol_version", &choices);
    Some(Versions { min: min?, max: max? })
}

/// Both ends of what may be spoken. `auto` is the highest version unless the file names one.
fn range(
    message: &mut Reader<'_>,
    versions: &Versions,
    auto: TlsVersion,
) -> Option<(TlsVersion, TlsVersion)> {
    let min = versions.min.unwrap_or(TlsVersion::V1_2);
    let max = versions.max.unwrap_or(auto);
    if min > max {
        let what = "field 'tls_params': the minimum protocol version is above the maximum, \
                    which is TLSv1_3 for listeners and TLSv1_2 for clusters unless it is given";
        message.problem_at("common_tls_context", what);
        return None;
    }
    Some((min, max))
}

fn certificate(message: &mut Reader<'_>) -> Option<Certificate> {
    let chain = message.required("certificate_chain", DATA_SOURCE);
    let private_key = message.required("private_key", DATA_SOURCE);
    Some(Certificate { chain: chain?, private_key: private_key? })
}

fn validation(message: &mut Reader<'_>) -> Option<Validation> {
    Some(Validation {
        trusted_ca: message.message("trusted_ca", DATA_SOURCE),
        subject_alt_names: message.list("match_typed_subject_alt_names", SAN_MATCHER),
    })
}

fn san_matcher(message: &mut Reader<'_>) -> Option<String> {
    let kinds = [
        ("SAN_TYPE_UNSPECIFIED", 0, None),
        ("EMAIL", 1, None),
        ("DNS", 2, Some(())),
        ("URI", 3, None),
        ("IP_ADDRESS", 4, None),
        ("OTHER_NAME", 5, None),
    ];
    if !message.has("san_type") {
        message.problem("field 'san_type' is required");
    }
    message.choice("san_type", &kinds);
    match message.required("matcher", STRING_MATCHER)? {
        HeaderMatch::Exact(name, _) => Some(name),
        _ => {
            message.problem_at("matcher", "host-sim simulates 'exact' here");
            None
        }
    }
}

fn data_source(message: &mut Reader<'_>) -> Option<DataSource> {
    let fields = ["filename", "inline_bytes", "inline_string", "environment_variable"];
    message.one_of(&fields, true);
    let filename = message.optional_text("filename").map(PathBuf::from).map(DataSource::File);
    let bytes = message.bytes("inline_bytes").map(DataSource::Inline);
    let text = message.optional_text("inline_string").map(String::into_bytes);
    let variable = message.optional_text("environment_variable").map(DataSource::Environment);
    filename.or(bytes).or(text.map(DataSource::Inline)).or(variable)
}
