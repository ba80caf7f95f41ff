use super::*;

fn policy(retry_on: &str, num_retries: u32) -> RetryPolicy {
    RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries,
        per_try_timeout: None,
        back_off: RetryBackOff::default(),
        previous_hosts: false,
        host_selection_retry_max_attempts: 1,
        retriable_status_codes: vec![429],
        retriable_headers: Vec::new(),
    }
}

fn state(retry_on: &str) -> RetryState {
    RetryState::new(Some(&policy(retry_on, 3)), &Headers::new()).unwrap()
}

fn response(status: &str) -> Headers {
    Headers::from_pairs([(":status", status)])
}

fn retries_status(retry_on: &str, status: &str) -> bool {
    state(retry_on).after_response(&response(status), true, 0) != RetryDecision::No
}

fn retries_reset(retry_on: &str, kind: UpstreamFailureKind) -> bool {
    state(retry_on).after_reset(Reset::Upstream(kind), true, true, 0) != RetryDecision::No
}

#[test]
fn each_condition_names_its_statuses() {
    let cases = [
        ("5xx", "500", true),
        ("5xx", "599", true),
        ("5xx", "499", false),
        ("gateway-error", "502", true),
        ("gateway-error", "504", true),
        ("gateway-error", "500", false),
        ("retriable-4xx", "409", true),
        ("retriable-4xx", "429", false),
        ("retriable-status-codes", "429", true),
        ("retriable-status-codes", "503", false),
        ("connect-failure,reset", "503", false),
        ("connect-failure, 5xx", "503", true),
    ];
    for (retry_on, status, expected) in cases {
        assert_eq!(retries_status(retry_on, status), expected, "{retry_on} {status}");
    }
}

#[test]
fn each_condition_names_its_resets() {
    use UpstreamFailureKind::*;
    let cases = [
        ("5xx", ResetBeforeHeaders, true),
        ("gateway-error", ConnectFailure, true),
        ("reset", ProtocolError, true),
        ("connect-failure", ConnectFailure, true),
        ("connect-failure", ConnectTimeout, true),
        ("connect-failure", ResetBeforeHeaders, false),
        ("refused-stream", RefusedStream, true),
        ("refused-stream", ResetBeforeHeaders, false),
        ("retriable-status-codes", ResetBeforeHeaders, false),
    ];
    for (retry_on, kind, expected) in cases {
        assert_eq!(retries_reset(retry_on, kind), expected, "{retry_on} {kind:?}");
    }
}

#[test]
fn reset_before_request_holds_only_while_nothing_was_sent() {
    let reset = Reset::Upstream(UpstreamFailureKind::ResetBeforeHeaders);
    let mut state = state("reset-before-request");
    assert_eq!(state.after_reset(reset, true, true, 0), RetryDecision::No);
    assert_ne!(state.after_reset(reset, false, true, 0), RetryDecision::No);
}

#[test]
fn a_per_try_timeout_is_a_reset_and_an_overflow_is_never_retried() {
    let mut state = state("reset");
    assert_ne!(state.after_reset(Reset::PerTryTimeout, true, true, 0), RetryDecision::No);
    assert_eq!(state.after_reset(Reset::Overflow, false, true, 0), RetryDecision::No);
}

#[test]
fn an_upstream_rate_limit_is_left_alone_unless_asked_for() {
    let limited = Headers::from_pairs([(":status", "503"), ("x-envoy-ratelimited", "true")]);
    assert_eq!(state("5xx").after_response(&limited, true, 0), RetryDecision::No);
    let mut asked = state("envoy-ratelimited");
    assert_ne!(asked.after_response(&limited, true, 0), RetryDecision::No);
}

#[test]
fn a_grpc_status_in_the_headers_counts() {
    let headers = Headers::from_pairs([(":status", "200"), ("grpc-status", "14")]);
    assert_ne!(state("unavailable").after_response(&headers, true, 0), RetryDecision::No);
    assert_eq!(state("cancelled").after_response(&headers, true, 0), RetryDecision::No);
}

#[test]
fn retries_run_out() {
    let mut state = RetryState::new(Some(&policy("5xx", 1)), &Headers::new()).unwrap();
    let failed = response("503");
    assert!(matches!(state.after_response(&failed, true, 0), RetryDecision::Retry { .. }));
    assert_eq!(state.after_response(&failed, true, 0), RetryDecision::LimitExceeded);
    assert_eq!(state.after_response(&response("200"), true, 0), RetryDecision::No);
}

#[test]
fn a_full_breaker_costs_the_retry_all_the_same() {
    let mut state = state("5xx");
    assert_eq!(state.after_response(&response("503"), false, 0), RetryDecision::Overflow);
    assert_eq!(state.remaining(), 2);
}

#[test]
fn the_back_off_doubles_its_ceiling_up_to_ten_times_the_base() {
    let mut back_off = BackOff::new(RetryBackOff::default());
    // The largest remainder shows the ceiling.
    let ceilings: Vec<u64> = (0..6)
        .map(|_| {
            let ceiling = back_off.ceiling_ms;
            assert_eq!(back_off.next(ceiling - 1), Duration::from_millis(ceiling - 1));
            ceiling
        })
        .collect();
    assert_eq!(ceilings, [25, 50, 100, 200, 250, 250]);
    assert_eq!(BackOff::new(RetryBackOff::default()).next(25), Duration::ZERO);
}

#[test]
fn a_request_adds_conditions_and_replaces_the_number() {
    let request = Headers::from_pairs([("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "7")]);
    let state = RetryState::new(Some(&policy("connect-failure", 1)), &request).unwrap();
    assert_eq!(state.remaining(), 7);
    assert!(state.on.has(RetryOn::SERVER_ERROR) && state.on.has(RetryOn::CONNECT_FAILURE));
    let alone = RetryState::new(None, &request).unwrap();
    assert_eq!(alone.remaining(), 7);
}

#[test]
fn without_conditions_there_is_no_state() {
    assert!(RetryState::new(None, &Headers::new()).is_none());
    assert!(RetryState::new(Some(&policy("", 3)), &Headers::new()).is_none());
}

#[test]
fn every_condition_that_the_bootstrap_accepts_is_known_here() {
    let names: Vec<&str> = CONDITIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, host_sim_bootstrap::RETRY_CONDITIONS);
}
