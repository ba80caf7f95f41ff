//! The binary as users run it: output, exit codes, signals.

use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions};
use host_sim_rig::process::{ProcessOptions, ProxyProcess, Readiness};
use host_sim_rig::service_time::ServiceTime;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const HOST_SIM: &str = env!("CARGO_BIN_EXE_host-sim");

fn host_sim(args: &[&str]) -> Output {
    Command::new(HOST_SIM).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn bootstrap(directory: &Path, endpoint: std::net::SocketAddr) -> String {
    let path = directory.join("envoy.yaml");
    let file = host_sim_guest::bootstrap::<&str>(&[], &[("backend", endpoint)]);
    let admin = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}";
    std::fs::write(&path, format!("{admin}{file}")).unwrap();
    path.display().to_string()
}

async fn serve(file: &str, more: &[&str]) -> ProxyProcess {
    let options = ProcessOptions::new(HOST_SIM)
        .args(["serve", "-c", file, "--concurrency", "2"])
        .args(more)
        .ready_when(Readiness::Listening { listeners: 2 });
    ProxyProcess::start(options).await.unwrap()
}

fn terminate(process: &ProxyProcess) {
    let status = Command::new("kill").args(["-TERM", &process.pid().to_string()]).status();
    assert!(status.unwrap().success());
}

async fn exit_code(process: &ProxyProcess) -> Option<i32> {
    loop {
        if let Some(status) = process.exited() {
            return status.code();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn sigterm_answers_the_request_in_flight_and_exits_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = EndpointOptions::named("e1");
    options.service_time = ServiceTime::Fixed(Duration::from_millis(300));
    let endpoint = Endpoint::start(options).await.unwrap();
    let process = serve(&bootstrap(directory.path(), endpoint.address()), &[]).await;
    let address = process.listener("main").unwrap();
    assert!(process.listener("admin").is_some());
    let request = Request::get(format!("http://{address}/"));
    let exchange = Client::new().start(request).await.unwrap();
    while endpoint.counters().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    terminate(&process);
    assert_eq!(exchange.response().await.unwrap().status, 200);
    assert_eq!(exit_code(&process).await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = EndpointOptions::named("e1");
    options.service_time = ServiceTime::Fixed(Duration::from_secs(60));
    let endpoint = Endpoint::start(options).await.unwrap();
    let process = serve(&bootstrap(directory.path(), endpoint.address()), &[]).await;
    let address = process.listener("main").unwrap();
    let client = Client::new().timeout(Duration::from_secs(60));
    let exchange = client.start(Request::get(format!("http://{address}/"))).await.unwrap();
    while endpoint.counters().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    terminate(&process);
    // Refused from the moment on at which the first signal has been taken.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    terminate(&process);
    assert_eq!(exit_code(&process).await, Some(128 + 15));
    assert!(exchange.response().await.is_err());
}

#[test]
fn check_accepts_a_good_file_and_names_every_problem_of_a_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    let good = bootstrap(directory.path(), ([127, 0, 0, 1], 1).into());
    let output = host_sim(&["check", "-c", &good]);
    assert_eq!(text(&output.stdout), format!("{good}: OK\n"));
    assert_eq!(output.status.code(), Some(0));

    let bad = std::fs::read_to_string(&good).unwrap();
    let bad = bad.replace("load_assignment:", "typo: STATIC, load_assignment:");
    let bad = bad.replace("stat_prefix", "stat_prefxi");
    std::fs::write(&good, bad).unwrap();
    let output = host_sim(&["check", "-c", &good]);
    assert_eq!(output.status.code(), Some(1));
    let problems = text(&output.stderr);
    assert!(problems.contains("typo") && problems.contains("stat_prefxi"), "{problems}");
    assert!(problems.contains(&format!("{good}: static_resources.clusters[0]")), "{problems}");
}

#[test]
fn a_file_that_is_not_there_is_an_unusable_argument() {
    for command in ["check", "serve"] {
        let output = host_sim(&[command, "-c", "no/such.yaml"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("cannot read no/such.yaml"));
    }
    assert_eq!(host_sim(&["inspect", "no/such.wasm"]).status.code(), Some(2));
    assert_eq!(host_sim(&["run", "no/such"]).status.code(), Some(2));
    assert_eq!(host_sim(&["serve"]).status.code(), Some(2));
    assert_eq!(host_sim(&["load", "https://127.0.0.1:1/"]).status.code(), Some(2));
}

#[test]
fn run_says_of_each_scenario_whether_it_held_and_ends_accordingly() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = |status: u16| {
        let path = directory.path().join(format!("{status}.yaml")).display().to_string();
        let text = format!(
            "scenario: an endpoint answers {status}\nworkers: [1, 2]\nsuite: {{filters: []}}\n\
             endpoints: {{127.0.0.1:9001: {{}}}}\n\
             steps: [{{send: {{count: 2}}, expect: {{statuses: {{{status}: 2}}}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let (good, bad) = (scenario(200), scenario(404));
    let output = host_sim(&["run", &good]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    assert_eq!(shown.matches("ok   an endpoint answers 200 (").count(), 2, "{shown}");
    assert!(shown.contains("\n2 passed, 0 failed in "), "{shown}");
    let output = host_sim(&["run", &good, &bad, "--format", "tap"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).starts_with("TAP version 13\n1..4\n"), "{output:?}");
    assert_eq!(text(&output.stderr).matches("FAIL an endpoint answers 404 (").count(), 2);
    std::fs::write(&bad, "scenario: [").unwrap();
    assert_eq!(host_sim(&["run", &bad]).status.code(), Some(2));
}

#[test]
fn inspect_prints_a_module_as_text_and_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.wasm").display().to_string();
    let module = "(module (func (export \"proxy_abi_version_0_2_1\")))";
    std::fs::write(&path, wat::parse_str(module).unwrap()).unwrap();
    let output = host_sim(&["inspect", &path]);
    assert!(text(&output.stdout).starts_with("abi       0.2.1\n"), "{output:?}");
    let output = host_sim(&["inspect", &path, "--format", "json"]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["exports"][0], "proxy_abi_version_0_2_1");
}

#[test]
fn certs_makes_the_files_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("certs").display().to_string();
    let output = host_sim(&["certs", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout).lines().count(), 3);
    assert!(Path::new(&path).join("cert.pem").exists());
}

#[tokio::test]
async fn load_reports_what_an_endpoint_answered() {
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let url = endpoint.url("/");
    let output = tokio::task::spawn_blocking(move || {
        host_sim(&["load", &url, "--rate", "200", "--duration", "0.2s", "--format", "json"])
    });
    let output = output.await.unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["succeeded"], endpoint.counters().served);
    assert_eq!(result["share"]["e1"], 1.0);
}

/// A module that reads request headers when the response comes, traps when it cannot, and has one
/// import that nobody has.
fn mistaken(directory: &Path, import: &str) -> String {
    mistaken_then(directory, import, "(if (then (unreachable)))")
}

/// The same; `then` is what it does with the status.
fn mistaken_then(directory: &Path, import: &str, then: &str) -> String {
    let text = format!(
        r#"(module
        (import "env" "proxy_get_header_map_value"
          (func $get (param i32 i32 i32 i32 i32) (result i32)))
        {import}
        (memory (export "memory") 1)
        (data (i32.const 64) ":path")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $get (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 8) (i32.const 12))
          {then}
          (i32.const 0)))"#
    );
    let path = directory.join("mistaken.wasm");
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn lint_names_a_mistake_with_its_rule_and_mend_and_can_be_told_to_allow_it() {
    let directory = tempfile::tempdir().unwrap();
    let module = mistaken(directory.path(), "");
    let output = host_sim(&["lint", &module]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error[trap]") && told.contains("warning[phase-invalid-read]"), "{told}");
    assert!(told.contains("proxy_get_header_map_value(request headers, \":path\")"), "{told}");
    assert!(told.contains("read them in proxy_on_request_headers"), "{told}");
    let allowed = ["lint", &module, "--allow", "trap", "--allow", "phase-invalid-read"];
    let output = host_sim(&allowed);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert_eq!(host_sim(&["lint", &module, "--allow", "nothing"]).status.code(), Some(2));
    let output = host_sim(&["lint", &module, "--format", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["findings"][0]["lint"], "trap");
}

#[tokio::test]
async fn serve_with_lint_logs_a_mistake_once_however_often_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(EndpointOptions::named("e1")).await.unwrap();
    let file = bootstrap(directory.path(), endpoint.address());
    let module = mistaken_then(directory.path(), "", "drop");
    let plugin = format!(
        "http_filters:\n          - {{name: wasm, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm, config: {{name: careless, \
         vm_config: {{code: {{local: {{filename: '{module}'}}}}}}}}}}}}\n"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("http_filters:\n", &plugin)).unwrap();
    let logged = async |more: &[&str]| {
        let process = serve(&file, more).await;
        let url = format!("http://{}/", process.listener("main").unwrap());
        for _ in 0..4 {
            // A connection each: both workers have some.
            assert_eq!(Client::new().get(&url).await.unwrap().status, 200);
        }
        terminate(&process);
        assert_eq!(exit_code(&process).await, Some(0));
        process
    };
    let process = logged(&["--lint"]).await;
    // The last line of what is told.
    let mend = "read them in proxy_on_request_headers";
    process.wait_for_line(mend, Duration::from_secs(10)).await.unwrap();
    let told = process.log();
    let lines: Vec<_> = told.lines().filter(|line| line.contains("[phase-invalid-read]")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    assert!(lines[0].contains("[warning]"), "{told}");
    assert_eq!(told.matches(mend).count(), 1, "{told}");
    assert!(!logged(&[]).await.log().contains("phase-invalid-read"));
}

#[test]
fn lint_searches_folders_and_one_with_nothing_in_it_is_unusable() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().display().to_string();
    let output = host_sim(&["lint", &folder]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is nothing to lint"), "{output:?}");
    mistaken(directory.path(), "");
    let output = host_sim(&["lint", &folder]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("error[trap]"), "{output:?}");
}

#[test]
fn a_folder_without_a_scenario_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().display().to_string();
    for command in ["run", "sweep", "explore"] {
        let output = host_sim(&[command, &folder]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(text(&output.stderr).contains("there is no scenario"), "{command}: {output:?}");
    }
}

#[test]
fn every_subcommand_shows_examples_and_exit_codes() {
    let help = host_sim(&["--help"]);
    let (_, commands) = text(&help.stdout).split_once("Commands:\n").unwrap();
    let names = commands.lines().take_while(|line| !line.is_empty());
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"run") && names.contains(&"conform"), "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let help = host_sim(&[name, "--help"]);
        let help = text(&help.stdout);
        for part in ["Example", "Exit codes: 0 "] {
            assert!(help.contains(part), "host-sim {name} --help lacks {part:?}:\n{help}");
        }
    }
}

#[test]
fn run_explains_a_scenario_that_fails_by_the_plugins_mistake() {
    let directory = tempfile::tempdir().unwrap();
    mistaken(directory.path(), "");
    let scenario = "scenario: requests pass\nsuite: {filters: [{module: mistaken.wasm}]}\n\
        endpoints: {127.0.0.1:9001: {}}\nsteps: [{send: {}, expect: {statuses: {200: 1}}}]\n";
    let file = directory.path().join("s.yaml");
    std::fs::write(&file, scenario).unwrap();
    let output = host_sim(&["run", &file.display().to_string()]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("warning[phase-invalid-read]"), "{told}");
}

#[test]
fn inspect_says_what_envoy_refuses_and_what_was_meant() {
    let directory = tempfile::tempdir().unwrap();
    let module = mistaken(directory.path(), "");
    assert!(text(&host_sim(&["inspect", &module]).stdout).contains("loads it"));
    let import = r#"(import "env" "proxy_get_sharred_data" (func (param i32) (result i32)))"#;
    let module = mistaken(directory.path(), import);
    let output = host_sim(&["inspect", &module]);
    let told = text(&output.stdout);
    assert!(told.contains("refuses it"), "{told}");
    assert!(told.contains("did you mean proxy_get_shared_data?"), "{told}");
}
