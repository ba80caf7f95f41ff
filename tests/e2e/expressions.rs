//! metric-router: what it asks of the proxy by one expression is what it would have read one by one.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::service_time::ServiceTime;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

const SECRET: &str = "0123456789abcdef";
const PICK: &str = "x-metric-router-pick";

/// What the module may call and what may be called of it.
const CAPABILITIES: [&str; 29] = [
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proxy_call_foreign_function",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
    "proxy_on_vm_start",
    "proxy_get_log_level",
];

/// No expressions.
const ONE_BY_ONE: [&str; 1] = ["proxy_call_foreign_function"];

/// Nothing but expressions.
const AT_ONCE: [&str; 2] = ["proxy_get_property", "proxy_get_header_map_pairs"];

/// The suite, with a module that may call all but this.
async fn start(suite: &Suite, denied: &[&str], host: &Host) -> anyhow::Result<Running> {
    let allowed = CAPABILITIES.iter().filter(|name| !denied.contains(name));
    let allowed: Map<String, Value> = allowed.map(|name| ((*name).to_owned(), json!({}))).collect();
    let mut file: Value = serde_json::from_str(&suite.bootstrap())?;
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let module = format!("{manager}/http_filters/0/typed_config/config");
    let module = file.pointer_mut(&module).expect("a module");
    module["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
    Running::start(host, &file.to_string()).await
}

/// Where a request with these headers goes, and why.
async fn explained(proxy: &Running, headers: &[(&str, &str)]) -> anyhow::Result<String> {
    let request = Request::get(proxy.url("/")).header("x-filter-debug", SECRET);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let response = Client::new().send(request).await?;
    assert_eq!(response.status, 200);
    let told = response.header(PICK).unwrap_or_default().to_owned();
    // One without a key goes to anyone.
    let is_kept = |word: &&str| !(told.contains("reason=no_key") && word.contains(':'));
    let words = told.split(' ').filter(is_kept).take_while(|word| !word.starts_with("considered"));
    Ok(words.collect::<Vec<_>>().join(" "))
}

on_both_hosts! {
    async fn a_key_is_the_same_whether_it_is_read_by_one_expression_or_one_by_one(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 5).await?;
        let addresses: Vec<_> = fleet.addresses().iter().map(ToString::to_string).collect();
        let key = ["header:x-user", "cookie:id", "source.address"];
        let suite = Suite::new(&fleet.addresses()).filter("metric-router", json!({
            "debug_header": {"enabled": true, "secret": SECRET},
            "clusters": [{
                "name": "backend",
                "policy": "consistent_hash",
                "endpoints": addresses,
                "consistent_hash": {"key": key, "hash_balance_factor": 0},
            }],
        }));
        let proxies = [
            start(&suite, &[], &host).await?,
            start(&suite, &ONE_BY_ONE, &host).await?,
            start(&suite, &AT_ONCE, &host).await?,
        ];
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[("x-user", "alice"), ("cookie", "id=1")], true),
            (&[("x-user", "bob"), ("cookie", "a=b; id=\"2\"")], true),
            (&[("x-user", "carol, dave"), ("cookie", "id=3")], true),
            (&[("x-user", "carol"), ("x-user", "dave"), ("cookie", "id=3")], true),
            (&[("x-user", "erin"), ("cookie", "id=4; c=d"), ("cookie", "a=b")], true),
            (&[("x-user", "fr\u{e9}d"), ("cookie", "id=5")], true),
            (&[("x-user", ""), ("cookie", "id=1")], false),
            (&[("cookie", "id=1")], false),
            (&[("x-user", "alice"), ("cookie", "other=1")], false),
        ];
        let mut homes = BTreeSet::new();
        for (headers, has_key) in cases {
            let mut told = Vec::new();
            for proxy in &proxies {
                told.push(explained(proxy, headers).await?);
            }
            let reason = if has_key { " reason=hashed " } else { " reason=no_key " };
            assert!(told[0].contains(reason), "{headers:?}: {told:?}");
            assert!(told.iter().all(|one| *one == told[0]), "{headers:?}: {told:?}");
            homes.extend(told.pop().filter(|_| has_key));
        }
        assert!(homes.len() > 1, "{homes:?}");
    }

    async fn who_answers_and_how_fast_is_known_by_expressions_alone(host: Host) {
        let options = |millis| EndpointOptions {
            service_time: ServiceTime::Fixed(Duration::from_millis(millis)),
            ..EndpointOptions::named("e")
        };
        let (fast, slow) =
            (Fleet::start(&options(3), 2).await?, Fleet::start(&options(60), 1).await?);
        let addresses = [fast.addresses(), slow.addresses()].concat();
        // Nothing tells who serves, or how many there are, but the answers themselves.
        let cluster = json!({"name": "backend", "policy": "peak_ewma"});
        for log in ["notable", "all"] {
            let suite = Suite::new(&addresses).filter("metric-router", json!({
                "access_log": log,
                "debug_header": {"enabled": true, "secret": SECRET},
                "clusters": [cluster],
            }));
            let proxy = start(&suite, &AT_ONCE, &host).await?;
            eventually("all endpoints are known", async || {
                for _ in 0..20 {
                    assert_eq!(proxy.get("/").await?.status, 200);
                }
                let told = explained(&proxy, &[]).await?;
                Ok(told.contains(" policy=peak_ewma ") && told.ends_with(" candidates=3"))
            })
            .await?;
            let before = slow.endpoints()[0].counters().served;
            for _ in 0..100 {
                assert_eq!(proxy.get("/").await?.status, 200);
            }
            let strays = slow.endpoints()[0].counters().served - before;
            assert!(strays <= 20, "{strays} of 100 went to the slow one");
        }
    }
}
