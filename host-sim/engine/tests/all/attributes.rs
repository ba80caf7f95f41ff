//! Every attribute in every phase, against what Envoy 1.40 shows there.

use crate::rig::{Plugin, Rig, Setup, link};
use bytes::Bytes;
use host_sim_engine::{CertificateInfo, Headers, TlsInfo, UpstreamLink};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Reads a property; logs status and value, both with the phase's name before.
fn read(path: &str) -> String {
    // A dot within a segment is written as a middle dot.
    let path = path.replace('.', "\0").replace('\u{b7}', ".");
    format!(
        "(i32.store (i32.const 4100) (i32.const 0)) \
         (call $say (call $property {{{path}}} (i32.const 4096) (i32.const 4100))) \
         (call $say_value)"
    )
}

const PHASES: [&str; 5] =
    ["request_headers", "request_body", "response_headers", "response_body", "log"];

fn reader(path: &str) -> Plugin {
    let mut body = String::new();
    for phase in PHASES {
        let (params, end) = match phase {
            "log" => ("i32", ""),
            _ => ("i32 i32 i32", "(result i32)"),
        };
        let answer = if end.is_empty() { "" } else { "(i32.const 0)" };
        let read = read(path);
        write!(body, "(func (export \"proxy_on_{phase}\") (param {params}) {end} {read} {answer})")
            .unwrap();
    }
    Plugin::new("p", &body)
}

fn log(rig: &Rig) -> Vec<String> {
    rig.log().iter().map(|line| line.strip_prefix("p: ").unwrap_or(line).to_owned()).collect()
}

/// Status or value in each of [`PHASES`], of a POST of "abc" that is answered with "ok".
fn phases(path: &str) -> Vec<String> {
    phases_of(path, None, &link())
}

/// The same on these connections.
fn phases_of(path: &str, tls: Option<TlsInfo>, link: &UpstreamLink) -> Vec<String> {
    let mut rig = Setup::of([reader(path)]).start();
    log(&rig);
    let id = rig.begin_with(tls);
    let request = [
        (":method", "POST"),
        (":path", "/a/b?q=1"),
        (":authority", "t"),
        (":scheme", "http"),
        ("content-length", "3"),
        ("user-agent", "ua"),
    ];
    rig.worker.request_headers(id, Headers::from_pairs(request), false);
    rig.worker.request_data(id, Bytes::from_static(b"abc"), true);
    let attempt = rig.attempt().id;
    rig.advance(Duration::from_millis(5));
    rig.worker.attempt_connected(attempt, link);
    let response = [(":status", "200"), ("x-up", "1"), ("x-up", "2")];
    rig.worker.upstream_headers(attempt, Headers::from_pairs(response), false);
    rig.worker.upstream_data(attempt, Bytes::from_static(b"ok"), true);
    rig.answer(id);
    rig.advance(Duration::from_millis(2));
    rig.worker.downstream_complete(id);
    let lines = log(&rig);
    let cell = |pair: &[String]| match pair {
        [status, value] if status == "0" => value.clone(),
        [status, _] => format!("!{status}"),
        _ => panic!("odd log: {lines:?}"),
    };
    lines.chunks(2).map(cell).collect()
}

/// 8 bytes as they are logged.
fn number(value: u64) -> String {
    String::from_utf8_lossy(&value.to_le_bytes()).into_owned()
}

fn assert_phases(path: &str, expected: [&str; 5]) {
    assert_eq!(phases(path), expected, "{path}");
}

/// In every phase the same.
fn assert_always(path: &str, expected: &str) {
    assert_phases(path, [expected; 5]);
}

/// While the request's headers can be seen, and in the log.
fn assert_with_request_headers(path: &str, expected: &str) {
    assert_phases(path, [expected, "!1", "!1", "!1", expected]);
}

const NO_MAP: &str = "\0\0\0\0";

#[test]
fn what_comes_from_request_headers_is_there_with_them() {
    for (path, value) in [
        ("request.path", "/a/b?q=1"),
        ("request.url_path", "/a/b"),
        ("request.query", "q=1"),
        ("request.host", "t"),
        ("request.scheme", "http"),
        ("request.method", "POST"),
        ("request.useragent", "ua"),
        ("request.headers.User-Agent", "ua"),
    ] {
        assert_with_request_headers(path, value);
    }
    assert_always("request.referer", "!1");
    assert_always("request.nope", "!1");
    assert_always("request.path.x", "!1");
}

#[test]
fn header_maps_are_empty_where_they_cannot_be_seen() {
    let request = phases("request.headers");
    assert!(request[0].contains(":path"), "{request:?}");
    assert_eq!(request[1..4], [NO_MAP; 3]);
    assert!(request[4].contains(":path"), "{request:?}");
    let response = phases("response.headers");
    assert_eq!([&response[0], &response[1], &response[3]], [NO_MAP; 3]);
    assert!(response[2].contains("x-up\u{0}1,2"), "{response:?}");
    assert_always("response.trailers", NO_MAP);
    assert_phases("response.headers.x-up", ["!1", "!1", "1,2", "!1", "1,2"]);
}

#[test]
fn sizes_count_headers_while_they_can_be_seen() {
    let (zero, three) = (number(0), number(3));
    assert_always("request.size", &three);
    let bytes = phases("request.headers_bytes");
    assert_eq!(bytes[1..4], [zero.as_str(); 3]);
    assert_ne!(bytes[0], zero);
    let total = phases("request.total_size");
    // At the headers no byte of the body has come.
    assert_eq!(total[0], bytes[0]);
    assert_eq!(total[1..4], [three.as_str(); 3]);
    assert_phases("response.size", [&zero, &zero, &zero, &zero, &number(2)]);
    let bytes = phases("response.headers_bytes");
    assert_eq!([&bytes[0], &bytes[1], &bytes[3]], [&zero; 3]);
    assert_ne!(bytes[2], zero);
}

#[test]
fn times_are_nanoseconds_and_spans_exist_when_they_are_over() {
    assert_always("request.time", &number(1_000_000_000_000));
    assert_phases("request.duration", ["!1", "!1", "!1", "!1", &number(7_000_000)]);
    let latency = number(5_000_000);
    let phases = phases("response.backend_latency");
    assert_eq!(phases[..2], ["!1", "!1"]);
    assert_eq!(phases[4], latency);
}

#[test]
fn what_is_known_of_the_response_comes_with_it() {
    let ok = number(200);
    assert_phases("response.code", ["!1", "!1", &ok, &ok, &ok]);
    let details = "via_upstream";
    assert_phases("response.code_details", ["!1", "!1", details, details, details]);
    assert_always("response.flags", &number(0));
    let unknown = number(2);
    assert_phases("response.grpc_status", ["!1", "!1", &unknown, &unknown, &unknown]);
    assert_always("response.nope", "!1");
}

#[test]
fn the_connection_is_known_from_the_start() {
    let one = number(1);
    assert_always("connection.id", &one);
    assert_always("connection_id", &one);
    assert_always("connection.mtls", "\0");
    assert_always("connection.requested_server_name", "");
    for absent in ["tls_version", "termination_details", "transport_failure_reason", "nope"] {
        assert_always(&format!("connection.{absent}"), "!1");
    }
    assert_always("source.address", "10.0.0.1:4000");
    assert_always("source.port", &number(4000));
    assert_always("destination.address", "127.0.0.1:8080");
    assert_always("destination.port", &number(8080));
}

/// Of either end of a connection.
const TLS: [(&str, &str); 9] = [
    ("tls_version", "TLSv1.2"),
    ("subject_local_certificate", "CN=here"),
    ("subject_peer_certificate", "CN=there,O=weir"),
    ("uri_san_local_certificate", "spiffe://weir/here"),
    ("uri_san_peer_certificate", "!1"),
    ("dns_san_local_certificate", "!1"),
    ("dns_san_peer_certificate", "there.test"),
    ("sha256_peer_certificate_digest", "00ff"),
    ("peer_certificate", "PEM\n"),
];

fn tls() -> TlsInfo {
    let local = CertificateInfo {
        subject: "CN=here".to_owned(),
        uri_san: Some("spiffe://weir/here".to_owned()),
        ..CertificateInfo::default()
    };
    let peer = CertificateInfo {
        subject: "CN=there,O=weir".to_owned(),
        dns_san: Some("there.test".to_owned()),
        sha256: "00ff".to_owned(),
        pem: "PEM\n".to_owned(),
        ..CertificateInfo::default()
    };
    let (local, peer) = (Some(Arc::new(local)), Some(Arc::new(peer)));
    TlsInfo { version: "TLSv1.2".to_owned(), sni: Some("here.test".into()), local, peer }
}

#[test]
fn certificates_of_the_client_s_connection_are_known_from_the_start() {
    for (name, value) in TLS {
        let found = phases_of(&format!("connection.{name}"), Some(tls()), &link());
        assert_eq!(found, [value; 5], "{name}");
    }
    let of = |path, tls| phases_of(path, Some(tls), &link());
    assert_eq!(of("connection.mtls", tls()), ["\u{1}"; 5]);
    assert_eq!(of("connection.requested_server_name", tls()), ["here.test"; 5]);
    let bare = || TlsInfo { local: None, peer: None, ..tls() };
    assert_eq!(of("connection.mtls", bare()), ["\0"; 5]);
    assert_eq!(of("connection.subject_local_certificate", bare()), [""; 5]);
    assert_eq!(of("connection.subject_peer_certificate", bare()), [""; 5]);
    assert_eq!(of("connection.sha256_peer_certificate_digest", bare()), ["!1"; 5]);
}

#[test]
fn certificates_of_the_upstream_s_connection_come_with_it() {
    let link = UpstreamLink { tls: Some(Arc::new(tls())), ..link() };
    for (name, value) in TLS {
        let found = phases_of(&format!("upstream.{name}"), None, &link);
        assert_eq!(found, ["!1", "!1", value, value, value], "{name}");
    }
    assert_eq!(phases_of("upstream.mtls", None, &link), ["!1"; 5]);
}

#[test]
fn what_is_known_of_the_upstream_comes_step_by_step() {
    let address = "127.0.0.1:9001";
    assert_phases("upstream.address", ["!1", address, address, address, address]);
    let port = number(9001);
    assert_phases("upstream.port", ["!1", &port, &port, &port, &port]);
    let local = "127.0.0.1:5000";
    assert_phases("upstream.local_address", ["!1", "!1", local, local, local]);
    let ready = number(5_000_000);
    assert_phases("upstream.cx_pool_ready_duration", ["!1", "!1", &ready, &ready, &ready]);
    assert_phases("upstream.locality", ["!1", "", "", "", ""]);
    assert_phases("upstream.locality.region", ["!1", "", "", "", ""]);
    assert_phases("upstream.transport_failure_reason", ["!1", "", "", "", ""]);
    let (none, one) = (number(0), number(1));
    assert_phases("upstream.request_attempt_count", [&none, &one, &one, &one, &one]);
    assert_always("upstream.num_endpoints", &number(2));
    assert_always("upstream.tls_version", "!1");
    assert_phases("upstream_filter_state", ["!1", "!3", "!3", "!3", "!3"]);
}

#[test]
fn groups_have_members_but_no_encoding() {
    for group in [
        "request",
        "response",
        "connection",
        "source",
        "destination",
        "upstream",
        "xds",
        "filter_state",
    ] {
        assert_always(group, "!3");
        assert_always(&format!("{group}.nope"), "!1");
    }
    assert_always("", "!3");
    assert_always("nope", "!1");
    for legacy in ["node", "cluster_name", "route_name", "listener_direction"] {
        assert_always(legacy, "!1");
    }
}

#[test]
fn the_configuration_is_known_where_it_was_chosen() {
    assert_always("xds.cluster_name", "backend");
    assert_always("xds.route_name", "default");
    assert_always("xds.virtual_host_name", "all");
    assert_always("xds.filter_chain_name", "");
    assert_always("xds.listener_direction", &number(0));
    for metadata in ["cluster", "route", "virtual_host", "listener"] {
        assert_always(&format!("xds.{metadata}_metadata"), "");
        assert_always(&format!("xds.{metadata}_metadata.filter_metadata"), NO_MAP);
    }
    assert_phases("xds.upstream_host_metadata", ["!1", "!3", "!3", "!3", "!3"]);
    assert_phases("xds.upstream_host_locality_metadata", ["!1", "!3", "!3", "!3", "!3"]);
    assert_always("metadata", "");
    assert_always("metadata.filter_metadata", NO_MAP);
    assert_always("metadata.filter_metadata.k", "!1");
    assert_always("xds.node.user_agent_name", "envoy");
    assert_always("xds.node.id", "");
    assert_always("xds.node.metadata", NO_MAP);
    assert_always("xds.node.nope", "!1");
}

#[test]
fn the_plugin_knows_itself() {
    assert_always("plugin_name", "p");
    assert_always("plugin_root_id", "p");
    assert_always("plugin_vm_id", "");
    assert_always("plugin_name.x", "!1");
}

#[test]
fn metadata_is_a_message_with_maps_in_it() {
    let metadata = "metadata: {filter_metadata: {ns: {k: v, n: 2, list: [1, x]}}}";
    let paths = [
        "xds.cluster_metadata",
        "xds.cluster_metadata.filter_metadata.ns.k",
        "xds.cluster_metadata.filter_metadata.ns.n",
        "xds.cluster_metadata.filter_metadata.ns.list.1",
    ];
    let body = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          {} (i32.const 0))"#,
        paths.map(read).concat()
    );
    let mut rig = Setup { cluster: metadata, ..Setup::of([Plugin::new("p", &body)]) }.start();
    rig.get("/");
    let log = log(&rig);
    assert_eq!(log[0], "0");
    assert!(log[1].starts_with("\n") && log[1].contains("ns"), "{log:?}");
    let two = String::from_utf8_lossy(&2f64.to_le_bytes()).into_owned();
    assert_eq!(log[2..], ["0", "v", "0", &two, "0", "x"]);
}

#[test]
fn a_root_knows_itself_and_the_node() {
    let body = format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
          {} (i32.const 1))"#,
        ["plugin_name", "xds.node.id", "xds", "request.time", "xds.cluster_name", "metadata"]
            .map(read)
            .concat()
    );
    let rig = Setup::of([Plugin::new("p", &body)]).start();
    assert_eq!(log(&rig), ["0", "p", "0", "", "3", "", "1", "", "1", "", "1", ""]);
}
