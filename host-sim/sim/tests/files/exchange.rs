//! Requests and replies: chunks, trailers, repeated headers, clients that leave.

use crate::{Folder, tells};
use host_sim_guest::TRACER;

#[test]
fn what_was_sent_arrives_and_what_was_answered_comes_back() {
    Folder::with([("tracer", TRACER)]).holds(
        r#"
scenario: chunks, trailers and repeated headers both ways
workers: [1, 2]
suite: {filters: [{module: tracer.wasm, name: tracer}]}
endpoints:
  127.0.0.1:9001:
    answer:
      headers: {x-answer: ['1', '2']}
      body: [hello, {text: ' ', after: 20ms}, {repeat: ab, times: 2, after: 30ms}]
      trailers: {x-sum: ok}
steps:
- name: a slow upload
  send:
    method: POST
    path: /up?load=1
    authority: example.com
    headers: {x-many: [a, b], x-one: c}
    body: [one, {hex: '00 ff', after: 10ms}, {json: {k: [1]}, after: 5ms}]
    trailers: {x-after: all}
    from: 192.0.2.7
  expect:
    statuses: {200: 1}
    reply:
      status: 200
      headers: {x-answer: '2'}
      no_headers: [x-nothing]
      body: hello abab
      trailers: {x-sum: {regex: '^ok$'}}
      no_trailers: [x-other]
      reset: false
      complete: true
      milliseconds: 66..67
    upstream:
    - endpoint: 127.0.0.1:9001
      method: POST
      path: {contains: load}
      headers:
        x-many: b
        x-one: c
        ':authority': example.com
        x-forwarded-proto: http
      no_headers: [x-nothing]
      body: {hex: '6f6e65 00ff 7b226b223a5b315d7d'}
      trailers: {x-after: all}
      count: 1
    callbacks: {proxy_on_request_body: 3, proxy_on_response_body: 3, proxy_on_log: 1}
    callback_order:
    - proxy_on_request_headers
    - 'tracer: proxy_on_request_trailers'
    - proxy_on_response_headers
    - proxy_on_done
    log: [request_headers]
    log_order: [configure, request_headers, response_body, 'log$', done, delete]
    log_count: {request_body: 3}
    no_log: [panicked]
- expect: {unfinished: 0, received: {'127.0.0.1:9001': '!= 0'}}
"#,
    );
}

#[test]
fn replies_are_told_apart_by_request_and_by_name() {
    Folder::with([]).holds(
        r#"
scenario: a script answers one request after the other
suite: {filters: []}
endpoints:
  127.0.0.1:9001: {script: [{status: 201, body: first}, {status: 404}]}
steps:
- send: {name: early, count: 3, every: 5ms}
  expect:
    replies: [{status: 201, body: first}, {status: 404}, {status: 200, body: ''}]
- send: {abort_after: 5ms, path: /slow}
  endpoints: {127.0.0.1:9001: {paths: {/slow: {latency: 1s}}}}
  expect:
    reply: {status: 0, complete: true}
    statuses: {0: 1}
- send: {path: /slow, wait: false}
  expect: {unfinished: 1, reply: {complete: false}}
- advance: 2s
- expect: {unfinished: 0, reply: {of: early, status: '200..404'}}
"#,
    );
}

#[test]
fn what_differs_is_told_with_what_was_expected_and_where_texts_part() {
    let text = Folder::with([]).fails(
        r#"
scenario: everything is wrong
suite: {filters: []}
endpoints:
  127.0.0.1:9001: {answer: {status: 404, headers: {x-a: ['1', '2']}, body: "one\ntwo\nthree\n"}}
steps:
- name: the first
  send: {path: /here}
  expect:
    reply:
      status: 200
      headers: {x-a: '3', x-b: '4'}
      no_headers: [x-a]
      body: "one\n2\nthree\n"
      trailers: {x-sum: ok}
      reset: true
      complete: false
      milliseconds: '>= 100'
    replies: [{}, {}]
    upstream: [{path: /there, headers: {x-c: d}}]
    unfinished: 1
    callbacks: {proxy_on_log: 1}
    callback_order: [proxy_on_log]
    hostcalls: {any: 1}
    calls: [{kind: http}]
    log_order: [nobody said it]
    log_count: {nobody: 1}
    access_log: [nobody]
    shared_data: {weir: {keys: 1, growth: 1, values: {k: v}}}
"#,
    );
    tells(
        &text,
        &[
            "step 1, the first (at 1ms): reply: status: expected 200, got 404 with the body",
            "reply: header x-a: none of its values fits: [\"1\", \"2\"]",
            "reply: header x-b: expected one, there are only: ",
            "reply: header x-a: expected none, got \"1\"",
            "reply: body: differs from line 2 on (- expected, + got):",
            "- 2",
            "+ two",
            "reply: trailer x-sum: expected one",
            "reply: reset: expected true, got false",
            "reply: complete: expected false, got true",
            "reply: milliseconds: expected at least 100, got 1",
            "reply 2: expected one, only 1 requests were sent",
            "requests like [path, x-c]: expected at least 1, got 0",
            "closest, /here at 127.0.0.1:9001: path: expected \"/there\", got \"/here\"",
            "requests without a complete response: expected 1, got 0",
            "callbacks proxy_on_log: expected 1, got 0",
            "callback order: number 1 (proxy_on_log) did not come",
            "hostcalls any: expected 1, got 0",
            "Http calls that fit: expected at least 1, got 0 of 0 made",
            "log order: no line after those before it matches number 1, /nobody said it/",
            "log lines that match /nobody/: expected 1, got 0",
            "access log: no line matches /nobody/; it is empty",
            "shared data of \"weir\": keys: expected 1, got 0",
            "shared data of \"weir\": keys added: expected 1, got 0",
            "shared data of \"weir\": no key k",
        ],
    );
}

#[test]
fn what_is_sent_together_has_replies_and_names_too() {
    Folder::with([("tracer", TRACER)]).holds(
        r#"
scenario: two at one moment, and what became of one of them later
suite: {filters: [{module: tracer.wasm, name: tracer}]}
endpoints: {127.0.0.1:9001: {paths: {/b: {status: 404}}}}
steps:
- together: [{path: /a, name: a}, {path: /b, name: b}]
  expect: {replies: [{status: 200}, {status: 404}], reply: {complete: true}}
- advance: 1s
  expect: {reply: {of: b, status: 404}}
"#,
    );
}

/// Logs what it reads of the client's connection.
const CONNECTION: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32))
  (func $read (param i32 i32)
    (i32.store (i32.const 4100) (i32.const 0))
    (if (call $property (local.get 0) (local.get 1) (i32.const 4096) (i32.const 4100))
      (then (call $log {none})) (else (call $say_value))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $read {connection\00requested_server_name})
    (call $read {connection\00tls_version})
    (call $read {connection\00subject_local_certificate})
    (call $read {connection\00uri_san_peer_certificate})
    (i32.const 0))
"#;

#[test]
fn clients_come_over_tls_with_certificates() {
    Folder::with([("connection", CONNECTION)]).holds(
        r"
scenario: what a plugin knows of the client's connection
suite: {filters: [{module: connection.wasm}]}
endpoints: {127.0.0.1:9001: {}}
steps:
- send:
    tls:
      server_name: shop.test
      version: TLSv1.2
      local: {subject: CN=shop}
      peer: {subject: CN=alice, uri_san: 'spiffe://weir/alice'}
  expect:
    upstream: [{headers: {x-forwarded-proto: https}}]
    log_order: [': shop.test$', TLSv1.2, CN=shop, 'spiffe://weir/alice']
- {send: {tls: mail.test}, expect: {log_order: [': mail.test$', TLSv1.3, ': $', none]}}
- {send: {}, expect: {log_order: [': $', none, none, none]}}
",
    );
}
