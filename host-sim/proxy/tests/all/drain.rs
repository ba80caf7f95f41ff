//! Stopping.

use crate::bootstrap::File;
use crate::origin;
use crate::running::{admin, start, url};
use host_sim_proxy::{Proxy, ProxyOptions};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::connect::Protocol;
use std::num::NonZeroU32;
use std::time::Duration;

#[tokio::test]
async fn a_drain_waits_for_requests_in_flight() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut gate = origin::gate().await;
        // One worker: of two, the other may be the one that refuses connections already.
        let options = ProxyOptions { concurrency: NonZeroU32::MIN, ..crate::running::options() };
        let proxy = Proxy::start(File::to([gate.address]).parse(), options).unwrap();
        let address = proxy.listener("main").unwrap();
        let client = Client::new().protocol(protocol);
        let exchange = client.start(Request::get(url(&proxy, "/"))).await.unwrap();
        gate.arrived.recv().await.unwrap();

        let stopped = tokio::task::spawn_blocking(move || proxy.drain_and_stop());
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!stopped.is_finished());
        gate.open.notify_one();
        let response = exchange.response().await.unwrap();
        assert_eq!(response.status, 200);
        if protocol == Protocol::Http1 {
            assert_eq!(response.header("connection"), Some("close"));
        }
        stopped.await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_cuts_what_outlasts_its_timeout() {
    let mut gate = origin::gate().await;
    let mut options = crate::running::options();
    options.drain_timeout = Duration::from_millis(1);
    let proxy = Proxy::start(File::to([gate.address]).parse(), options).unwrap();
    let exchange = Client::new().start(Request::get(url(&proxy, "/"))).await.unwrap();
    gate.arrived.recv().await.unwrap();
    tokio::task::spawn_blocking(move || proxy.drain_and_stop()).await.unwrap();
    assert!(exchange.response().await.is_err());
    gate.aborted.recv().await.unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_drain() {
    let proxy = start(&File::to([origin::echo().await]));
    let mut session = Client::new().connect(&url(&proxy, "/")).await.unwrap();
    let response = session.send(Request::post(url(&proxy, "/")).body("a")).await.unwrap();
    assert_eq!(response.status, 200);
    tokio::task::spawn_blocking(move || proxy.drain_and_stop()).await.unwrap();
    assert!(session.send(Request::post("http://x.test/")).await.is_err());
}

#[tokio::test]
async fn closed_listeners_still_serve_the_connections_they_have() {
    let proxy = start(&File::to([origin::echo().await]));
    let address = proxy.listener("main").unwrap();
    let mut session = Client::new().connect(&url(&proxy, "/")).await.unwrap();
    let drain = format!("http://{}/drain_listeners", proxy.admin().unwrap());
    assert_eq!(Client::new().send(Request::post(drain)).await.unwrap().status, 200);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let response = session.send(Request::post(url(&proxy, "/")).body("a")).await.unwrap();
    assert_eq!(response.text(), "a");
    let ready = admin(&proxy, "/ready").await;
    assert_eq!((ready.status, ready.text().trim()), (503, "DRAINING"));
}

#[tokio::test]
async fn quitquitquit_asks_the_owner_to_stop() {
    let proxy = start(&File::to([origin::echo().await]));
    let stop = proxy.stop_requested();
    let quit = format!("http://{}/quitquitquit", proxy.admin().unwrap());
    assert_eq!(Client::new().send(Request::post(quit)).await.unwrap().status, 200);
    stop.await;
    tokio::task::spawn_blocking(move || proxy.drain_and_stop()).await.unwrap();
}
