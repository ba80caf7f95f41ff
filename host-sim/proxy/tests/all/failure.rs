//! What goes wrong on either side.

use crate::bootstrap::File;
use crate::origin;
use crate::running::{counter, start, url};
use host_sim_proxy::{Proxy, ProxyError};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::connect::Protocol;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use host_sim_rig::ports::ReservedPort;

#[tokio::test]
async fn a_refused_connection_is_retried_at_the_next_endpoint() {
    for upstream_http2 in [false, true] {
        let refusing = ReservedPort::any().unwrap();
        let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
        let mut file = File::to([refusing.address(), endpoint.address()]);
        file.upstream_http2 = upstream_http2;
        file.route = ", retry_policy: {retry_on: connect-failure, num_retries: 1}".to_owned();
        let proxy = start(&file);
        let mut session = Client::new().connect(&url(&proxy, "/")).await.unwrap();
        for _ in 0..10 {
            let response = session.send(Request::get(url(&proxy, "/"))).await.unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
        }
        assert!(counter(&proxy, "cluster.backend.upstream_cx_connect_fail") > 0);
    }
}

#[tokio::test]
async fn a_refused_connection_without_retries_answers_with_envoys_words() {
    let refusing = ReservedPort::any().unwrap();
    let proxy = start(&File::to([refusing.address()]));
    let response = Client::new().get(&url(&proxy, "/")).await.unwrap();
    assert_eq!(response.status, 503);
    let text = response.text();
    assert!(
        text.starts_with("upstream connect error or disconnect/reset before headers"),
        "{text}"
    );
    assert!(text.contains("remote connection failure"), "{text}");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_upstream_request_along() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for upstream_http2 in [false, true] {
            let mut gate = origin::gate().await;
            let proxy = start(&File { upstream_http2, ..File::to([gate.address]) });
            let client = Client::new().protocol(protocol);
            let exchange = client.start(Request::get(url(&proxy, "/"))).await.unwrap();
            gate.arrived.recv().await.unwrap();
            exchange.abort();
            gate.aborted.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_in_its_upload_takes_the_upstream_request_along() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut gate = origin::gate().await;
        let proxy = start(&File::to([gate.address]));
        let request = Request::post(url(&proxy, "/")).chunks(["a"]).never_ending();
        let exchange = Client::new().protocol(protocol).start(request).await.unwrap();
        gate.arrived.recv().await.unwrap();
        exchange.abort();
        gate.aborted.recv().await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_closed_is_not_used() {
    for upstream_http2 in [false, true] {
        let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
        let proxy = start(&File { upstream_http2, ..File::to([endpoint.address()]) });
        let mut session = Client::new().connect(&url(&proxy, "/")).await.unwrap();
        for _ in 0..20 {
            let response = session.send(Request::get(url(&proxy, "/"))).await.unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
            endpoint.kill().await.unwrap();
            endpoint.revive(None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_upstream_response_cut_in_its_body_cuts_the_clients_too() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let upstream = cutting_upstream().await;
        let proxy = start(&File::to([upstream]));
        let error = Client::new().protocol(protocol).get(&url(&proxy, "/")).await.unwrap_err();
        assert_eq!(error.kind, host_sim_rig::connect::ErrorKind::Reset, "{error}");
    }
}

#[tokio::test]
async fn a_stream_that_the_upstream_resets_is_a_remote_reset() {
    let upstream = resetting_upstream(h2::Reason::INTERNAL_ERROR).await;
    let proxy = start(&File { upstream_http2: true, ..File::to([upstream]) });
    let response = Client::new().get(&url(&proxy, "/")).await.unwrap();
    assert_eq!(response.status, 503);
    assert!(response.text().ends_with("reset reason: remote reset"), "{}", response.text());
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_http_is_a_bad_gateway() {
    let upstream = speaking_upstream(b"NONSENSE\r\n\r\n").await;
    let proxy = start(&File::to([upstream]));
    let response = Client::new().get(&url(&proxy, "/")).await.unwrap();
    assert_eq!(response.status, 502);
    assert!(response.text().ends_with("reset reason: protocol error"), "{}", response.text());
}

#[tokio::test]
async fn a_request_that_is_no_http_or_too_large_is_told_so() {
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let proxy = start(&File::to([endpoint.address()]));
    let address = proxy.listener("main").unwrap();
    let with = |headers: &str| format!("GET / HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    let many: String = (0..100).map(|n| format!("x{n}: 1\r\n")).collect();
    for (request, status) in [
        ("NONSENSE\r\n\r\n".to_owned(), 400),
        (with(""), 400),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(), 426),
        (with(&format!("host: a\r\nx: {}\r\n", "a".repeat(50 * 1024))), 200),
        (with(&format!("host: a\r\nx: {}\r\n", "a".repeat(70 * 1024))), 431),
        (with(&format!("host: a\r\n{many}")), 431),
    ] {
        let answer = said(address, &request).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(&format!(" {status} ")), "{status}: {line:?}");
    }
}

/// What the proxy answers to these bytes.
async fn said(address: std::net::SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // A refusal may come, and close the connection, before the last byte is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_in_the_error() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut bootstrap = File::to([taken.local_addr().unwrap()]).parse();
    bootstrap.listeners[0].address.port = taken.local_addr().unwrap().port();
    let error = Proxy::start(bootstrap, crate::running::options()).err().unwrap();
    assert!(matches!(&error, ProxyError::Bind { listener, .. } if listener == "main"), "{error}");
}

/// Promises ten bytes, sends three, closes.
async fn cutting_upstream() -> std::net::SocketAddr {
    speaking_upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await
}

/// Says one thing to everybody and closes.
async fn speaking_upstream(words: &'static [u8]) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(words).await;
        }
    });
    address
}

/// Resets every stream, keeps every connection.
async fn resetting_upstream(reason: h2::Reason) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_reset(reason);
                }
            });
        }
    });
    address
}
