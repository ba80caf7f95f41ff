//! The admin endpoint.

use crate::bootstrap::File;
use crate::origin;
use crate::running::{admin, start, url};
use host_sim_rig::client::{Client, Request};

#[tokio::test]
async fn a_serving_proxy_is_live_and_says_what_it_is() {
    let endpoint = origin::echo().await;
    let proxy = start(&File::to([endpoint]));
    let ready = admin(&proxy, "/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (200, "LIVE\n"));
    let info = admin(&proxy, "/server_info").await.json().unwrap();
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["command_line_options"]["concurrency"], 2);
    let listeners = admin(&proxy, "/listeners").await.text();
    assert_eq!(listeners, format!("main::{}\n", proxy.listener("main").unwrap()));
    let clusters = admin(&proxy, "/clusters").await.text();
    assert!(clusters.contains(&format!("backend::{endpoint}::health_flags::healthy\n")));
}

#[tokio::test]
async fn stats_can_be_filtered_and_come_as_text_json_and_prometheus() {
    let proxy = start(&File::to([origin::echo().await]));
    let sent = Client::new().send(Request::post(url(&proxy, "/")).body("a")).await.unwrap();
    assert_eq!(sent.status, 200);
    let filter = "filter=%5Ecluster%5C.backend%5C.upstream_cx_total%24";
    let text = admin(&proxy, &format!("/stats?{filter}")).await.text();
    assert_eq!(text, "cluster.backend.upstream_cx_total: 1\n");
    let json = admin(&proxy, &format!("/stats?format=json&{filter}")).await.json().unwrap();
    assert_eq!(json["stats"][0]["value"], 1);
    let exposition = admin(&proxy, &format!("/stats/prometheus?{filter}")).await.text();
    assert!(exposition.contains("upstream_cx_total"), "{exposition}");
    let unused = admin(&proxy, "/stats?usedonly&filter=connect_fail").await.text();
    assert_eq!(unused, "");
    let invalid = admin(&proxy, "/stats?filter=%28").await;
    assert_eq!(invalid.status, 400);
}

#[tokio::test]
async fn an_unknown_path_lists_the_known_ones_and_changes_need_post() {
    let proxy = start(&File::to([origin::echo().await]));
    let unknown = admin(&proxy, "/no").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("/stats/prometheus"));
    assert_eq!(admin(&proxy, "/quitquitquit").await.status, 405);
    assert_eq!(admin(&proxy, "/config_dump").await.status, 404);
}

#[tokio::test]
async fn a_failed_health_check_can_be_undone() {
    let proxy = start(&File::to([origin::echo().await]));
    let post = async |path: &str| {
        let url = format!("http://{}{path}", proxy.admin().unwrap());
        Client::new().send(Request::post(url)).await.unwrap().status
    };
    assert_eq!(post("/healthcheck/fail").await, 200);
    assert_eq!(admin(&proxy, "/ready").await.status, 503);
    assert_eq!(post("/healthcheck/ok").await, 200);
    assert_eq!(admin(&proxy, "/ready").await.status, 200);
}
