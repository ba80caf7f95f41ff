//! metric-router: the choice between clusters that offer the same service.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::service_time::ServiceTime;
use serde_json::{Value, json};
use std::time::Duration;
use weir_tests::{Running, Suite, eventually, on_both_hosts};

async fn region(name: &str, millis: u64) -> anyhow::Result<Fleet> {
    let options = EndpointOptions {
        service_time: ServiceTime::Fixed(Duration::from_millis(millis)),
        ..EndpointOptions::named(name)
    };
    Fleet::start(&options, 2).await
}

fn served(fleet: &Fleet) -> u64 {
    fleet.endpoints().iter().map(|endpoint| endpoint.counters().served).sum()
}

fn suite(near: &Fleet, far: &Fleet, more: Value) -> Suite {
    let mut service = json!({
        "name": "shop",
        "routes": ["backend"],
        "clusters": [{"name": "far"}, {"name": "backend"}],
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        service[field] = value.clone();
    }
    Suite::new(&near.addresses())
        .cluster_of("far", &far.addresses())
        .cluster_header("x-weir-cluster")
        .filter("metric-router", json!({"clusters": [{"name": "*"}], "services": [service]}))
}

async fn send(proxy: &Running, count: usize) -> anyhow::Result<usize> {
    let mut failed = 0;
    for _ in 0..count {
        // A client that names a cluster is not listened to.
        let request = Request::get(proxy.url("/")).header("x-weir-cluster", "far");
        failed += usize::from(Client::new().send(request).await?.status != 200);
    }
    Ok(failed)
}

on_both_hosts! {
    async fn requests_go_to_the_region_that_answers_first(host: Host) {
        let (near, far) = (region("near", 3).await?, region("far", 200).await?);
        let proxy = suite(&near, &far, json!({})).start(&host).await?;
        assert_eq!(send(&proxy, 40).await?, 0, "both workers have measured");
        let before = served(&far);
        assert_eq!(send(&proxy, 100).await?, 0);
        let strays = served(&far) - before;
        assert!(strays <= 12, "{strays} of 100 went to the far region");
        eventually("within the region that was chosen requests are steered", async || {
            let picks = proxy.metric_with("weir_picks_total", &[("cluster", "backend")]).await?;
            Ok(picks.is_some_and(|picks| picks >= 80.0))
        })
        .await?;
    }

    async fn a_region_that_dies_is_left_and_comes_back(host: Host) {
        let (near, far) = (region("near", 3).await?, region("far", 25).await?);
        let proxy = suite(&near, &far, json!({})).start(&host).await?;
        send(&proxy, 40).await?;
        for endpoint in near.endpoints() {
            endpoint.kill().await?;
        }
        // Three failures of each worker tell it.
        let failed = send(&proxy, 100).await?;
        assert!((1..=8).contains(&failed), "{failed} of 100 failed");
        let before = served(&far);
        let failed = send(&proxy, 40).await?;
        assert!(failed <= 2 && served(&far) - before >= 38, "{failed} of 40 failed");
        for endpoint in near.endpoints() {
            endpoint.revive(None).await?;
        }
        eventually("the region is back", async || {
            let before = served(&near);
            send(&proxy, 20).await?;
            Ok(served(&near) - before >= 15)
        })
        .await?;
    }

    async fn weights_share_the_requests(host: Host) {
        let (near, far) = (region("near", 1).await?, region("far", 1).await?);
        let clusters = json!([{"name": "far", "weight": 3}, {"name": "backend", "weight": 1}]);
        let more = json!({"choice": "weighted", "clusters": clusters});
        let proxy = suite(&near, &far, more).start(&host).await?;
        assert_eq!(send(&proxy, 200).await?, 0);
        let share = served(&far) as f64 / 200.0;
        assert!((0.62..0.88).contains(&share), "{share}");
    }
}
