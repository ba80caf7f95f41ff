//! Requests and responses through the proxy, in every pair of HTTP versions.

use crate::bootstrap::File;
use crate::origin;
use crate::running::{counter, start, url};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::connect::Protocol;
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use std::sync::Arc;
use tokio::task::JoinSet;

const VERSIONS: [(Protocol, bool); 4] = [
    (Protocol::Http1, false),
    (Protocol::Http1, true),
    (Protocol::Http2, false),
    (Protocol::Http2, true),
];

/// Bytes that show when pieces are lost or swapped.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[tokio::test]
async fn a_request_reaches_the_endpoint_with_its_headers_and_the_answer_comes_back() {
    for (protocol, upstream_http2) in VERSIONS {
        let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
        let proxy = start(&File { upstream_http2, ..File::to([endpoint.address()]) });
        let client = Client::new().protocol(protocol);
        let request =
            Request::get(url(&proxy, "/a?b=c")).header("x-key", "v").header("host", "x.test");
        let response = client.send(request).await.unwrap();
        assert_eq!((response.status, response.header("x-endpoint")), (200, Some("e1")));
        let [received] = &endpoint.requests()[..] else { panic!("one request") };
        assert_eq!((received.path.as_str(), received.header("x-key")), ("/a?b=c", Some("v")));
    }
}

#[tokio::test]
async fn bodies_of_megabytes_pass_unchanged_both_ways() {
    let body = pattern(5_000_000);
    for (protocol, upstream_http2) in VERSIONS {
        let proxy = start(&File { upstream_http2, ..File::to([origin::echo().await]) });
        let client = Client::new().protocol(protocol);
        let whole = Request::post(url(&proxy, "/")).body(body.clone());
        let response = client.send(whole).await.unwrap();
        assert!(response.body == body, "{protocol:?} {upstream_http2}: {}", response.body.len());
        let pieces: Vec<_> = body.chunks(7919).map(<[u8]>::to_vec).collect();
        let response = client.send(Request::post(url(&proxy, "/")).chunks(pieces)).await.unwrap();
        assert!(response.body == body, "{protocol:?} {upstream_http2} in pieces");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http2() {
    let proxy = start(&File { upstream_http2: true, ..File::to([origin::echo().await]) });
    let client = Client::new().protocol(Protocol::Http2);
    let request = Request::post(url(&proxy, "/")).chunks(["a", "b"]).trailer("x-sum", "2");
    let response = client.send(request).await.unwrap();
    assert_eq!(response.text(), "ab");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "2".to_owned())]);
}

#[tokio::test]
async fn a_head_request_gets_headers_and_the_connection_stays_usable() {
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let proxy = start(&File::to([endpoint.address()]));
    let mut session = Client::new().connect(&url(&proxy, "/")).await.unwrap();
    for _ in 0..3 {
        let response = session.send(Request::new("HEAD", url(&proxy, "/"))).await.unwrap();
        assert_eq!((response.status, response.body.len()), (200, 0));
    }
    assert_eq!(counter(&proxy, "http.main.downstream_cx_total"), 1);
}

#[tokio::test]
async fn requests_one_after_the_other_share_one_upstream_connection() {
    for upstream_http2 in [false, true] {
        let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
        let proxy = start(&File { upstream_http2, ..File::to([endpoint.address()]) });
        // One downstream connection, so one worker and one pool.
        let mut session = Client::new().connect(&url(&proxy, "/")).await.unwrap();
        for _ in 0..20 {
            let response = session.send(Request::get(url(&proxy, "/"))).await.unwrap();
            assert_eq!(response.status, 200);
        }
        assert_eq!(endpoint.counters().connections_accepted, 1);
        assert_eq!(counter(&proxy, "cluster.backend.upstream_cx_total"), 1);
    }
}

#[tokio::test]
async fn hundreds_of_concurrent_requests_are_all_answered() {
    for (protocol, upstream_http2) in VERSIONS {
        let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
        let proxy = Arc::new(start(&File { upstream_http2, ..File::to([endpoint.address()]) }));
        let client = Client::new().protocol(protocol);
        let mut requests = JoinSet::new();
        for number in 0..300 {
            let (client, url) = (client.clone(), url(&proxy, &format!("/{number}")));
            requests.spawn(async move { client.get(&url).await.unwrap().status });
        }
        let statuses = requests.join_all().await;
        assert!(statuses.iter().all(|status| *status == 200), "{protocol:?} {upstream_http2}");
        assert_eq!(endpoint.counters().served, 300);
    }
}
