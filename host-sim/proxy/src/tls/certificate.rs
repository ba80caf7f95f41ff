//! What attributes tell of a certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_sim_engine::CertificateInfo;
use ring::digest::{SHA256, digest};
use std::fmt::Write;
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{
    AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Name,
};

/// Reads a certificate that a handshake has accepted, or that a file has brought. What cannot be
/// read is left empty.
pub(super) fn describe(der: &[u8]) -> CertificateInfo {
    let sha256 = hexadecimal(digest(&SHA256, der).as_ref());
    let pem = pem(der);
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return CertificateInfo { sha256, pem, ..CertificateInfo::default() };
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let first = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(pick);
    CertificateInfo {
        subject: distinguished_name(certificate.subject()),
        uri_san: first(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        }),
        dns_san: first(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        sha256,
        pem,
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push('\n');
        }
        out.push(digit);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}

/// As of RFC 2253, in the words of OpenSSL: the last part first, without blanks.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts = name.iter().map(|part| {
        let mut attributes: Vec<String> = part.iter().map(attribute).collect();
        attributes.reverse();
        attributes.join("+")
    });
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type().to_id_string();
    let known = SHORT_NAMES.iter().find(|(oid, _)| *oid == kind).map(|(_, name)| *name);
    match (known, text(attribute)) {
        (Some(name), Some(text)) => format!("{name}={}", escaped(&text)),
        // What has no name has no known text either: its encoding says it all.
        (name, _) => {
            let value = attribute.attr_value();
            let mut encoded = vec![value.header.tag().0 as u8];
            put_length(&mut encoded, value.data.len());
            encoded.extend_from_slice(value.data);
            format!("{}=#{}", name.unwrap_or(&kind), hexadecimal(&encoded).to_uppercase())
        }
    }
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let value = attribute.attr_value();
    match value.header.tag() {
        Tag::BmpString => {
            let units = value.data.chunks_exact(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            });
            Some(String::from_utf16_lossy(&units.collect::<Vec<_>>()))
        }
        // Latin-1, as everybody reads it.
        Tag::TeletexString => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        _ => attribute.as_str().ok().map(str::to_owned),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', byte.into()]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            0x20..0x7f => out.push(byte.into()),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

/// The length of a value in DER.
fn put_length(out: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        return out.push(length as u8);
    }
    let bytes = length.to_be_bytes();
    let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let bytes = bytes.get(from..).unwrap_or_default();
    out.push(0x80 | bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What OpenSSL calls the attributes that subjects are made of.
const SHORT_NAMES: [(&str, &str); 21] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];
