use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn shell(script: &str) -> ProcessOptions {
    ProcessOptions::new("/bin/sh").args(["-c", script]).ready_timeout(LIMIT)
}

fn is_running(pid: u32) -> bool {
    // A process that was waited for has no entry left.
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[tokio::test]
async fn listeners_are_read_from_the_output() {
    let script = "echo listening ingress 127.0.0.1:1; echo listening admin [::1]:2; exec cat -";
    let script = script.replace("cat -", "sleep 60");
    let options = shell(&script).ready_when(Readiness::Listening { listeners: 2 });
    let process = ProxyProcess::start(options).await.unwrap();
    assert_eq!(process.listener("ingress"), Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(process.listener("admin"), Some("[::1]:2".parse().unwrap()));
    assert_eq!(process.listener("other"), None);
    assert!(process.cpu_time().is_some());
}

#[tokio::test]
async fn a_line_on_stderr_counts_as_ready() {
    let options = shell("echo starting main dispatch loop >&2; exec sleep 60")
        .ready_when(Readiness::Line("main dispatch loop".into()));
    let process = ProxyProcess::start(options).await.unwrap();
    assert!(process.log().contains("starting main dispatch loop"));
    assert_eq!(process.exited(), None);
}

#[tokio::test]
async fn a_child_that_exits_early_is_an_error_with_its_words() {
    let error = ProxyProcess::start(shell("echo no such file >&2; exit 3")).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("no such file") && text.contains("exit status: 3"), "{text}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = ProxyProcess::start(ProcessOptions::new("/no/such/proxy")).await.unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/proxy"));
}

#[tokio::test]
async fn dropping_the_handle_ends_the_child() {
    let process = ProxyProcess::start(shell("echo listening a 127.0.0.1:1; exec sleep 60"));
    let process = process.await.unwrap();
    let pid = process.pid();
    assert!(is_running(pid));
    tokio::task::spawn_blocking(|| drop(process)).await.unwrap();
    assert!(!is_running(pid));
}

#[tokio::test]
async fn a_child_that_drains_on_sigterm_gives_its_own_status() {
    let script = "trap 'echo drained; exit 7' TERM; echo listening a 127.0.0.1:1; \
                  while :; do sleep 0.01; done";
    let process = ProxyProcess::start(shell(script)).await.unwrap();
    let status = process.terminate(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(7));
}

#[tokio::test]
async fn a_child_deaf_to_sigterm_is_killed_in_the_end() {
    let script = "trap '' TERM; echo listening a 127.0.0.1:1; while :; do sleep 0.01; done";
    let process = ProxyProcess::start(shell(script)).await.unwrap();
    let pid = process.pid();
    let error = process.terminate(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.to_string().contains("after SIGTERM"), "{error}");
    assert!(!is_running(pid));
}

#[tokio::test]
async fn an_admin_endpoint_is_asked_until_it_is_ready() {
    // Its health check on another path would not do: /ready is answered as work, with 200.
    let endpoint = crate::endpoint::EndpointOptions::named("admin");
    let endpoint = crate::endpoint::Endpoint::start(endpoint).await.unwrap();
    let options = shell("exec sleep 60").ready_when(Readiness::Admin(endpoint.address()));
    ProxyProcess::start(options).await.unwrap();
    assert_eq!(endpoint.requests()[0].path, "/ready");
}

#[tokio::test]
async fn later_lines_can_be_waited_for() {
    let script = "trap 'echo draining' TERM; echo listening a 127.0.0.1:1; \
                  while :; do sleep 0.01; done";
    let process = ProxyProcess::start(shell(script)).await.unwrap();
    process.request_stop();
    assert_eq!(process.wait_for_line("drain", LIMIT).await.unwrap(), "draining");
    process.kill();
    assert!(process.exited().is_some());
}
