//! Connections that carry bytes, through network filters to real sockets.

use crate::bootstrap::File;
use crate::running::{counter, options, start, url};
use host_sim_proxy::{FileAccessLog, Proxy};
use host_sim_rig::certificates;
use host_sim_rig::client::Client;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";

/// Turns every byte from the client into its successor, and every byte back.
const SHIFT: &str = r#"(module
  (import "env" "proxy_get_buffer_bytes"
    (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes"
    (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
  (func $shift (param $buffer i32) (param $n i32) (param $by i32)
    (local $at i32)
    (if (i32.eqz (local.get $n)) (then (return)))
    (drop (call $get (local.get $buffer) (i32.const 0) (local.get $n) (i32.const 0) (i32.const 4)))
    (loop $next
      (i32.store8 (i32.add (i32.const 65536) (local.get $at))
        (i32.add (i32.load8_u (i32.add (i32.const 65536) (local.get $at))) (local.get $by)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $n))))
    (drop (call $set (local.get $buffer) (i32.const 0) (local.get $n)
      (i32.const 65536) (local.get $n))))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (call $shift (i32.const 2) (local.get 1) (i32.const 1)) (i32.const 0))
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
    (call $shift (i32.const 3) (local.get 1) (i32.const -1)) (i32.const 0)))"#;

/// Fails on the first bytes.
const TRAP: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 0))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) unreachable))"#;

fn plugin(directory: &Path, name: &str, module: &str) -> String {
    let path = directory.join(format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(module).unwrap()).unwrap();
    format!(
        "{{name: wasm, typed_config: {{\"@type\": {NETWORK}.wasm.v3.Wasm, config: {{name: {name}, \
         vm_config: {{code: {{local: {{filename: '{}'}}}}}}}}}}}}",
        path.display()
    )
}

fn tcp(endpoint: SocketAddr) -> File {
    let mut file = File::to([endpoint]);
    file.tcp = Some("cluster: backend".to_owned());
    file
}

/// Sends back what comes, and closes when the client has closed.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo_one(stream));
        }
    });
    address
}

async fn echo_one(stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    // A client that goes away is what some tests are about.
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
    let _ = writer.shutdown().await;
}

async fn connect(proxy: &host_sim_proxy::RunningProxy) -> TcpStream {
    TcpStream::connect(proxy.listener("main").unwrap()).await.unwrap()
}

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Everything until the other side closes.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn bytes_pass_the_filters_both_ways_and_halves_close_one_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = tcp(echo().await);
    file.network = vec![plugin(directory.path(), "shift", SHIFT)];
    let log = directory.path().join("access.log");
    file.tcp = Some(format!(
        "cluster: backend, access_log: [{{name: l, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: '{}', \
         log_format: {{text_format_source: {{inline_string: \
         \"%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS%\\n\"}}}}}}}}]",
        log.display()
    ));
    let mut options = options();
    options.engine.access_log = Arc::new(FileAccessLog::open(&file.parse()).unwrap());
    let proxy = Proxy::start(file.parse(), options).unwrap();
    let mut client = connect(&proxy).await;
    assert_eq!(exchange(&mut client, "hello").await, "hello");
    assert_eq!(exchange(&mut client, "again").await, "again");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(counter(&proxy, "tcp.main.downstream_cx_rx_bytes_total"), 10);
    assert_eq!(counter(&proxy, "cluster.backend.upstream_cx_total"), 1);
    tokio::task::spawn_blocking(move || proxy.drain_and_stop()).await.unwrap();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "10 10 -\n");
}

#[tokio::test]
async fn what_the_upstream_sees_is_what_the_filters_made_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut file = tcp(listener.local_addr().unwrap());
    file.network =
        vec![plugin(directory.path(), "first", SHIFT), plugin(directory.path(), "second", SHIFT)];
    let proxy = start(&file);
    let mut client = connect(&proxy).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    client.write_all(b"abc").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut upstream).await, b"cde");
    upstream.write_all(b"cde").await.unwrap();
    drop(upstream);
    assert_eq!(rest(&mut client).await, b"abc");
}

#[tokio::test]
async fn megabytes_pass_whole_and_no_faster_than_the_slower_side() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = tcp(echo().await);
    file.network = vec![plugin(directory.path(), "shift", SHIFT)];
    let proxy = start(&file);
    let sent: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reader, mut writer) = connect(&proxy).await.into_split();
    let wanted = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    assert!(rest(&mut reader).await == wanted);
    writing.await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_refuses_closes_the_client() {
    // A port that was ours a moment ago.
    let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let proxy = start(&tcp(gone));
    assert_eq!(rest(&mut connect(&proxy).await).await, b"");
    assert_eq!(counter(&proxy, "cluster.backend.upstream_cx_connect_fail"), 1);
}

#[tokio::test]
async fn a_reset_passes_in_either_direction() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = start(&tcp(listener.local_addr().unwrap()));
    for by_client in [true, false] {
        let mut client = connect(&proxy).await;
        let (mut upstream, _) = listener.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        upstream.read_u8().await.unwrap();
        let (near, mut far) = if by_client { (client, upstream) } else { (upstream, client) };
        socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).unwrap();
        drop(near);
        let error = far.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "by client: {by_client}");
    }
}

#[tokio::test]
async fn a_plugin_that_fails_closes_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = tcp(echo().await);
    file.network = vec![plugin(directory.path(), "trap", TRAP)];
    let proxy = start(&file);
    let mut client = connect(&proxy).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn a_tcp_listener_ends_tls_and_a_tcp_cluster_begins_it() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificates::ensure(directory.path()).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut server = (*files.server_config().unwrap()).clone();
    server.alpn_protocols.clear();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let mut file = tcp(listener.local_addr().unwrap());
    file.network = vec![plugin(directory.path(), "shift", SHIFT)];
    file.downstream_tls = Some(crate::tls::context(&files));
    file.upstream_tls = Some("sni: localhost".to_owned());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        echo_one(stream).await;
    });
    let proxy = start(&file);
    let connector = TlsConnector::from(files.client_config().unwrap());
    let name = "localhost".try_into().unwrap();
    let mut client = connector.connect(name, connect(&proxy).await).await.unwrap();
    assert_eq!(exchange(&mut client, "secret").await, "secret");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn network_filters_see_the_bytes_of_http() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let mut file = File::to([endpoint.address()]);
    // The second one undoes what the first one does.
    let back = SHIFT
        .replace("(i32.const 1)) (i32.const 0))", "(i32.const MINUS)) (i32.const 0))")
        .replace("(i32.const -1)) (i32.const 0))", "(i32.const 1)) (i32.const 0))")
        .replace("MINUS", "-1");
    file.network =
        vec![plugin(directory.path(), "shift", SHIFT), plugin(directory.path(), "back", &back)];
    let proxy = start(&file);
    let client = Client::new();
    for _ in 0..3 {
        assert_eq!(client.get(&url(&proxy, "/a")).await.unwrap().status, 200);
    }
    assert_eq!(endpoint.requests().len(), 3);
    assert_eq!(counter(&proxy, "http.main.downstream_cx_http1_total"), 3);

    file.network = vec![plugin(directory.path(), "trap", TRAP)];
    let proxy = start(&file);
    assert!(Client::new().get(&url(&proxy, "/a")).await.is_err());
}

#[tokio::test]
async fn a_drain_waits_for_connections_that_carry_bytes_and_then_cuts_them() {
    let proxy = start(&tcp(echo().await));
    let mut client = connect(&proxy).await;
    assert_eq!(exchange(&mut client, "a").await, "a");
    let address = proxy.listener("main").unwrap();
    let stopped = tokio::task::spawn_blocking(move || proxy.drain_and_stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(exchange(&mut client, "b").await, "b");
    drop(client);
    stopped.await.unwrap();

    let mut options = options();
    options.drain_timeout = Duration::from_millis(1);
    let proxy = Proxy::start(tcp(echo().await).parse(), options).unwrap();
    let mut client = connect(&proxy).await;
    assert_eq!(exchange(&mut client, "a").await, "a");
    tokio::task::spawn_blocking(move || proxy.drain_and_stop()).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
}
