//! metric-router: zones, priorities and releases.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::{Value, json};
use weir_tests::{Suite, eventually, on_both_hosts};

async fn three() -> anyhow::Result<Fleet> {
    Fleet::start(&EndpointOptions::named("e"), 3).await
}

fn served(fleet: &Fleet) -> Vec<u64> {
    fleet.endpoints().iter().map(|endpoint| endpoint.counters().served).collect()
}

fn listing(fleet: &Fleet, entries: [Value; 3], more: Value) -> Suite {
    let mut cluster =
        json!({"name": "backend", "policy": "least_cost", "healthy_panic_threshold": 0});
    let addresses = fleet.addresses();
    let entries = addresses.iter().zip(entries).map(|(address, mut entry)| {
        entry["address"] = json!(address.to_string());
        entry
    });
    cluster["endpoints"] = entries.collect();
    for (field, value) in more.as_object().into_iter().flatten() {
        cluster[field] = value.clone();
    }
    Suite::new(&addresses).retries().filter("metric-router", json!({"clusters": [cluster]}))
}

on_both_hosts! {
    async fn learned_endpoints_of_the_nodes_own_zone_are_preferred(host: Host) {
        let fleet = three().await?;
        let configuration = json!({"clusters": [{
            "name": "backend",
            "policy": "least_cost",
            "locality": {},
            "learn": {"verification_percent": 0},
        }]});
        let proxy = Suite::new(&fleet.addresses())
            .retries()
            .zones("here", &["there", "here", "there"])
            .filter("metric-router", configuration)
            .start(&host)
            .await?;
        eventually("all are known, with their zones, to both workers", async || {
            let before = served(&fleet);
            for _ in 0..40 {
                assert_eq!(proxy.get("/").await?.status, 200);
            }
            let now = served(&fleet);
            Ok(now[1] - before[1] == 40)
        })
        .await?;
        fleet.endpoints()[1].kill().await?;
        for _ in 0..40 {
            assert_eq!(proxy.get("/").await?.status, 200, "a retry crosses the zone");
        }
    }

    async fn the_second_priority_serves_when_the_first_is_gone(host: Host) {
        let fleet = three().await?;
        let entries = [json!({}), json!({}), json!({"priority": 1})];
        let proxy = listing(&fleet, entries, json!({})).start(&host).await?;
        for _ in 0..40 {
            assert_eq!(proxy.get("/").await?.status, 200);
        }
        assert_eq!(served(&fleet)[2], 0);
        fleet.endpoints()[0].kill().await?;
        fleet.endpoints()[1].kill().await?;
        for _ in 0..40 {
            let response = proxy.get("/").await?;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("x-endpoint"), Some(fleet.endpoints()[2].name()));
        }
    }

    async fn a_canary_gets_its_clients_and_no_others(host: Host) {
        let fleet = three().await?;
        let entries = [json!({}), json!({}), json!({"labels": {"version": "v2"}})];
        let canary = json!({"label": "version=v2", "percent": 30, "sticky": ["cookie:user"]});
        let proxy = listing(&fleet, entries, json!({"canary": canary})).start(&host).await?;
        let new = fleet.endpoints()[2].name().to_owned();
        let mut tried = 0;
        for user in 0..100 {
            let mut releases = Vec::new();
            for _ in 0..3 {
                let cookie = format!("a=b; user={user}");
                let request = Request::get(proxy.url("/")).header("cookie", &cookie);
                let response = Client::new().send(request).await?;
                assert_eq!(response.status, 200);
                releases.push(response.header("x-endpoint") == Some(&new));
            }
            assert!(releases.iter().all(|release| *release == releases[0]), "{user}: {releases:?}");
            tried += usize::from(releases[0]);
        }
        assert!((15..=45).contains(&tried), "{tried} of 100 clients");
    }
}
