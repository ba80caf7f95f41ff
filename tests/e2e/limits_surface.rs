//! token-bucket: what is limited by default, by which key, and what clients are told.

use crate::raw::{bootstrap, listener, plugin};
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::{Value, json};
use weir_tests::{Host, Running, Suite, module, on_both_hosts};

/// One token, and none added within the time a test takes.
fn one_a_minute() -> Value {
    json!({"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "60s"})
}

/// How many of seven requests pass.
async fn passed_of_seven(proxy: &Running, listener: &str) -> anyhow::Result<usize> {
    let mut passed = 0;
    for _ in 0..7 {
        let response = Client::new().get(&proxy.url_of(listener, "/")).await?;
        assert!(matches!(response.status, 200 | 429), "{}", response.status);
        passed += usize::from(response.status == 200);
    }
    Ok(passed)
}

async fn limited(host: &Host, fleet: &Fleet, configuration: Value) -> anyhow::Result<Running> {
    Suite::new(&fleet.addresses()).filter("token-bucket", configuration).start(host).await
}

on_both_hosts! {
    async fn the_same_limit_limits_here_and_not_there(host: Host) {
        // Envoy's filter counts nothing unless `filter_enabled` is set: its default is 0 %.
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let envoys = json!({"name": "envoy.filters.http.local_ratelimit", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limiter",
            "token_bucket": one_a_minute(),
        }});
        let configuration = json!({"policies": [{"name": "all", "token_bucket": one_a_minute()}]});
        let file = module("token_bucket");
        let vm = json!({"vm_id": "weir"});
        let ours = plugin("token-bucket", &file, &configuration.to_string(), &json!({}), &vm);
        let ours = json!({"name": "token-bucket", "typed_config": ours});
        let listeners = [listener("envoys", &[envoys]), listener("ours", &[ours])];
        let proxy = Running::start(&host, &bootstrap(&listeners, fleet.addresses()[0])).await?;
        assert_eq!(passed_of_seven(&proxy, "envoys").await?, 7);
        assert_eq!(passed_of_seven(&proxy, "ours").await?, 1);
    }

    async fn a_tenant_is_known_by_its_token_and_a_session_by_its_cookie(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let by = |key: &str| json!({
            "name": key.replace(':', "-"), "key": key, "on_missing_key": "skip",
            "token_bucket": one_a_minute(),
        });
        let policies = json!({"policies": [by("jwt:sub"), by("cookie:sid"), by("query:key")]});
        let proxy = limited(&host, &fleet, policies).await?;
        let ask = async |path: &str, name: &str, value: &str| {
            let request = Request::get(proxy.url(path)).header(name, value);
            anyhow::Ok(Client::new().send(request).await?.status)
        };
        // {"sub":"a"}, {"sub": "a"}, {"sub":"b"}
        assert_eq!(ask("/", "authorization", "Bearer e30.eyJzdWIiOiJhIn0.x").await?, 200);
        assert_eq!(ask("/", "authorization", "bearer e30.eyJzdWIiOiAiYSJ9.y").await?, 429);
        assert_eq!(ask("/", "authorization", "Bearer e30.eyJzdWIiOiJiIn0.x").await?, 200);
        assert_eq!(ask("/", "cookie", "a=1; sid=x").await?, 200);
        assert_eq!(ask("/", "cookie", "sid=\"x\"").await?, 429);
        assert_eq!(ask("/?key=k", "x-a", "1").await?, 200);
        assert_eq!(ask("/other?a=b&key=%6b", "x-a", "1").await?, 429);
    }

    async fn behind_a_trusted_proxy_the_client_is_in_the_forwarded_header(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let policy = json!({"name": "ip", "key": "source.address", "token_bucket": one_a_minute()});
        let configuration = json!({"xff_trusted_hops": 1, "policies": [policy]});
        let proxy = limited(&host, &fleet, configuration).await?;
        let ask = async |forwarded: &[&str]| {
            let mut request = Request::get(proxy.url("/"));
            for line in forwarded {
                request = request.header("x-forwarded-for", line);
            }
            anyhow::Ok(Client::new().send(request).await?.status)
        };
        assert_eq!(ask(&["1.2.3.4, 10.0.0.1"]).await?, 200);
        assert_eq!(ask(&["6.6.6.6, 1.2.3.4, 10.0.0.1"]).await?, 429, "a forged entry on the left");
        assert_eq!(ask(&["6.6.6.6", "1.2.3.4", "10.0.0.1"]).await?, 429, "in lines of its own");
        assert_eq!(ask(&["5.6.7.8, 10.0.0.1"]).await?, 200);
    }

    async fn a_refusal_is_told_as_problem_details_and_in_the_older_headers(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = limited(&host, &fleet, json!({
            "problem_details": true, "x_ratelimit_headers": true,
            "response_headers_to_add": [{"name": "x-limited", "value": "yes"}],
            "policies": [{"name": "all", "token_bucket": one_a_minute()}],
        })).await?;
        let passed = proxy.get("/").await?;
        assert_eq!(passed.header("x-ratelimit-remaining"), Some("0"));
        let refused = proxy.get("/").await?;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert_eq!(refused.header("x-limited"), Some("yes"));
        assert_eq!(refused.header("x-ratelimit-limit"), Some("1"));
        let problem = refused.json()?;
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(problem["violated-policies"], json!(["all"]));
        assert_eq!(problem["detail"], "rate limited");
        let counted = proxy.metric_with("weir_refusals_total", &[("reason", "no_token")]).await?;
        assert_eq!(counted, Some(1.0));
    }

    async fn an_origins_limits_are_never_made_more_permissive(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let policy = json!({"name": "all", "gcra": {"rate": 10, "per": "3600s"}});
        let proxy = limited(&host, &fleet, json!({"ratelimit_headers": "always", "policies": [policy]})).await?;
        let told = async |origin: &str| {
            fleet.endpoints()[0].set_response_headers(&[("ratelimit", origin)]);
            let response = proxy.get("/").await?;
            let all = response.headers.iter().filter(|(name, _)| name == "ratelimit");
            anyhow::Ok(all.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(told(r#""daily";r=5"#).await?, r#""daily";r=5, "all";r=9;t=360"#);
        assert_eq!(told(r#""all";r=1;t=9"#).await?, r#""all";r=1;t=9"#, "theirs is stricter");
        let ours = told(r#""all";r=50;t=9, "daily";r=5"#).await?;
        assert!(ours.starts_with(r#""all";r=7;t="#) && ours.ends_with(r#", "daily";r=5"#), "{ours}");
        assert_eq!(told("limit=5, remaining=4").await?, "limit=5, remaining=4", "no such list");
    }
}
