//! Every scenario below `tests/scenarios`, on the shipped modules, and what the runner promises.

use anyhow::Result;
use host_sim::bench::{self, BenchOptions};
use host_sim::{Host, HostOptions, Report, Request, RequestId, RunOptions, Scenario};
use host_sim_bootstrap::Bootstrap;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_tests::{Suite, module};

/// Runs what `paths` hold.
fn run(paths: &[PathBuf]) -> Result<Report> {
    Ok(host_sim::run(paths, &RunOptions::default(), |_| {})?)
}

/// The folders of scenarios, one of each module and one of the chain.
fn folders() -> Result<Vec<PathBuf>> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(all)?.map(|entry| entry.map(|entry| entry.path()));
    let mut folders = entries.collect::<Result<Vec<_>, _>>()?;
    folders.sort();
    Ok(folders)
}

#[test]
fn every_scenario_holds() -> Result<()> {
    let folders = folders()?;
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let runs: Vec<_> = folders
            .iter()
            .map(|folder| scope.spawn(|| run(std::slice::from_ref(folder))))
            .collect();
        for run in runs {
            let part = run.join().expect("no scenario panics")?;
            report.outcomes.extend(part.outcomes);
        }
        anyhow::Ok(())
    })?;
    let failed: Vec<_> = report.outcomes.iter().filter(|outcome| !outcome.passed()).collect();
    let text: String = failed.iter().map(|outcome| outcome.text()).collect();
    assert!(failed.is_empty(), "\n{text}{}", report.summary());
    assert_eq!(report.exit_code(), 0, "nothing was run");
    Ok(())
}

#[test]
fn every_module_and_the_chain_have_scenarios() -> Result<()> {
    let folders = folders()?;
    for name in ["chain", "circuit_breaker", "health_signal", "metric_router", "token_bucket"] {
        let folder = folders.iter().find(|folder| folder.ends_with(name));
        let files = std::fs::read_dir(folder.unwrap_or_else(|| panic!("no folder {name}")))?;
        assert!(files.count() > 0, "{name} is empty");
    }
    Ok(())
}

#[test]
fn every_scenario_runs_with_one_two_and_four_workers() -> Result<()> {
    for folder in folders()? {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let scenario = Scenario::parse(&std::fs::read_to_string(&path)?)?;
            for workers in [1, 2, 4] {
                assert!(scenario.workers.contains(&workers), "{}: {workers}", path.display());
            }
        }
    }
    Ok(())
}

#[test]
fn a_scenario_that_fails_tells_what_was_expected_and_what_came() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("wrong.yaml");
    let text = "
scenario: three requests get two answers
suite: {filters: []}
endpoints:
  127.0.0.1:9001: {answer: {status: 404, headers: {x-who: me}}}
steps:
- send: {count: 3}
  expect:
    statuses: {200: 2}
    received: {'127.0.0.1:9001': '>= 4'}
    response_headers: {x-who: '^you$'}
    no_response_headers: [x-who]
    metrics: {weir_nothing: 1}
    log: [a line that nobody wrote]
- expect: {received: {'127.0.0.1:9001': 12345678}}
";
    std::fs::write(&file, text)?;
    let report = run(&[file])?;
    assert_eq!(report.exit_code(), 1);
    let text = report.render(host_sim::Format::Text);
    for told in [
        "FAIL three requests get two answers",
        "step 1",
        "statuses: expected {200: 2}, got {404: 3}",
        "requests received by 127.0.0.1:9001: expected at least 4, got 3",
        "response header x-who: expected /^you$/, got Some(\"me\")",
        "response header x-who: expected none, got \"me\"",
        "weir_nothing: expected 1, got 0",
        "log: no line matches /a line that nobody wrote/",
        "wrong.yaml, seed 1",
        "0 passed, 1 failed",
    ] {
        assert!(text.contains(told), "missing: {told}\nin: {text}");
    }
    // What follows a failed step builds on it, and would only distract.
    assert!(!text.contains("12345678"), "{text}");
    Ok(())
}

#[test]
fn a_scenario_that_cannot_run_is_told_from_one_that_fails() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let unknown = folder.path().join("unknown.yaml");
    let steps = "steps: [{expect: {log: [x]}}]\n";
    let filter = "{module: token_bucket, denied_capabilities: [proxy_sing]}";
    std::fs::write(&unknown, format!("scenario: x\nsuite: {{filters: [{filter}]}}\n{steps}"))?;
    let missing = folder.path().join("missing.yaml");
    std::fs::write(
        &missing,
        format!("scenario: x\nsuite: {{filters: [{{module: none}}]}}\n{steps}"),
    )?;
    for file in [unknown, missing] {
        assert_eq!(run(&[file])?.exit_code(), 2);
    }
    Ok(())
}

/// All that can be seen of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    statuses: Vec<Option<u16>>,
    /// Which endpoint got each request, and when.
    received: Vec<(u16, Duration, String)>,
    metrics: String,
    log: Vec<String>,
}

/// The whole chain under load, with an endpoint that dies.
fn chain_under_load(seed: u64) -> Result<Seen> {
    let endpoints =
        ["127.0.0.1:9001".parse()?, "127.0.0.1:9002".parse()?, "127.0.0.1:9003".parse()?];
    let clusters = json!([{"name": "backend", "active": {"interval": "1s", "timeout": "0.3s"}}]);
    let bucket = json!({"max_tokens": 50, "fill_interval": "0.1s"});
    let suite = Suite::new(&endpoints)
        .filter("token-bucket", json!({"policies": [{"name": "all", "token_bucket": bucket}]}))
        .filter("metric-router", json!({"clusters": [{"name": "backend"}]}))
        .filter("circuit-breaker", json!({}))
        .filter("health-signal", json!({"clusters": clusters}))
        .upstream_health_signal()
        .retries();
    let bootstrap = Bootstrap::from_yaml(&suite.bootstrap())?;
    let mut host =
        Host::start(bootstrap, HostOptions { workers: 3, seed, ..HostOptions::default() })?;
    let mut requests: Vec<RequestId> = Vec::new();
    for at in 0..300 {
        if at == 100 {
            let refuse = host_sim::Behaviour {
                failure: Some(host_sim::Failure::Refuse),
                ..host_sim::Behaviour::default()
            };
            host.behave(endpoints[2], refuse);
        }
        requests.push(host.send(&Request::get("/").on_worker(at)));
        host.advance(Duration::from_millis(15));
    }
    host.settle(Duration::from_secs(10));
    let mut received = Vec::new();
    for endpoint in endpoints {
        let of = host.received(endpoint).iter();
        received.extend(of.map(|request| (endpoint.port(), request.at, request.path.clone())));
    }
    Ok(Seen {
        statuses: requests.iter().map(|id| host.reply(*id).map(|reply| reply.status)).collect(),
        received,
        metrics: format!("{:#?}", host.engine().stats().snapshot()),
        log: host.log(),
    })
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() -> Result<()> {
    let one = chain_under_load(7)?;
    assert!(one.statuses.contains(&Some(200)) && one.statuses.contains(&Some(429)), "{one:?}");
    assert_eq!(one, chain_under_load(7)?);
    assert_ne!(one.received, chain_under_load(8)?.received);
    Ok(())
}

/// What each of 50 clients gets of 200 requests a second, in five seconds. All ask for 8 a second, but
/// the first asks for 160.
fn flooded(workers: usize) -> Result<Vec<f64>> {
    let endpoint = "127.0.0.1:9001".parse()?;
    let policies = json!({"policies": [
        {"name": "all", "gcra": {"rate": 200, "burst": 40}},
        {"name": "fair", "key": "header:x-client", "fair_share": {"of": "all"}},
    ]});
    let suite = Suite::new(&[endpoint]).filter("token-bucket", policies);
    let bootstrap = Bootstrap::from_yaml(&suite.bootstrap())?;
    let mut host = Host::start(bootstrap, HostOptions { workers, ..HostOptions::default() })?;
    let mut requests: Vec<(usize, RequestId)> = Vec::new();
    for tick in 0..2_760_usize {
        // Twenty of 69 requests are the first client's.
        let turn = tick % 69;
        let client = if turn % 3 == 0 && turn < 60 { 0 } else { 1 + (tick * 31) % 49 };
        let request = Request::get("/").header("x-client", &client.to_string());
        requests.push((client, host.send(&request.on_worker(tick * 7 / 5 % workers))));
        host.advance(Duration::from_micros(1_811));
    }
    host.settle(Duration::from_secs(10));
    let mut got = vec![0.0; 50];
    for (client, id) in requests {
        got[client] += f64::from(u8::from(host.reply(id).is_some_and(|reply| reply.status == 200)));
    }
    Ok(got)
}

#[test]
fn a_client_that_floods_leaves_the_others_equal_shares_whatever_the_number_of_workers() -> Result<()>
{
    for workers in [1, 2, 4] {
        let got = flooded(workers)?;
        let (flood, rest) = (got[0], &got[1..]);
        let sum: f64 = rest.iter().sum();
        let squares: f64 = rest.iter().map(|one| one * one).sum();
        let jain = sum * sum / (rest.len() as f64 * squares);
        assert!(jain >= 0.95, "{workers} workers, {jain}: {got:?}");
        assert!(flood <= 3.0 * sum / 49.0, "{workers} workers: {got:?}");
        assert!((900.0..=1_041.0).contains(&(sum + flood)), "{workers} workers: {got:?}");
    }
    Ok(())
}

/// Instructions that a request of one of `clients` takes, when all of them have buckets in use: in a
/// thirty-second part of the tables that a million clients need.
fn fuel_of_a_request(clients: usize) -> Result<u64> {
    let endpoint = "127.0.0.1:9001".parse()?;
    let policies = json!({
        "store": {"shards": 1024, "slots_per_shard": 64},
        "policies": [{"name": "each", "key": "header:x-client",
            "gcra": {"rate": 1, "per": "3600s", "burst": 2}}],
    });
    let suite = Suite::new(&[endpoint]).filter("token-bucket", policies);
    let bootstrap = Bootstrap::from_yaml(&suite.bootstrap())?;
    let mut host =
        Host::start(bootstrap, HostOptions { workers: 1, fuel: true, ..HostOptions::default() })?;
    let ask = |host: &mut Host, client: usize| {
        let id = host.send(&Request::get("/").header("x-client", &client.to_string()));
        host.settle(Duration::from_secs(1));
        host.reply(id).is_some_and(|reply| reply.status == 200)
    };
    for client in 0..clients {
        assert!(ask(&mut host, client));
    }
    let before = host.fuel_consumed();
    for client in 0..30 {
        assert!(ask(&mut host, client));
    }
    Ok((host.fuel_consumed() - before) / 30)
}

#[test]
fn a_request_costs_much_the_same_among_a_million_clients_as_among_a_thousand() -> Result<()> {
    let (few, many) = (fuel_of_a_request(1_000 / 32)?, fuel_of_a_request(1_000_000 / 32)?);
    println!("{few} instructions among a thousand clients, {many} among a million");
    assert!(many * 10 <= few * 12, "{few}, {many}");
    Ok(())
}

/// Instructions that the router takes for a request to a cluster of so many endpoints, by policy.
/// What it does at ticks is not in it: none comes.
fn fuel_of_a_pick(policy: &str, endpoints: u16) -> Result<u64> {
    let address = |number: u16| format!("127.0.{}.{}:80", number / 250, number % 250 + 1).parse();
    let endpoints: Vec<SocketAddr> = (0..endpoints).map(address).collect::<Result<_, _>>()?;
    let mut cluster = json!({
        "name": "backend", "policy": policy, "endpoints": endpoints, "update_interval": "10s",
    });
    if policy == "consistent_hash" {
        cluster["consistent_hash"] = json!({"key": ["header:x-client"]});
    }
    let suite = Suite::new(&endpoints).filter("metric-router", json!({"clusters": [cluster]}));
    let bootstrap = Bootstrap::from_yaml(&suite.bootstrap())?;
    let mut host =
        Host::start(bootstrap, HostOptions { workers: 1, fuel: true, ..HostOptions::default() })?;
    let ask = |host: &mut Host, client: u32| {
        let id = host.send(&Request::get("/").header("x-client", &client.to_string()));
        host.settle(Duration::from_secs(1));
        host.reply(id).is_some_and(|reply| reply.status == 200)
    };
    // The first requests of an endpoint make its row.
    host.advance(Duration::from_secs(11));
    for client in 0..100 {
        assert!(ask(&mut host, client));
    }
    let before = host.fuel_consumed();
    for client in 0..200 {
        assert!(ask(&mut host, client));
    }
    assert!(host.elapsed() < Duration::from_secs(20), "a tick came in between");
    Ok((host.fuel_consumed() - before) / 200)
}

#[test]
fn a_pick_costs_much_the_same_among_a_thousand_endpoints_as_among_ten() -> Result<()> {
    for policy in
        ["auto", "weighted_round_robin", "peak_ewma", "hot_cold", "consistent_hash", "random"]
    {
        let (few, many) = (fuel_of_a_pick(policy, 10)?, fuel_of_a_pick(policy, 1000)?);
        println!("{policy}: {few} instructions among ten endpoints, {many} among a thousand");
        assert!(many * 10 <= few * 11, "{policy}: {few}, {many}");
    }
    Ok(())
}

/// What health-signal's ticks may cost a second with a thousand endpoints, in instructions: less than
/// a tenth of a core, in the one VM that leads.
const MOST_TICKS: u64 = 100_000_000;

/// Instructions of a second of health-signal's ticks in a cluster of so many endpoints: all of them
/// polled every five seconds, and all the workers' reports read, by the one that leads.
fn fuel_of_the_ticks(endpoints: u16) -> Result<u64> {
    let address = |number: u16| format!("127.0.{}.{}:80", number / 250, number % 250 + 1).parse();
    let endpoints: Vec<SocketAddr> = (0..endpoints).map(address).collect::<Result<_, _>>()?;
    let configuration = json!({"clusters": [{
        "name": "backend", "endpoints": endpoints, "active": {"kind": "http"}, "max_probe_rps": 1000,
    }]});
    let suite = Suite::new(&endpoints).filter("health-signal", configuration);
    let bootstrap = Bootstrap::from_yaml(&suite.bootstrap())?;
    let mut host =
        Host::start(bootstrap, HostOptions { workers: 1, fuel: true, ..HostOptions::default() })?;
    let ask = |host: &mut Host| {
        let id = host.send(&Request::get("/"));
        host.settle(Duration::from_secs(1));
        host.reply(id).is_some_and(|reply| reply.status == 200)
    };
    // Each endpoint is polled, and has served, so that there is something to tell of it.
    for _ in 0..endpoints.len() {
        assert!(ask(&mut host));
    }
    host.advance(Duration::from_secs(10));
    let before = host.fuel_consumed();
    host.advance(Duration::from_secs(10));
    Ok((host.fuel_consumed() - before) / 10)
}

#[test]
fn what_ticks_cost_grows_with_the_endpoints_and_no_faster() -> Result<()> {
    let (few, many) = (fuel_of_the_ticks(100)?, fuel_of_the_ticks(1000)?);
    println!("{few} instructions a second for a hundred endpoints, {many} for a thousand");
    assert!(many <= few * 11, "{few}, {many}");
    assert!(many <= MOST_TICKS, "{many}");
    Ok(())
}

/// Hostcalls of the router for a request and its response, in the chain of the demo, by policy.
fn hostcalls_of_the_router(policy: &str) -> Result<f64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("envoy-config/demo.yaml"))?;
    let written = r#""policy": "least_cost""#;
    assert!(text.contains(written), "the demo names its policy");
    let text = text.replace(written, &format!(r#""policy": "{policy}""#));
    let module = module("metric_router");
    let dist = module.parent().expect("a module lies in a folder");
    let text = text.replace("dist/", &format!("{}/", dist.display()));
    let options = BenchOptions { requests: 800, base_dir: Some(root), ..BenchOptions::default() };
    let costs = bench::costs(Bootstrap::from_yaml(&text)?, &options)?;
    assert_eq!(costs.statuses.keys().collect::<Vec<_>>(), [&200]);
    let its = costs.callbacks.iter().filter(|cost| cost.plugin == "metric-router");
    let calls = its.map(|cost| cost.hostcalls * cost.calls as f64).sum::<f64>();
    Ok(calls / costs.requests as f64)
}

#[test]
fn a_request_costs_the_router_four_hostcalls_at_the_most() -> Result<()> {
    for policy in ["auto", "least_cost", "hot_cold", "weighted_round_robin", "random"] {
        let hostcalls = hostcalls_of_the_router(policy)?;
        println!("{policy}: {hostcalls:.2} hostcalls");
        assert!((3.0..=4.0).contains(&hostcalls), "{policy}: {hostcalls}");
    }
    Ok(())
}

/// What lints say of the shipped modules and is meant so. Weights are each worker's own, and the
/// module's README says that the gauge shows whoever was last. A record of an endpoint's health has
/// one writer, the leader, which overwrites what it finds: garbage, too. A request that is held for its
/// token goes on when that has come, by a tick asked for once, on the worker that holds it.
const MEANT: [(&str, &str); 3] = [
    ("metric_router", "gauge-record"),
    ("health_signal", "lost-update"),
    ("token_bucket", "tick-too-short"),
];

#[test]
fn no_scenario_makes_a_lint_complain_of_a_shipped_module() -> Result<()> {
    let options = RunOptions { explain: true, workers: Some(2), ..RunOptions::default() };
    let report = host_sim::run(&folders()?, &options, |_| {})?;
    assert!(!report.outcomes.is_empty());
    for outcome in &report.outcomes {
        // Where a callback traps on purpose, the trap is a finding, and so is what the next VM repeats.
        if std::fs::read_to_string(&outcome.file)?.contains("trap: ") {
            continue;
        }
        for finding in &outcome.findings {
            let meant = MEANT
                .iter()
                .any(|(plugin, lint)| finding.plugin.starts_with(plugin) && finding.lint == *lint);
            assert!(meant, "{}:\n{finding}", outcome.file.display());
        }
    }
    Ok(())
}
