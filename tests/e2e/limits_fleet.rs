//! token-bucket and a rate limit service: one limit over several proxies.

use anyhow::Result;
use host_sim_rig::client::{Client, Request, Response};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::{Value, json};
use weir_tests::{
    Host, Limitador, RateLimitService, Running, Services, Suite, eventually, on_both_hosts,
};

/// Workers of a proxy.
const WORKERS: usize = 2;

/// One policy with a bucket of so many tokens in front, which do not come again, and what else the
/// service's part says.
fn policy(tokens: u32, extra: Value) -> Value {
    let mut global = json!({
        "cluster": "ratelimit",
        "domain": "edge",
        "descriptors": [{"entries": [{"key": "client", "from": "header:x-client"}]}],
        // The longest there is: no answer may be late because the machine is busy.
        "timeout": "10s",
        // A call that fails is not to look like a hit that was granted.
        "failure_mode": "deny",
    });
    for (field, value) in extra.as_object().into_iter().flatten() {
        global[field] = value.clone();
    }
    json!({
        "name": "fleet",
        "token_bucket": {"max_tokens": tokens, "fill_interval": "86400s"},
        "global": global,
    })
}

async fn proxy(
    host: &Host,
    fleet: &Fleet,
    service: &RateLimitService,
    policy: Value,
) -> Result<Running> {
    Suite::new(&fleet.addresses())
        .filter("token-bucket", json!({"ratelimit_headers": "always", "policies": [policy]}))
        .service("ratelimit", service.address())
        .start(host)
        .await
}

async fn get(proxy: &Running) -> Result<Response> {
    let request = Request::get(proxy.url("/")).header("x-client", "alice");
    Ok(Client::new().send(request).await?)
}

/// How many of `count` requests to each of the proxies passed, `at_once` of them at a time.
async fn admitted(proxies: &[&Running], count: usize, at_once: usize) -> Result<usize> {
    let mut admitted = 0;
    for _ in 0..count.div_ceil(at_once) {
        let mut requests = Vec::new();
        for proxy in proxies {
            for _ in 0..at_once {
                let request = Request::get(proxy.url("/")).header("x-client", "alice");
                requests.push(tokio::spawn(async move { Client::new().send(request).await }));
            }
        }
        for request in requests {
            let status = request.await??.status;
            assert!(matches!(status, 200 | 429), "{status}");
            admitted += usize::from(status == 200);
        }
    }
    Ok(admitted)
}

/// Two proxies that ask for hits ahead pass at most the limit, and little less; few questions.
async fn batched(host: &Host, service: &RateLimitService, limit: usize) -> Result<()> {
    const MAX: usize = 20;
    let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
    let policy = policy(10_000, json!({"batch": {"max": MAX, "time": "10s"}}));
    let one = proxy(host, &fleet, service, policy.clone()).await?;
    let two = proxy(host, &fleet, service, policy).await?;
    let passed = admitted(&[&one, &two], limit, 10).await?;
    let lost = 2 * WORKERS * (MAX - 1);
    assert!((limit - lost..=limit).contains(&passed), "{passed} of {limit}");
    let granted: usize = service.asked().len();
    assert!(granted < limit, "{granted} questions for {passed} requests that passed");
    Ok(())
}

on_both_hosts! {
    async fn two_proxies_have_one_limit(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let service = RateLimitService::window(40).await?;
        let one = proxy(&host, &fleet, &service, policy(10_000, json!({}))).await?;
        let two = proxy(&host, &fleet, &service, policy(10_000, json!({}))).await?;
        assert_eq!(admitted(&[&one, &two], 60, 20).await?, 40);
        assert_eq!(fleet.counters()[0].served, 40);
        let refused = get(&one).await?;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("ratelimit"), Some("\"fleet.global\";r=0;t=3600"));
        let seconds: u64 = refused.header("retry-after").expect("retry-after").parse()?;
        assert!(seconds >= 3_590, "retry-after: {seconds}");
        let asked = service.asked();
        assert_eq!(asked[0].domain, "edge");
        assert_eq!(asked[0].descriptors, [[("client".to_owned(), "alice".to_owned())]]);
    }

    async fn what_the_service_says_reaches_the_client_and_the_endpoint(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let service = RateLimitService::window(40).await?;
        let proxy = proxy(&host, &fleet, &service, policy(100, json!({}))).await?;
        let passed = get(&proxy).await?;
        assert_eq!(passed.status, 200);
        assert_eq!(passed.header("x-decided-by"), Some("window"));
        let limits = passed.header("ratelimit").expect("ratelimit");
        assert!(limits.starts_with("\"fleet.global\";r=39;t=3600, \"fleet\";r=99"), "{limits}");
        let policies = passed.header("ratelimit-policy").expect("ratelimit-policy");
        assert!(policies.starts_with("\"fleet.global\";q=40;w=3600, \"fleet\";q="), "{policies}");
        let received = fleet.endpoints()[0].requests();
        assert!(received[0].headers.contains(&("x-asked".to_owned(), "window".to_owned())));
    }

    async fn hits_granted_ahead_keep_the_limit_and_save_questions(host: Host) {
        batched(&host, &RateLimitService::window(400).await?, 400).await?;
    }

    async fn limitador_keeps_one_limit_for_two_proxies(host: Host) {
        let Some(engine) = Limitador::start("edge", 40, "descriptors[0].client").await? else {
            return Ok(());
        };
        let service = RateLimitService::limitador(engine).await?;
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let one = proxy(&host, &fleet, &service, policy(10_000, json!({}))).await?;
        let two = proxy(&host, &fleet, &service, policy(10_000, json!({}))).await?;
        assert_eq!(admitted(&[&one, &two], 60, 20).await?, 40);
        let refused = get(&two).await?;
        assert_eq!(refused.status, 429);
        let limits = refused.header("ratelimit").expect("ratelimit");
        assert!(limits.starts_with("\"fleet.global\";r=0;t=3"), "{limits}");
    }

    async fn limitador_grants_ahead(host: Host) {
        let Some(engine) = Limitador::start("edge", 400, "descriptors[0].client").await? else {
            return Ok(());
        };
        batched(&host, &RateLimitService::limitador(engine).await?, 400).await?;
    }

    async fn what_the_bucket_refuses_asks_nobody(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let service = RateLimitService::window(1_000).await?;
        let proxy = proxy(&host, &fleet, &service, policy(3, json!({}))).await?;
        assert_eq!(admitted(&[&proxy], 20, 5).await?, 3);
        assert_eq!(service.asked().len(), 3);
    }

    async fn a_service_that_fails_lets_pass_or_refuses(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let service = RateLimitService::window(1_000).await?;
        for behaviour in [Services::Fail(13), Services::Garbage, Services::Silent] {
            service.behave(behaviour.clone());
            let extra = |mode: &str| json!({"failure_mode": mode, "timeout": "0.1s"});
            let allowing = proxy(&host, &fleet, &service, policy(100, extra("allow"))).await?;
            let passed = get(&allowing).await?;
            assert_eq!(passed.status, 200, "{behaviour:?}");
            let denying = proxy(&host, &fleet, &service, policy(1, extra("deny"))).await?;
            // The bucket has one token, and gets it back each time.
            for _ in 0..3 {
                assert_eq!(get(&denying).await?.status, 500, "{behaviour:?}");
            }
            let counted = denying
                .metric_with("weir_global_requests_total", &[("outcome", "failure_denied")])
                .await?;
            assert_eq!(counted, Some(3.0), "{behaviour:?}");
        }
    }

    async fn a_service_that_is_away_lets_pass_or_refuses(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let service = RateLimitService::window(1_000).await?;
        let allowing = policy(100, json!({"failure_mode": "allow"}));
        let allowing = proxy(&host, &fleet, &service, allowing).await?;
        let denying = policy(100, json!({"failure_mode": "deny", "status_on_error": 503}));
        let denying = proxy(&host, &fleet, &service, denying).await?;
        assert_eq!(get(&denying).await?.status, 200);
        drop(service);
        eventually("the service is away", async || Ok(get(&denying).await?.status == 503)).await?;
        assert_eq!(get(&allowing).await?.status, 200);
    }

    async fn a_client_that_goes_away_while_it_waits_takes_no_token(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let service = RateLimitService::window(1_000).await?;
        let proxy = proxy(&host, &fleet, &service, policy(1, json!({}))).await?;
        service.behave(Services::Silent);
        let request = Request::get(proxy.url("/")).header("x-client", "alice");
        let waits = Client::new().start(request).await?;
        eventually("the service is asked", async || {
            proxy.metric("nothing").await?;
            Ok(service.asked().len() == 1)
        })
        .await?;
        waits.abort();
        service.behave(Services::Decide);
        // The bucket has one token in a day.
        eventually("a request passes", async || Ok(get(&proxy).await?.status == 200)).await?;
        assert_eq!(fleet.counters()[0].served, 1);
    }
}
