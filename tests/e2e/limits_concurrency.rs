//! token-bucket: requests in flight, over all workers, and every way in which they end.

use anyhow::Result;
use host_sim_rig::client::{Client, Exchange, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions, Fault};
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

/// Three of a client in flight.
async fn three(host: &Host, fleet: &Fleet) -> Result<Running> {
    at_most(3, host, fleet).await
}

async fn at_most(max: u32, host: &Host, fleet: &Fleet) -> Result<Running> {
    let policy =
        json!({"name": "in-flight", "key": "header:x-client", "concurrency": {"max": max}});
    Suite::new(&fleet.addresses())
        .filter("token-bucket", json!({"policies": [policy]}))
        .start(host)
        .await
}

fn request(proxy: &Running) -> Request {
    Request::get(proxy.url("/")).header("x-client", "alice")
}

async fn limited(proxy: &Running) -> Result<f64> {
    let labels = [("policy", "in-flight"), ("outcome", "limited")];
    Ok(proxy.metric_with("weir_requests_total", &labels).await?.unwrap_or(0.0))
}

/// Requests over connections of their own, so that all workers work.
async fn start(proxy: &Running, count: usize) -> Result<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    for _ in 0..count {
        exchanges.push(Client::new().start(request(proxy)).await?);
    }
    Ok(exchanges)
}

/// Sends requests to an endpoint that answers none, at least `count`, until `max` are in flight. When
/// this returns, every other one has been refused: none is under way that could take the place of
/// those that leave.
async fn fill(
    proxy: &Running,
    endpoint: &Endpoint,
    count: usize,
    max: u64,
) -> Result<Vec<Exchange>> {
    let before = limited(proxy).await?;
    let mut exchanges = start(proxy, count).await?;
    eventually("as many as may are in flight, and the others are refused", async || {
        let refused = limited(proxy).await? - before;
        let in_flight = endpoint.counters().in_flight;
        let are_all_decided = refused + in_flight as f64 >= exchanges.len() as f64;
        // Some are refused for what another worker has idle; but that comes back.
        if are_all_decided && in_flight < max {
            exchanges.extend(start(proxy, 1).await?);
        }
        Ok(are_all_decided && in_flight >= max)
    })
    .await?;
    Ok(exchanges)
}

/// Waits until a request passes: what was in flight has ended.
async fn until_one_passes(proxy: &Running) -> Result<()> {
    eventually("a request passes", async || {
        Ok(Client::new().send(request(proxy)).await?.status == 200)
    })
    .await
}

on_both_hosts! {
    async fn no_more_than_so_many_are_ever_in_flight_and_clients_that_leave_make_room(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = three(&host, &fleet).await?;
        for round in 1..=5 {
            endpoint.set_fault(Fault::Hang);
            let exchanges = fill(&proxy, endpoint, 20, 3).await?;
            assert_eq!(exchanges.len(), 20, "so few permits are drawn one by one: none is idle");
            assert_eq!(endpoint.counters().max_in_flight, 3, "round {round}");
            exchanges.into_iter().for_each(Exchange::abort);
            // The permits are free before the endpoint knows: it would count the next beside them.
            eventually("the endpoint has seen them leave", async || {
                limited(&proxy).await?;
                Ok(endpoint.counters().in_flight == 0)
            })
            .await?;
            endpoint.recover();
            until_one_passes(&proxy).await?;
        }
    }

    async fn permits_that_workers_have_drawn_ahead_are_none_too_many(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = at_most(40, &host, &fleet).await?;
        for round in 1..=3 {
            // A few at full speed, over all workers: permits are drawn ahead and handed on.
            let clients: Vec<_> = (0..6)
                .map(|_| {
                    let request = request(&proxy);
                    let url = proxy.url("/");
                    tokio::spawn(async move {
                        let mut session = Client::new().connect(&url).await?;
                        for _ in 0..100 {
                            assert_eq!(session.send(request.clone()).await?.status, 200);
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            for client in clients {
                client.await??;
            }
            endpoint.set_fault(Fault::Hang);
            let exchanges = fill(&proxy, endpoint, 60, 40).await?;
            assert_eq!(endpoint.counters().max_in_flight, 40, "round {round}");
            exchanges.into_iter().for_each(Exchange::abort);
            eventually("the endpoint has seen them leave", async || {
                limited(&proxy).await?;
                Ok(endpoint.counters().in_flight == 0)
            })
            .await?;
            endpoint.recover();
            until_one_passes(&proxy).await?;
        }
    }

    async fn answers_resets_and_aborted_bodies_give_their_permits_back(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = three(&host, &fleet).await?;
        for fault in [Fault::None, Fault::respond(500), Fault::ResetBeforeHeaders, Fault::ResetAfterHeaders] {
            endpoint.set_fault(fault.clone());
            for _ in 0..12 {
                // However it ends, it ends; none of a sequence is one too many.
                if let Ok(response) = Client::new().send(request(&proxy)).await {
                    assert_ne!(response.status, 429, "{fault:?}");
                }
            }
        }
        endpoint.recover();
        for _ in 0..12 {
            let _ = Client::new().start(request(&proxy)).await?.abort_in_body().await;
        }
        until_one_passes(&proxy).await?;
        assert_eq!(proxy.metric("weir_degraded_total").await?.unwrap_or(0.0), 0.0);
    }

    async fn a_refusal_tells_of_requests_at_once(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let endpoint = &fleet.endpoints()[0];
        let proxy = three(&host, &fleet).await?;
        endpoint.set_fault(Fault::Hang);
        let _held = start(&proxy, 3).await?;
        eventually("three are in flight", async || Ok(endpoint.counters().in_flight == 3)).await?;
        let refused = Client::new().send(request(&proxy)).await?;
        assert_eq!(refused.status, 429);
        let policy = refused.header("ratelimit-policy");
        assert_eq!(policy, Some(r#""in-flight";q=3;qu="concurrent-requests""#));
        assert_eq!(refused.header("ratelimit"), Some(r#""in-flight";r=0"#));
    }
}
