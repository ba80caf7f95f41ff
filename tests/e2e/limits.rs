//! token-bucket: one exact limit over all workers, and answers that say when to come back.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::{Value, json};
use std::time::Instant;
use weir_tests::{Host, Running, Suite, on_both_hosts};

/// Ten tokens, and none added within the time a test takes.
fn ten() -> Value {
    json!({"max_tokens": 10, "tokens_per_fill": 1, "fill_interval": "3600s"})
}

async fn limited(host: &Host, fleet: &Fleet, policy: Value) -> anyhow::Result<Running> {
    Suite::new(&fleet.addresses())
        .filter("token-bucket", json!({"policies": [policy]}))
        .start(host)
        .await
}

/// Statuses of `count` requests sent at once, over as many connections, so that all workers work.
async fn burst(proxy: &Running, count: usize, client: &str) -> anyhow::Result<Vec<u16>> {
    let requests: Vec<_> = (0..count)
        .map(|_| {
            let request = Request::get(proxy.url("/")).header("x-client", client);
            tokio::spawn(async move { Client::new().send(request).await })
        })
        .collect();
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await??.status);
    }
    Ok(statuses)
}

fn admitted(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 200).count()
}

on_both_hosts! {
    async fn a_burst_over_all_workers_gets_exactly_its_tokens(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = limited(&host, &fleet, json!({"name": "all", "token_bucket": ten()})).await?;
        let statuses = burst(&proxy, 60, "c").await?;
        assert_eq!(admitted(&statuses), 10);
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        assert_eq!(fleet.counters()[0].served, 10);
    }

    async fn workers_that_draw_ahead_at_full_speed_never_give_more_than_there_is(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let policy = json!({"name": "all", "gcra": {"rate": 400, "burst": 400}});
        let proxy = limited(&host, &fleet, policy).await?;
        let start = Instant::now();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let url = proxy.url("/");
                tokio::spawn(async move {
                    let mut session = Client::new().connect(&url).await?;
                    for _ in 0..500 {
                        session.send(Request::get(&url)).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for client in clients {
            client.await??;
        }
        let most = 400.0 + 400.0 * start.elapsed().as_secs_f64();
        let served = fleet.counters()[0].served;
        assert!((400.0..=most).contains(&(served as f64)), "{served} of {most}");
    }

    async fn each_client_has_a_bucket_of_its_own(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let policy = json!({"name": "per-client", "key": ["header:x-client"], "token_bucket": ten()});
        let proxy = limited(&host, &fleet, policy).await?;
        for client in ["alice", "bob", "carol"] {
            assert_eq!(admitted(&burst(&proxy, 15, client).await?), 10, "{client}");
        }
    }

    async fn a_refusal_says_when_to_come_back(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = limited(&host, &fleet, json!({"name": "all", "token_bucket": ten()})).await?;
        burst(&proxy, 10, "c").await?;
        let refused = proxy.get("/").await?;
        assert_eq!(refused.status, 429);
        let seconds: u64 = refused.header("retry-after").expect("retry-after").parse()?;
        assert!((1..=4000).contains(&seconds), "retry-after: {seconds}");
        let limit = refused.header("ratelimit").expect("ratelimit");
        assert!(limit.starts_with("\"all\";r=0"), "ratelimit: {limit}");
        let policy = refused.header("ratelimit-policy").expect("ratelimit-policy");
        assert!(policy.starts_with("\"all\";q=10"), "ratelimit-policy: {policy}");
    }

    async fn a_grpc_client_is_told_in_grpc(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = limited(&host, &fleet, json!({"name": "all", "token_bucket": ten()})).await?;
        burst(&proxy, 10, "c").await?;
        let request = Request::post(proxy.url("/svc/Method")).header("content-type", "application/grpc");
        let refused = Client::new().send(request).await?;
        assert_eq!(refused.status, 200);
        assert_eq!(refused.header("grpc-status"), Some("8"), "RESOURCE_EXHAUSTED");
    }

    async fn a_shadow_policy_counts_and_lets_pass(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let policy = json!({"name": "trial", "mode": "shadow", "token_bucket": ten()});
        let proxy = limited(&host, &fleet, policy).await?;
        assert_eq!(admitted(&burst(&proxy, 30, "c").await?), 30);
        let counted = proxy
            .metric_with("weir_requests_total", &[("policy", "trial"), ("outcome", "shadow_limited")])
            .await?;
        assert_eq!(counted, Some(20.0));
    }
}
