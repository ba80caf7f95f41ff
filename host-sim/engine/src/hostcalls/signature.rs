//! `sign` and `verify_signature`, as far as ring goes.
//!
//! Envoy's crypto also knows SHA-224, signatures with SHA-1, RSA keys below 2048 bits, more curves,
//! and EC keys outside of PKCS #8: with those the answer here is false, with an error that says so.

use crate::protobuf::{Message, put_bytes, put_number, put_string};
use base64::Engine as _;
use host_sim_abi::Status;
use ring::rand::SystemRandom;
use ring::signature::{self as keys, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey};

const HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];

/// Object identifiers of DER.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

const NO_VERIFIER: &str = "Failed to initialize digest verify.";
const NO_SIGNER: &str = "Invalid key type: private key required for signing operation.";

/// `VerifySignatureArguments { string hash_function = 1; bytes public_key = 2; bytes signature = 3;
/// bytes text = 4; string public_key_pem = 5; }` to
/// `VerifySignatureResult { bool result = 1; string error = 2; }`
pub(super) fn verify(args: &[u8]) -> Result<Vec<u8>, Status> {
    let args = Message::parse(args).ok_or(Status::BadArgument)?;
    let hash = args.text(1).ok_or(Status::BadArgument)?;
    let key = key(&args, 2, 5)?;
    let (signature, text) = (args.bytes(3).unwrap_or_default(), args.bytes(4).unwrap_or_default());
    let outcome = check(hash, key, text, signature);
    let mut out = Vec::new();
    put_number(&mut out, 1, u64::from(outcome.is_ok()));
    put_string(&mut out, 2, &outcome.err().unwrap_or_default());
    Ok(out)
}

/// `SignArguments { string hash_function = 1; bytes private_key = 2; bytes text = 3;
/// string private_key_pem = 4; }` to
/// `SignResult { bool result = 1; bytes signature = 2; string error = 3; }`
pub(super) fn sign(args: &[u8]) -> Result<Vec<u8>, Status> {
    let args = Message::parse(args).ok_or(Status::BadArgument)?;
    let hash = args.text(1).ok_or(Status::BadArgument)?;
    let key = key(&args, 2, 4)?;
    let outcome = make(hash, key, args.bytes(3).unwrap_or_default());
    let mut out = Vec::new();
    put_number(&mut out, 1, u64::from(outcome.is_ok()));
    match outcome {
        Ok(signature) => put_bytes(&mut out, 2, &signature),
        Err(error) => put_string(&mut out, 3, &error),
    }
    Ok(out)
}

/// A key in one of its two spellings; exactly one must be there.
enum Key<'a> {
    Der(&'a [u8]),
    Pem(&'a str),
}

fn key<'a>(args: &Message<'a>, der: u32, pem: u32) -> Result<Key<'a>, Status> {
    let der = args.bytes(der).unwrap_or_default();
    let pem = args.text(pem).ok_or(Status::BadArgument)?;
    match (der.is_empty(), pem.is_empty()) {
        (false, true) => Ok(Key::Der(der)),
        (true, false) => Ok(Key::Pem(pem)),
        _ => Err(Status::BadArgument),
    }
}

impl Key<'_> {
    /// DER and, of PEM, what it says it is.
    fn der(&self) -> Option<(Vec<u8>, &str)> {
        let text = match self {
            Self::Der(der) => return Some((der.to_vec(), "")),
            Self::Pem(text) => text,
        };
        let (label, rest) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
        let body = rest.split_once("-----END ")?.0;
        let body: String = body.split_whitespace().collect();
        Some((base64::engine::general_purpose::STANDARD.decode(body).ok()?, label))
    }
}

fn known_hash(hash: &str) -> Result<&'static str, String> {
    let lower = hash.to_ascii_lowercase();
    let known = HASHES.into_iter().find(|known| *known == lower);
    known.ok_or_else(|| format!("{hash} is not supported."))
}

fn check(hash: &str, key: Key<'_>, text: &[u8], signature: &[u8]) -> Result<(), String> {
    let name = known_hash(hash)?;
    let (der, _) = key.der().ok_or(NO_VERIFIER)?;
    let (algorithm, curve, bits) = public_key(&der).ok_or(NO_VERIFIER)?;
    let verifier: &'static dyn keys::VerificationAlgorithm = match (algorithm, curve, name) {
        (RSA, _, "sha1") => &keys::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (RSA, _, "sha256") => &keys::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (RSA, _, "sha384") => &keys::RSA_PKCS1_2048_8192_SHA384,
        (RSA, _, "sha512") => &keys::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (EC, P256, "sha256") => &keys::ECDSA_P256_SHA256_ASN1,
        (EC, P256, "sha384") => &keys::ECDSA_P256_SHA384_ASN1,
        (EC, P384, "sha256") => &keys::ECDSA_P384_SHA256_ASN1,
        (EC, P384, "sha384") => &keys::ECDSA_P384_SHA384_ASN1,
        (RSA | EC, ..) => return Err(absent(name)),
        _ => return Err(NO_VERIFIER.to_owned()),
    };
    let verified = UnparsedPublicKey::new(verifier, bits).verify(text, signature);
    verified.map_err(|_| "Failed to verify digest. Error code: 0".to_owned())
}

fn make(hash: &str, key: Key<'_>, text: &[u8]) -> Result<Vec<u8>, String> {
    let name = known_hash(hash)?;
    let (der, label) = key.der().ok_or(NO_SIGNER)?;
    let random = SystemRandom::new();
    let rsa = match label {
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
        _ => RsaKeyPair::from_pkcs8(&der),
    };
    if let Ok(pair) = rsa {
        let padding: &'static dyn keys::RsaEncoding = match name {
            "sha256" => &keys::RSA_PKCS1_SHA256,
            "sha384" => &keys::RSA_PKCS1_SHA384,
            "sha512" => &keys::RSA_PKCS1_SHA512,
            _ => return Err(absent(name)),
        };
        let mut signature = vec![0; pair.public().modulus_len()];
        let signed = pair.sign(padding, &random, text, &mut signature);
        return signed
            .map(|()| signature)
            .map_err(|_| "Failed to create digital signature.".into());
    }
    let ecdsa = match name {
        "sha384" => &keys::ECDSA_P384_SHA384_ASN1_SIGNING,
        _ => &keys::ECDSA_P256_SHA256_ASN1_SIGNING,
    };
    if matches!(name, "sha256" | "sha384")
        && let Ok(pair) = EcdsaKeyPair::from_pkcs8(ecdsa, &der, &random)
    {
        let signed = pair.sign(&random, text);
        let signature = signed.map(|signature| signature.as_ref().to_vec());
        return signature.map_err(|_| "Failed to create digital signature.".into());
    }
    Err(if is_private_key(&der, label) { absent(name) } else { NO_SIGNER.to_owned() })
}

/// What Envoy could do and ring cannot.
fn absent(hash: &str) -> String {
    format!("host-sim does not simulate this kind of key with {hash}")
}

/// Algorithm, curve and bits of a `SubjectPublicKeyInfo`.
fn public_key(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut outer = element(&mut { der }, 0x30)?;
    let mut algorithm = element(&mut outer, 0x30)?;
    let bits = element(&mut outer, 0x03)?;
    let name = element(&mut algorithm, 0x06)?;
    let curve = element(&mut algorithm, 0x06).unwrap_or_default();
    // The first byte says how many bits of the last one are unused: none.
    Some((name, curve, bits.strip_prefix(&[0])?))
}

/// PKCS #8 of a kind that Envoy can sign with, or what PEM calls a key.
fn is_private_key(der: &[u8], label: &str) -> bool {
    let inside = || {
        let mut outer = element(&mut { der }, 0x30)?;
        element(&mut outer, 0x02)?;
        let mut algorithm = element(&mut outer, 0x30)?;
        let name = element(&mut algorithm, 0x06)?;
        Some(name == RSA || name == EC)
    };
    matches!(label, "RSA PRIVATE KEY" | "EC PRIVATE KEY") || inside() == Some(true)
}

/// The contents of a DER element with that tag; what follows stays in `bytes`.
fn element<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let count = usize::from(long & 0x7f);
            let (digits, rest) = rest.split_at_checked(count)?;
            let fold = |sum: usize, digit: &u8| Some((sum << 8) | usize::from(*digit));
            (digits.iter().try_fold(0, fold).filter(|_| count <= 4)?, rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(contents)
}
