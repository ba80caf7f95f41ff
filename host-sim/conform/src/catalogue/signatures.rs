//! `sign` and `verify_signature`: two keys made for this, and arguments of every kind.

use super::foreign::field;
use super::hostcalls::foreign;
use crate::Phase;
use crate::op::{Agree, Op};

/// PKCS #8 and `SubjectPublicKeyInfo`.
const RSA: [&[u8]; 2] =
    [include_bytes!("../../keys/rsa.private.der"), include_bytes!("../../keys/rsa.public.der")];

/// The same, of P-256.
const EC: [&[u8]; 2] =
    [include_bytes!("../../keys/ec.private.der"), include_bytes!("../../keys/ec.public.der")];

const TEXT: &[u8] = b"a text";

/// Of [`TEXT`], with SHA-256.
const BY_RSA: &[u8] = include_bytes!("../../keys/rsa.sha256.signature");
const BY_EC: &[u8] = include_bytes!("../../keys/ec.sha256.signature");

pub(super) fn signatures(phase: Phase) -> Vec<Op> {
    [bad(phase), sign(phase), verify(phase)].concat()
}

fn hash(name: &str) -> Vec<u8> {
    field(1, name.as_bytes())
}

/// What neither function can do anything with.
fn bad(phase: Phase) -> Vec<Op> {
    let arguments: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("no message", vec![0xff]),
        ("no key", hash("sha256")),
        ("two keys", [hash("sha256"), field(2, b"k"), field(4, b"k"), field(5, b"k")].concat()),
        ("a bad key", [hash("sha256"), field(2, b"key"), field(3, b"text")].concat()),
        ("a bad hash", [hash("md9"), field(2, b"key"), field(3, b"text")].concat()),
        ("no hash", [field(2, b"key"), field(3, b"text")].concat()),
    ];
    let ops = ["sign", "verify_signature"].into_iter().flat_map(|name| {
        arguments.iter().map(move |(what, bytes)| foreign(phase, name, what, bytes))
    });
    ops.collect()
}

/// `SignArguments`: hash, private key in DER, text, the key in PEM.
fn sign(phase: Phase) -> Vec<Op> {
    let ([rsa, rsa_public], [ec, _]) = (RSA, EC);
    let der = |what: &str, name: &str, key: &[u8], text: &[u8]| {
        let args = [hash(name), field(2, key), field(3, text)].concat();
        foreign(phase, "sign", what, &args)
    };
    let pem = |what: &str, label: &str, key: &[u8]| {
        let args = [hash("sha256"), field(3, TEXT), field(4, &armoured(label, key))].concat();
        foreign(phase, "sign", what, &args)
    };
    vec![
        der("RSA, SHA-256", "sha256", rsa, TEXT),
        der("RSA, SHA-384", "sha384", rsa, TEXT),
        der("RSA, SHA-512", "sha512", rsa, TEXT),
        der("RSA, in capitals", "SHA256", rsa, TEXT),
        der("RSA, no text", "sha256", rsa, b""),
        der("RSA, a bad hash", "md9", rsa, TEXT),
        der("RSA, half a key", "sha256", rsa.get(..rsa.len() / 2).unwrap_or_default(), TEXT),
        der("RSA, a public key", "sha256", rsa_public, TEXT),
        pem("RSA, in PEM", "PRIVATE KEY", rsa),
        pem("RSA, a public key in PEM", "PUBLIC KEY", rsa_public),
        // No two of them are alike.
        der("EC, SHA-256", "sha256", ec, TEXT).agree(Agree::Status),
    ]
}

/// `VerifySignatureArguments`: hash, public key in DER, signature, text, the key in PEM.
fn verify(phase: Phase) -> Vec<Op> {
    let ([rsa_private, rsa], [_, ec]) = (RSA, EC);
    let der = |what: &str, name: &str, key: &[u8], signature: &[u8], text: &[u8]| {
        let args = [hash(name), field(2, key), field(3, signature), field(4, text)].concat();
        foreign(phase, "verify_signature", what, &args)
    };
    let pem = |what: &str, key: &[u8], signature: &[u8]| {
        let key = field(5, &armoured("PUBLIC KEY", key));
        let args = [hash("sha256"), field(3, signature), field(4, TEXT), key].concat();
        foreign(phase, "verify_signature", what, &args)
    };
    let short = BY_RSA.get(1..).unwrap_or_default();
    vec![
        der("RSA, SHA-256", "sha256", rsa, BY_RSA, TEXT),
        der("RSA, in capitals", "SHA256", rsa, BY_RSA, TEXT),
        der("RSA, another text", "sha256", rsa, BY_RSA, b"another text"),
        der("RSA, another hash", "sha512", rsa, BY_RSA, TEXT),
        der("RSA, a short signature", "sha256", rsa, short, TEXT),
        der("RSA, no signature", "sha256", rsa, b"", TEXT),
        der("RSA, a private key", "sha256", rsa_private, BY_RSA, TEXT),
        der("EC, SHA-256", "sha256", ec, BY_EC, TEXT),
        der("EC, another text", "sha256", ec, BY_EC, b"another text"),
        der("EC, another's signature", "sha256", ec, BY_RSA, TEXT),
        pem("RSA, in PEM", rsa, BY_RSA),
        pem("EC, in PEM", ec, BY_EC),
    ]
}

/// DER as PEM. A line of base64 has 64 characters.
fn armoured(label: &str, der: &[u8]) -> Vec<u8> {
    let text = base64::engine::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let mut out = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in text.as_bytes().chunks(64) {
        out.extend(line);
        out.push(b'\n');
    }
    out.extend(format!("-----END {label}-----\n").bytes());
    out
}
