//! What attributes tell of the connections on both sides, certificates among it: the same values in
//! the same phases on both hosts.

use crate::raw::{bootstrap, listener, plugin};
use host_sim_rig::client::Client;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use weir_tests::{Running, eventually, on_both_hosts};

/// What the plugin reads of each side that has TLS.
const TLS: [&str; 9] = [
    "tls_version",
    "subject_local_certificate",
    "subject_peer_certificate",
    "uri_san_local_certificate",
    "uri_san_peer_certificate",
    "dns_san_local_certificate",
    "dns_san_peer_certificate",
    "sha256_peer_certificate_digest",
    "peer_certificate",
];

/// What else it reads.
const OTHERS: [&str; 5] = [
    "connection.mtls",
    "connection.requested_server_name",
    "upstream.mtls",
    "upstream.local_address",
    "upstream.cx_pool_ready_duration",
];

/// A module that logs each attribute in three phases, as `q NAME=HEX` of a value and as `q NAME!1`
/// of a status: `q` is request headers, `r` response headers, `l` the log.
fn reader(names: &[String]) -> String {
    let (mut data, mut reads) = (String::new(), String::new());
    for (nth, name) in names.iter().enumerate() {
        let (at, length) = (16384 + 128 * nth, name.len());
        let path = name.replace('.', "\\00");
        write!(data, r#"(data (i32.const {at}) "{name}") (data (i32.const {}) "{path}")"#, at + 64)
            .expect("a string");
        write!(reads, "(call $read (i32.const {at}) (i32.const {length}))").expect("a string");
    }
    format!(
        r#"(module
  (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  {data}
  (global $phase (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 65536))
  (func $put (param i32)
    (i32.store8 (global.get $end) (local.get 0))
    (global.set $end (i32.add (global.get $end) (i32.const 1))))
  (func $digit (param i32)
    (call $put (i32.add (local.get 0)
      (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get 0) (i32.const 10))))))
  (func $read (param $name i32) (param $length i32)
    (local $status i32) (local $at i32) (local $left i32)
    (i64.store (i32.const 512) (i64.const 0))
    (local.set $status (call $property (i32.add (local.get $name) (i32.const 64))
      (local.get $length) (i32.const 512) (i32.const 516)))
    (global.set $end (i32.const 1024))
    (call $put (global.get $phase))
    (call $put (i32.const 32))
    (memory.copy (global.get $end) (local.get $name) (local.get $length))
    (global.set $end (i32.add (global.get $end) (local.get $length)))
    (if (local.get $status)
      (then (call $put (i32.const 33)) (call $digit (local.get $status)))
      (else
        (call $put (i32.const 61))
        (local.set $at (i32.load (i32.const 512)))
        (local.set $left (i32.load (i32.const 516)))
        (block $done (loop $more
          (br_if $done (i32.eqz (local.get $left)))
          (call $digit (i32.shr_u (i32.load8_u (local.get $at)) (i32.const 4)))
          (call $digit (i32.and (i32.load8_u (local.get $at)) (i32.const 15)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $more)))))
    (drop (call $proxy_log (i32.const 2) (i32.const 1024)
      (i32.sub (global.get $end) (i32.const 1024)))))
  (func $all (param i32) (global.set $phase (local.get 0)) {reads})
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $all (i32.const 113)) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $all (i32.const 114)) (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $all (i32.const 108))))"#
    )
}

/// A certificate and its key.
struct Identity {
    pem: String,
    key: String,
    /// Of the certificate, as attributes write it.
    sha256: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> anyhow::Result<Authority> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.distinguished_name.push(DnType::CommonName, "root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(root, KeyPair::generate()?)?)
}

impl Identity {
    fn of(root: &Authority, subject: &[(DnType, &str)], names: &[SanType]) -> anyhow::Result<Self> {
        let mut leaf = CertificateParams::new(Vec::new())?;
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            leaf.distinguished_name.push(kind.clone(), *value);
        }
        leaf.subject_alt_names = names.to_vec();
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, root)?;
        let sha256 = Sha256::digest(certificate.der());
        let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        // Attributes have the line breaks of Unix.
        let pem = certificate.pem().replace('\r', "");
        Ok(Self { pem, key: key.serialize_pem(), sha256 })
    }

    fn chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        Ok(vec![CertificateDer::from_pem_slice(self.pem.as_bytes())?])
    }

    fn key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_slice(self.key.as_bytes())?)
    }

    fn in_file(&self) -> Value {
        json!([{
            "certificate_chain": {"inline_string": self.pem},
            "private_key": {"inline_string": self.key},
        }])
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(root: &Authority) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone())?;
    Ok(roots)
}

fn client(root: &Authority, identity: Option<&Identity>) -> anyhow::Result<Client> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(root)?);
    let config = match identity {
        Some(own) => builder.with_client_auth_cert(own.chain()?, own.key()?)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Client::new().tls(Arc::new(config)))
}

/// An endpoint that wants a certificate.
fn server(root: &Authority, identity: &Identity) -> anyhow::Result<Arc<ServerConfig>> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(root)?), provider()).build()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain()?, identity.key()?)?;
    Ok(Arc::new(config))
}

/// The listeners `weir` with TLS and `plain` without.
fn file(
    module: &Path,
    root: &Authority,
    [inward, outward]: [&Identity; 2],
    backend: SocketAddr,
) -> anyhow::Result<String> {
    let filter = json!({
        "name": "p",
        "typed_config": plugin("p", module, "", &json!({}), &json!({})),
    });
    let socket = |context: &str, common: Value| {
        let name = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": format!("{name}.{context}"), "common_tls_context": common,
        }})
    };
    let trusted = json!({"trusted_ca": {"inline_string": root.pem()}});
    let mut secure = listener("weir", std::slice::from_ref(&filter));
    secure["filter_chains"][0]["transport_socket"] = socket(
        "DownstreamTlsContext",
        json!({"tls_certificates": inward.in_file(), "validation_context": trusted.clone()}),
    );
    let text = bootstrap(&[secure, listener("plain", &[filter])], backend);
    let mut file: Value = serde_json::from_str(&text)?;
    let cluster = &mut file["static_resources"]["clusters"][0];
    cluster["transport_socket"] = socket(
        "UpstreamTlsContext",
        json!({"tls_certificates": outward.in_file(), "validation_context": trusted}),
    );
    Ok(file.to_string())
}

/// What was read in the last request: the value of `q NAME`, or `!` and a status.
fn read(proxy: &Running, names: &[String], requests: usize) -> Option<BTreeMap<String, Vec<u8>>> {
    let log = proxy.log();
    let lines = log.lines().filter_map(|line| line.split_once("wasm log p p: ").map(|(_, l)| l));
    let lines: Vec<&str> = lines.collect();
    let each = 3 * names.len();
    let last = lines.get(each * (requests - 1)..each * requests)?;
    let value = |line: &&str| match line.split_once('=') {
        Some((name, hex)) => {
            let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair));
            let bytes = pairs.map(|pair| u8::from_str_radix(pair.expect("hex"), 16).expect("hex"));
            (name.to_owned(), bytes.collect())
        }
        None => {
            let (name, status) = line.split_once('!').expect("a value or a status");
            (name.to_owned(), format!("!{status}").into_bytes())
        }
    };
    Some(last.iter().map(value).collect())
}

on_both_hosts! {
    async fn attributes_tell_of_the_connections_and_certificates_of_both_sides(host: Host) {
        let root = authority()?;
        let uri = |text: &str| SanType::URI(text.try_into().expect("an URI"));
        let dns = |text: &str| SanType::DnsName(text.try_into().expect("a name"));
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        let inward = Identity::of(
            &root,
            &[
                (DnType::CountryName, "CH"),
                (DnType::OrganizationName, " #1 \"Weir\", Zürich + Bern; <a\\b> "),
                (DnType::CustomDnType(vec![1, 2, 840, 113_556, 1]), "odd"),
                (DnType::CommonName, "#inward"),
            ],
            &[address.clone(), uri("spiffe://weir/in"), dns("in.test"), dns("in2.test")],
        )?;
        let outward = Identity::of(&root, &[(DnType::CommonName, "out")], &[uri("spiffe://weir/out")])?;
        let peer = Identity::of(
            &root,
            &[(DnType::OrganizationName, "clients"), (DnType::CommonName, "alice")],
            &[dns("alice.test"), uri("spiffe://weir/alice"), uri("spiffe://weir/bob")],
        )?;
        let backend = Identity::of(&root, &[], &[address])?;
        let mut options = EndpointOptions::named("e");
        options.tls = Some(server(&root, &backend)?);
        let endpoint = Endpoint::start(options).await?;

        let sides = ["connection", "upstream"];
        let names = sides.iter().flat_map(|side| TLS.map(|name| format!("{side}.{name}")));
        let names: Vec<String> = names.chain(OTHERS.map(str::to_owned)).collect();
        let directory = tempfile::tempdir()?;
        let module = directory.path().join("reader.wasm");
        std::fs::write(&module, wat::parse_str(reader(&names))?)?;
        let text = file(&module, &root, [&inward, &outward], endpoint.address())?;
        let proxy = Running::start(&host, &text).await?;

        let (with, without) = (client(&root, Some(&peer))?, client(&root, None)?);
        let subject = "CN=\\#inward,1.2.840.113556.1=#0C036F6464,\
                       O=\\ #1 \\\"Weir\\\"\\, Z\\C3\\BCrich \\+ Bern\\; \\<a\\\\b\\>\\ ,C=CH";
        let absent = "!1";
        let of_peer: [&str; 6] = [
            "\u{1}", "CN=alice,O=clients", "spiffe://weir/alice", "alice.test", &peer.sha256,
            &peer.pem,
        ];
        let cases = [
            (&with, proxy.https_url("/"), true, of_peer),
            (&without, proxy.https_url("/"), true, ["\0", "", absent, absent, absent, absent]),
            (&without, proxy.url_of("plain", "/"), false, ["\0", absent, absent, absent, absent, absent]),
        ];
        for (nth, (client, url, secure, peer)) in cases.into_iter().enumerate() {
            assert_eq!(client.get(&url).await?.status, 200);
            let mut found = BTreeMap::new();
            eventually("all is read", async || {
                proxy.metric("nothing").await?;
                found = read(&proxy, &names, nth + 1).unwrap_or_default();
                Ok(!found.is_empty())
            })
            .await?;
            let only = |value| if secure { value } else { absent };
            let [mtls, peer_subject, peer_uri, peer_dns, peer_digest, pem] = peer;
            let connection = [
                ("tls_version", only("TLSv1.3")),
                ("subject_local_certificate", only(subject)),
                ("uri_san_local_certificate", only("spiffe://weir/in")),
                ("dns_san_local_certificate", only("in.test")),
                ("subject_peer_certificate", peer_subject),
                ("uri_san_peer_certificate", peer_uri),
                ("dns_san_peer_certificate", peer_dns),
                ("sha256_peer_certificate_digest", peer_digest),
                ("mtls", mtls),
                ("requested_server_name", ""),
                ("peer_certificate", pem),
            ];
            let upstream = [
                ("tls_version", "TLSv1.2"),
                ("subject_local_certificate", "CN=out"),
                ("uri_san_local_certificate", "spiffe://weir/out"),
                ("dns_san_local_certificate", absent),
                ("subject_peer_certificate", ""),
                ("uri_san_peer_certificate", absent),
                ("dns_san_peer_certificate", absent),
                ("sha256_peer_certificate_digest", &backend.sha256),
                ("peer_certificate", &backend.pem),
                ("mtls", absent),
            ];
            let text = |phase: &str, name: &str| {
                String::from_utf8_lossy(&found[&format!("{phase} {name}")]).into_owned()
            };
            for phase in ["q", "r", "l"] {
                for (name, value) in connection {
                    let name = format!("connection.{name}");
                    assert_eq!(text(phase, &name), value, "{phase} {name} of case {nth}");
                }
                for (name, value) in upstream {
                    let name = format!("upstream.{name}");
                    let value = if phase == "q" { absent } else { value };
                    assert_eq!(text(phase, &name), value, "{phase} {name} of case {nth}");
                }
            }
            for name in ["upstream.local_address", "upstream.cx_pool_ready_duration"] {
                assert_eq!(text("q", name), absent, "{name}");
                assert_eq!(text("r", name), text("l", name), "{name}");
            }
            let local: SocketAddr = text("r", "upstream.local_address").parse()?;
            assert!(local.ip().is_loopback() && local != endpoint.address(), "{local}");
            let waited = &found["r upstream.cx_pool_ready_duration"];
            let waited = u64::from_le_bytes(waited.as_slice().try_into()?);
            assert!(waited < 10_000_000_000, "{waited} ns");
        }
    }
}
