//! Suites in the service extensions' format.

use crate::{Folder, tells};
use host_sim::{Format, Outcome, RunOptions};
use host_sim_guest::TRACER;

/// Logs phases, adds `foo` to bodies, refuses requests with `x-no` and responses with `x-bad`, adds
/// and removes headers, says a property, the time and its configuration.
const PLUGIN: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32) (call $log {create}))
  (func (export "proxy_on_configure") (param i32) (param $len i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (local.get $len) (i32.const 4096) (i32.const 4100)))
    (call $say_value) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $log {request headers})
    (if (i32.eqz (call $header (i32.const 0) {x-trap} (i32.const 4096) (i32.const 4100)))
      (then (call $log {last words}) (unreachable)))
    (if (i32.eqz (call $header (i32.const 0) {x-pause} (i32.const 4096) (i32.const 4100)))
      (then (return (i32.const 1))))
    (if (i32.eqz (call $header (i32.const 0) {x-no} (i32.const 4096) (i32.const 4100)))
      (then
        (drop (call $send_reply (i32.const 403) {go away} {denied}
          {\01\00\00\00\03\00\00\00\01\00\00\00X-W\00y\00} (i32.const 7)))
        (return (i32.const 1))))
    (if (i32.eqz (call $property {request\00path} (i32.const 4096) (i32.const 4100)))
      (then (call $say_value)))
    (drop (call $add_header (i32.const 0) {Set-It} {1}))
    (drop (call $add_header (i32.const 0) {x-many} {3}))
    (drop (call $remove_header (i32.const 0) {X-Gone}))
    (i32.const 0))
  (func (export "proxy_on_request_body") (param i32) (param $len i32) (param $end i32) (result i32)
    (call $say (local.get $end))
    (drop (call $set_buffer (i32.const 0) (local.get $len) (i32.const 0) {foo})) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $log {response headers})
    (drop (call $now (i32.const 4112)))
    (call $say (i32.wrap_i64 (i64.div_u (i64.load (i32.const 4112)) (i64.const 1000000000))))
    (i32.const 0))
  (func (export "proxy_on_response_body") (param i32) (param $len i32) (param i32) (result i32)
    (drop (call $set_buffer (i32.const 1) (local.get $len) (i32.const 0) {bar})) (i32.const 0))
  (func (export "proxy_on_done") (param i32) (result i32) (call $log {done}) (i32.const 1))
  (func (export "proxy_on_log") (param i32) (call $log {logged}))
  (func (export "proxy_on_delete") (param i32) (call $log {delete}))
"#;

const ENV: &str = r#"
env { wasm_path: "plugin.wasm" config_path: "config" log_level: INFO time_secs: 123456
      log_path: "LOG" num_additional_streams: 3 additional_stream_advance_rate: 2 }
"#;

fn folder() -> Folder {
    let folder = Folder::with([("plugin", PLUGIN), ("tracer", TRACER)]);
    folder.write("config", "the configuration");
    folder.write("body.data", "1234567890");
    folder.write("expected.data", "12foo34foo56foo78foo90foo");
    folder.write(
        "head.data",
        "GET https://example.com:8080/my?x=1 HTTP/1.1\nHost: other\nMy: 1\nMy: 2\n",
    );
    folder
}

fn run(tests: &str) -> (Folder, host_sim::Report) {
    let folder = folder();
    let env = ENV.replace("LOG", &folder.path().join("log").display().to_string());
    let report = folder.run("suite.textpb", &format!("{env}\n{tests}"));
    (folder, report)
}

#[test]
fn a_suite_that_uses_every_field_passes() {
    let (folder, report) = run(r##"
# Lifecycle.
test {
  name: "Lifecycle"
  plugin_init {
    log { exact: "create" }
    log { exact: "the configuration" }
    log { regex: "request.*" invert: true }
  }
  stream_init { log { exact: "create" } log { exact: "the configuration" invert: true } }
  stream_destroy { log { exact: "done" } log { exact: "delete" } log { exact: "logged" invert: true } }
}
test {
  name: "Headers"
  properties { path: "request.path" value: "/from/property" }
  request_headers {
    input {
      header { key: ":path" value: "/" }
      header { key: "X-Gone" value: "x" }
      header { key: "X-Many" value: "1" }
      header { key: "x-many" value: "2" }
    }
    result {
      has_header { key: "set-it" value: "1" }
      has_header { key: "X-MANY" value: "1, 2, 3" }
      no_header { key: "x-gone" }
      headers { exact: "Set-It: 1" }
      headers { regex: "X-Many: .*3" }
      headers { regex: "x-gone.*" invert: true }
      log { exact: "request headers" }
      log { exact: "/from/property" }
      log { exact: "create" invert: true }
    }
  }
  response_headers {
    input { content: "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" }
    result {
      has_header { key: ":status" value: "200" }
      has_header { key: "content-type" value: "text/plain" }
      log { exact: "123456" }
    }
  }
}
test {
  name: "HeadersFromFile"
  request_headers {
    input { file: "head.data" }
    result {
      has_header { key: ":authority" value: "example.com:8080" }
      has_header { key: ":scheme" value: "https" }
      has_header { key: "my" value: "1, 2" }
    }
  }
}
test {
  name: "Immediate"
  request_headers {
    input { header { key: "x-no" value: "1" } }
    result {
      immediate { http_status: 403 grpc_status: 7 details: "go away" }
      body { exact: "denied" }
      has_header { key: "x-w" value: "y" }
      headers { exact: "X-W: y" }
      no_header { key: "x-no" }
    }
  }
  # Nothing is called after a reply.
  response_headers { result { no_header { key: ":status" } log { regex: ".*" invert: true } } }
}
test {
  name: "Chunks"
  num_chunks: 5
  benchmark: true
  request_body { input { file: "body.data" } result { body { file: "expected.data" } log { exact: "1" } } }
  response_body { input { content: "0987654321" } result { body { exact: "09bar87bar65bar43bar21bar" } } }
}
test {
  name: "ChunkSize"
  chunk_size: 4
  request_body { input { content: "1234567890" } result { body { regex: "1234foo5678foo\\d+foo" } } }
}
test {
  name: "SeveralInvocations"
  request_body { input { content: "12" } result { body { exact: "12foo" } } }
  request_body { input { content: "34" } result { body { exact: "34foo" } } }
}
"##);
    assert_eq!(report.exit_code(), 0, "\n{}", report.render(Format::Text));
    assert_eq!(report.outcomes.len(), 7);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    tells(
        &log,
        &["--- Starting test: Lifecycle ---\ncreate\nthe configuration\ncreate\n", "denied"][..1],
    );
    let chunks: &Outcome = &report.outcomes[4];
    assert_eq!(chunks.notes.len(), 11, "{:?}", chunks.notes);
    assert!(chunks.notes[0].starts_with("request_body: "), "{:?}", chunks.notes);
    assert!(chunks.notes[10].starts_with("memory: "), "{:?}", chunks.notes);
}

#[test]
fn what_a_suite_expects_in_vain_is_told_by_phase() {
    let (_, report) = run(r##"
test {
  name: "All"
  plugin_init { log { exact: "nothing of the kind" } }
  request_headers {
    input { header { key: "a" value: "b" } }
    result {
      has_header { key: "a" value: "c" }
      has_header { key: "missing" value: "" }
      no_header { key: "a" }
      headers { regex: "b: .*" }
      immediate { http_status: 200 }
    }
  }
  request_body { input { content: "x" } result { body { exact: "y" } body { regex: "x.*" invert: true } } }
  response_body { result { immediate { } } }
}
test {
  name: "Refused"
  request_headers {
    input { header { key: "x-no" value: "" } }
    result { immediate { http_status: 404 grpc_status: 5 details: "x" } }
  }
}
test { name: "Unexpected" request_headers { input { header { key: "x-no" value: "" } } } }
test { name: "Pauses" request_headers { input { header { key: "x-pause" value: "" } } } }
test { name: "Traps" request_headers { input { header { key: "x-trap" value: "" } } } }
"##);
    assert_eq!(report.exit_code(), 1);
    tells(
        &report.render(Format::Text),
        &[
            "FAIL All",
            "[plugin_init] expected a log that is \"nothing of the kind\", got:",
            "[request_headers] header 'a': expected \"c\", got \"b\"",
            "[request_headers] no header 'missing'; there are: a, set-it, x-many",
            "[request_headers] header 'a': expected none, got \"b\"",
            "[request_headers] expected a header that is /b: .*/, got:",
            "[request_headers] expected an immediate reply, got none",
            "[request_body] body: expected \"y\", got \"xfoo\"",
            "[request_body] expected no body that is /x.*/",
            "[response_body] expected an immediate reply, got none",
            "[request_headers] HTTP status: expected 404, got 403",
            "[request_headers] gRPC status: expected 5, got 7",
            "[request_headers] details: expected \"x\", got \"go_away\"",
            "[request_headers] expected no immediate reply, got one with status 403",
            "[request_headers] expected it to continue, it pauses",
            "[request_headers] the VM failed: Function: proxy_on_request_headers failed",
            "last words",
            "0 passed, 5 failed",
        ],
    );
}

#[test]
fn module_and_configuration_can_be_named_by_the_caller() {
    let folder = folder();
    let suite = folder
        .write("suite.textpb", "test { name: 'Other' plugin_init { log { exact: 'vm_start' } } }");
    let options = RunOptions {
        plugin: Some(folder.path().join("tracer.wasm")),
        plugin_config: Some(folder.path().join("config")),
        ..RunOptions::default()
    };
    let report = host_sim::run(&[suite], &options, |_| {}).unwrap();
    assert_eq!(report.exit_code(), 0, "{}", report.render(Format::Text));
}
