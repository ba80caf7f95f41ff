//! Faults at the n-th hostcall or callback.

use crate::{Folder, tells};

/// Writes shared data on every request and logs the status; ticks every second.
const WRITER: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (call $log {tick}))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $say (call $set_shared {k} {v} (i32.const 0))) (i32.const 0))
"#;

#[test]
fn the_nth_hostcall_answers_what_it_is_told_and_the_host_does_nothing() {
    Folder::with([("writer", WRITER)]).holds(
        r#"
scenario: the second write loses its race
suite: {filters: [{module: writer.wasm, name: writer}]}
endpoints: {127.0.0.1:9001: {}}
faults:
- {hostcall: proxy_set_shared_data, nth: 2, answer: cas_mismatch}
- {hostcall: any, within: proxy_on_tick, plugin: writer, worker: 0, answer: trap}
steps:
- send: {count: 3, every: 1ms}
  expect:
    log_order: [' 0$', ' 8$', ' 0$']
    faults_struck: 1
    hostcalls: {proxy_set_shared_data: 3, any: '>= 6'}
    shared_data: {weir: {keys: 1, growth: 1, values: {k: v, }, absent: [x]}}
- advance: 1500ms
  expect: {faults_struck: 2, traps: 1, log: ['injected fault: hostcall of any name in proxy_on_tick']}
- send: {}
  expect: {statuses: {503: 1}}
"#,
    );
}

#[test]
fn the_nth_callback_traps_and_the_failure_policy_decides() {
    let scenario = |policy: &str, statuses: &str| {
        format!(
            "
scenario: a trap with {policy}
suite: {{filters: [{{module: writer.wasm, name: writer, failure_policy: {policy}}}]}}
endpoints: {{127.0.0.1:9001: {{}}}}
steps:
- faults: [{{trap: proxy_on_request_headers, nth: 2}}]
  send: {{count: 4, every: 100ms}}
  expect:
    replies: [{statuses}]
    traps: 1
    log: [injected fault]
- clear_faults: true
  advance: 2s
  send: {{}}
  expect: {{faults_struck: 0}}
"
        )
    };
    let folder = Folder::with([("writer", WRITER)]);
    for (policy, statuses) in [
        ("FAIL_CLOSED", "{status: 200}, {status: 503}, {status: 503}, {status: 503}"),
        ("FAIL_OPEN", "{status: 200}, {status: 503}, {status: 200}, {status: 200}"),
    ] {
        folder.holds(&scenario(policy, statuses));
    }
}

#[test]
fn a_fault_that_never_struck_is_named() {
    let text = Folder::with([("writer", WRITER)]).fails(
        "
scenario: nothing was struck
suite: {filters: [{module: writer.wasm}]}
endpoints: {127.0.0.1:9001: {}}
faults: [{hostcall: proxy_http_call, answer: internal_failure, nth: 4}]
steps: [{send: {}, expect: {faults_struck: 1}}]
",
    );
    tells(
        &text,
        &[
            "faults that struck: expected 1, got 0",
            "did not strike: hostcall proxy_http_call, number 4",
        ],
    );
}
