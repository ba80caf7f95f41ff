//! metric-router: what each policy makes of real traffic.

use host_sim_rig::client::{Client, Request, Response};
use host_sim_rig::endpoint::{EndpointOptions, Fault, ReportSource};
use host_sim_rig::fleet::Fleet;
use host_sim_rig::service_time::ServiceTime;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use weir_tests::{Running, Suite, eventually, on_both_hosts};

const SECRET: &str = "0123456789abcdef";
const DEBUG: &str = "x-filter-debug";
const PICK: &str = "x-metric-router-pick";

async fn fleet(count: usize, millis: u64) -> anyhow::Result<Fleet> {
    let service_time = ServiceTime::Fixed(Duration::from_millis(millis));
    Fleet::start(&EndpointOptions { service_time, ..EndpointOptions::named("e") }, count).await
}

/// The endpoints are listed, so that what is not steered is an exception.
fn suite(fleet: &Fleet, policy: &str, more: Value) -> Suite {
    let addresses: Vec<_> = fleet.addresses().iter().map(ToString::to_string).collect();
    let mut cluster = json!({"name": "backend", "policy": policy, "endpoints": addresses});
    for (field, value) in more.as_object().into_iter().flatten() {
        cluster[field] = value.clone();
    }
    Suite::new(&fleet.addresses()).retries().filter(
        "metric-router",
        json!({"debug_header": {"enabled": true, "secret": SECRET}, "clusters": [cluster]}),
    )
}

fn served(fleet: &Fleet) -> Vec<u64> {
    fleet.endpoints().iter().map(|endpoint| endpoint.counters().served).collect()
}

/// A request that is explained.
async fn explained(proxy: &Running) -> anyhow::Result<Response> {
    Ok(Client::new().send(Request::get(proxy.url("/")).header(DEBUG, SECRET)).await?)
}

/// Sends these headers `count` times, and gives who has served.
async fn homes(
    proxy: &Running,
    header: Option<(&str, &str)>,
    count: usize,
) -> anyhow::Result<BTreeSet<String>> {
    let mut homes = BTreeSet::new();
    for _ in 0..count {
        let request = Request::get(proxy.url("/"));
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        let response = Client::new().send(request).await?;
        assert_eq!(response.status, 200);
        homes.extend(response.header("x-endpoint").map(str::to_owned));
    }
    Ok(homes)
}

/// Ten clients by this header: each stays where it is, and they do not stay at one place together.
async fn each_has_one_home(
    proxy: &Running,
    header: &str,
    write: fn(usize) -> String,
) -> anyhow::Result<()> {
    let mut all = BTreeSet::new();
    for client in 0..10 {
        let homes = homes(proxy, Some((header, &write(client))), 6).await?;
        assert_eq!(homes.len(), 1, "client {client}: {homes:?}");
        all.extend(homes);
    }
    assert!(all.len() >= 2, "ten clients at {all:?}");
    Ok(())
}

/// Where twelve requests at once are, by one client: at each endpoint.
async fn crowd(fleet: &Fleet, proxy: &Running) -> anyhow::Result<Vec<u64>> {
    fleet.endpoints().iter().for_each(|endpoint| endpoint.set_fault(Fault::Hang));
    let mut exchanges = Vec::new();
    for _ in 0..12 {
        let request = Request::get(proxy.url("/")).header("x-user", "alice");
        exchanges.push(Client::new().start(request).await?);
    }
    let at_each = || fleet.counters().iter().map(|own| own.in_flight).collect::<Vec<_>>();
    eventually("all have got where they go", async || {
        proxy.metric("weir_picks_total").await?;
        Ok(at_each().iter().sum::<u64>() == 12)
    })
    .await?;
    Ok(at_each())
}

/// A key without a bound: what else is under way sends nobody away.
fn unbounded(key: &str) -> Value {
    json!({"consistent_hash": {"key": [key], "hash_balance_factor": 0}})
}

fn reports(fleet: &Fleet, at: usize, requests: u32, rate: u32) {
    let report =
        format!("TEXT named_metrics.rif={requests},named_metrics.latency=1,rps_fractional={rate}");
    fleet.endpoints()[at].set_report(ReportSource::Raw(report));
}

on_both_hosts! {
    async fn a_pick_is_explained_to_who_knows_the_secret(host: Host) {
        let fleet = fleet(3, 0).await?;
        let proxy = suite(&fleet, "least_cost", json!({})).start(&host).await?;
        for _ in 0..20 {
            let response = explained(&proxy).await?;
            let name = response.header("x-endpoint").expect("an endpoint has served");
            let at = fleet.endpoints().iter().position(|endpoint| endpoint.name() == name);
            let address = fleet.addresses()[at.expect("it is one of the fleet")];
            let told = response.header(PICK).expect("the pick is explained");
            let beginning = format!("picked {address} policy=least_cost reason=cheapest candidates=3");
            assert!(told.starts_with(&beginning), "{told}: expected {beginning}");
            assert_eq!(told.matches("127.0.0.1:").count(), 4, "{told}");
        }
        for wrong in ["0123456789abcdeF", "", "0"] {
            let request = Request::get(proxy.url("/")).header(DEBUG, wrong);
            assert_eq!(Client::new().send(request).await?.header(PICK), None, "{wrong}");
        }
        assert_eq!(proxy.get("/").await?.header(PICK), None);
        for request in fleet.endpoints().iter().flat_map(|endpoint| endpoint.requests()) {
            assert_eq!(request.header(DEBUG), None, "the secret goes no further");
        }
    }

    async fn peaks_of_latency_keep_requests_away(host: Host) {
        let fleet = fleet(3, 2).await?;
        fleet.endpoints()[1].set_slow_factor(150.0);
        let proxy = suite(&fleet, "peak_ewma", json!({})).start(&host).await?;
        for _ in 0..60 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        let before = served(&fleet)[1];
        for _ in 0..100 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        let strays = served(&fleet)[1] - before;
        assert!(strays <= 15, "{strays} of 100 went to the slow endpoint");
        let told = explained(&proxy).await?;
        let told = told.header(PICK).unwrap_or_default();
        assert!(told.contains(" policy=peak_ewma reason=cheapest "), "{told}");
    }

    async fn what_endpoints_report_keeps_requests_away_from_the_hot(host: Host) {
        let fleet = fleet(4, 0).await?;
        for (at, requests) in [2, 2, 40, 40].into_iter().enumerate() {
            reports(&fleet, at, requests, 5000);
        }
        // By what they report alone: how long they took depends on the machine.
        let by = json!({"hot_cold": {"rif_quantile": 0.5, "max_report_age": "10s"}});
        let proxy = suite(&fleet, "hot_cold", by)
            .filter("health-signal", json!({"clusters": [{"name": "backend"}]}))
            .start(&host)
            .await?;
        eventually("picks are made by reports", async || {
            let response = explained(&proxy).await?;
            let told = response.header(PICK).unwrap_or_default();
            Ok(told.contains("policy=hot_cold reason=cold"))
        })
        .await?;
        // At once, though requests come one by one, and two that are hot may be all that is known.
        let before = served(&fleet);
        for _ in 0..200 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        let now = served(&fleet);
        let got: Vec<_> = now.iter().zip(before).map(|(now, was)| now - was).collect();
        assert!(got[0] + got[1] >= 150, "{got:?}");
    }

    async fn auto_goes_by_reports_where_it_sees_a_slice(host: Host) {
        let fleet = fleet(3, 0).await?;
        let proxy = suite(&fleet, "auto", json!({}))
            .filter("health-signal", json!({"clusters": [{"name": "backend"}]}))
            .start(&host)
            .await?;
        let policy = async |expected: &str| {
            let response = explained(&proxy).await?;
            let told = response.header(PICK).unwrap_or_default().to_owned();
            anyhow::Ok(told.contains(&format!(" policy={expected} ")))
        };
        assert!(policy("least_cost").await?, "nobody has reported");
        (0..3).for_each(|at| reports(&fleet, at, 3, 100_000));
        eventually("it is one proxy of many", async || policy("hot_cold").await).await?;
    }

    async fn by_a_header_a_client_stays_where_it_is(host: Host) {
        let fleet = fleet(3, 0).await?;
        let key = unbounded("header:x-user");
        let proxy = suite(&fleet, "consistent_hash", key).start(&host).await?;
        each_has_one_home(&proxy, "x-user", |client| format!("user-{client}")).await?;
        // While it is down its clients are elsewhere, and they come home when it is back.
        let user = ("x-user", "user-0");
        let home = homes(&proxy, Some(user), 1).await?;
        let at = fleet.endpoints().iter().position(|endpoint| home.contains(endpoint.name()));
        let endpoint = &fleet.endpoints()[at.expect("it is one of the fleet")];
        endpoint.kill().await?;
        let elsewhere = homes(&proxy, Some(user), 10).await?;
        assert!(elsewhere.is_disjoint(&home), "{elsewhere:?}");
        endpoint.revive(None).await?;
        eventually("the client is back", async || Ok(homes(&proxy, Some(user), 1).await? == home))
            .await?;
    }

    async fn by_a_cookie_a_client_stays_where_it_is(host: Host) {
        let fleet = fleet(3, 0).await?;
        let key = unbounded("cookie:session");
        let proxy = suite(&fleet, "consistent_hash", key).start(&host).await?;
        let cookie = |client| format!("theme=dark; session=\"s{client}\"; lang=en");
        each_has_one_home(&proxy, "cookie", cookie).await?;
        // Other cookies make no difference.
        let with = homes(&proxy, Some(("cookie", "session=s3; theme=light")), 1).await?;
        assert_eq!(with, homes(&proxy, Some(("cookie", &cookie(3))), 1).await?);
    }

    async fn by_its_address_a_client_stays_where_it_is(host: Host) {
        let fleet = fleet(3, 0).await?;
        let key = unbounded("source.address");
        let proxy = suite(&fleet, "consistent_hash", key).start(&host).await?;
        // Each request has a connection of its own, and so a port.
        assert_eq!(homes(&proxy, None, 20).await?.len(), 1);
        let told = explained(&proxy).await?;
        let told = told.header(PICK).unwrap_or_default();
        assert!(told.contains(" policy=consistent_hash reason=hashed "), "{told}");
    }

    async fn a_crowd_with_one_key_overflows_its_home_if_there_is_a_bound(host: Host) {
        let unbounded = fleet(3, 0).await?;
        let key = |factor| json!({
            "consistent_hash": {"key": ["header:x-user"], "hash_balance_factor": factor},
        });
        let proxy = suite(&unbounded, "consistent_hash", key(0)).start(&host).await?;
        let mut at_each = crowd(&unbounded, &proxy).await?;
        at_each.sort_unstable();
        assert_eq!(at_each, [0, 0, 12], "all stay at home");

        let bounded = fleet(3, 0).await?;
        let proxy = suite(&bounded, "consistent_hash", key(125)).start(&host).await?;
        let at_each = crowd(&bounded, &proxy).await?;
        // What the other worker sends meanwhile is known at the next tick.
        let busy = at_each.iter().filter(|own| **own > 0).count();
        assert!(busy >= 2 && at_each.iter().all(|own| *own <= 9), "{at_each:?}");
    }

    async fn who_is_drawn_is_anyone(host: Host) {
        let fleet = fleet(3, 0).await?;
        let proxy = suite(&fleet, "random", json!({})).start(&host).await?;
        for _ in 0..150 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        let got = served(&fleet);
        assert!(got.iter().all(|got| (25..=80).contains(got)), "{got:?}");
        let told = explained(&proxy).await?;
        let told = told.header(PICK).unwrap_or_default();
        assert!(told.contains(" policy=random reason=drawn "), "{told}");
    }

    async fn an_endpoint_that_dies_behind_retries_is_left_though_not_all_is_looked_at(host: Host) {
        let fleet = fleet(3, 2).await?;
        let proxy = suite(&fleet, "random", json!({"healthy_panic_threshold": 0}))
            .start(&host)
            .await?;
        let address = fleet.addresses()[0].to_string();
        let picks = async || {
            let labels = [("endpoint", address.as_str())];
            let picks = proxy.metric_with("weir_picks_total", &labels).await?;
            anyhow::Ok(picks.unwrap_or(0.0))
        };
        // Both workers are past the answers that are all looked at.
        for _ in 0..400 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        fleet.endpoints()[0].kill().await?;
        for _ in 0..60 {
            assert_eq!(proxy.get("/").await?.status, 200, "a retry covers for it");
        }
        let before = picks().await?;
        for _ in 0..100 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        let strays = picks().await? - before;
        assert!(before > 0.0 && strays <= 12.0, "{strays} of 100 were sent there first");
    }
}
