//! Shared data, metrics, configuration updates, the clock.

use crate::{Folder, tells};

/// Adds a key a request, says its configuration and the time.
const KEEPER: &str = r#"
  (func (export "proxy_on_configure") (param i32) (param $len i32) (result i32)
    (if (i32.eqz (local.get $len)) (then (return (i32.const 0))))
    (drop (call $buffer (i32.const 7) (i32.const 0) (local.get $len) (i32.const 4096) (i32.const 4100)))
    (call $say_value)
    (drop (call $define (i32.const 0) {seen_total} (i32.const 4104)))
    (i32.const 1))
  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (drop (call $header (i32.const 0) {x-key} (i32.const 4096) (i32.const 4100)))
    (drop (call $set_shared (i32.load (i32.const 4096)) (i32.load (i32.const 4100)) {value} (i32.const 0)))
    (drop (call $increment (i32.load (i32.const 4104)) (i64.const 1)))
    (drop (call $now (i32.const 4112)))
    (call $say (i32.wrap_i64 (i64.div_u (i64.load (i32.const 4112)) (i64.const 1000000000))))
    (i32.const 0))
"#;

#[test]
fn shared_data_is_looked_at_and_written() {
    let scenario = r#"
scenario: keys grow with clients
suite: {filters: [{module: keeper.wasm, vm_id: own, configuration: first}]}
endpoints: {127.0.0.1:9001: {}}
steps:
- write_shared_data: {own: {old: {hex: 'ff'}}}
  set_shared_data: {other: text}
- send: {headers: {x-key: a}}
  expect:
    shared_keys: 2
    metrics: {seen_total: 1}
    shared_data:
      own: {keys: 2, growth: 1, values: {a: value, old: {hex: 'ff'}}, absent: [b]}
      weir: {keys: 1, values: {other: text}}
- send: {headers: {x-key: b}}
  expect: {shared_data: {own: {growth: '<= 1'}}}
- corrupt_shared_data: garbage
- expect: {shared_data: {own: {values: {a: garbage, b: garbage}}}}
"#;
    let folder = Folder::with([("keeper", KEEPER)]);
    folder.holds(scenario);
    let text = folder.fails(&scenario.replace("values: {a: value, old", "values: {a: other, old"));
    tells(&text, &["shared data of \"own\", key a: expected \"other\", got \"value\""]);
}

#[test]
fn a_plugin_gets_another_configuration_and_a_bad_one_changes_nothing() {
    let folder = Folder::with([("keeper", KEEPER)]);
    let scenario = r#"
scenario: an update, and one that is rejected
workers: [1, 3]
suite: {filters: [{module: keeper.wasm, name: keeper, configuration: first}]}
endpoints: {127.0.0.1:9001: {}}
steps:
- expect: {log: [first], no_log: [second]}
- update: {keeper: {second: true}}
  expect: {log: ['second']}
- update: {keeper: ''}
  expect: {update_rejected: keeper}
- send: {headers: {x-key: a}}
  expect: {statuses: {200: 1}}
"#;
    folder.holds(scenario);
    let text = folder.fails(&scenario.replace("expect: {update_rejected: keeper}", "advance: 1s"));
    tells(&text, &["step 3", "rejected: update of keeper"]);
    let text = folder.fails(&scenario.replace("{keeper: ''}", "{keeper: third}"));
    tells(&text, &["expected to be rejected with /keeper/, was accepted"]);
}

#[test]
fn the_clock_that_plugins_read_jumps() {
    Folder::with([("keeper", KEEPER)]).holds(
        r#"
scenario: an hour forward and half an hour back
suite: {filters: [{module: keeper.wasm, configuration: x}]}
endpoints: {127.0.0.1:9001: {}}
steps:
- send: {headers: {x-key: a}}
  expect: {log: [' 1767225600$']}
- step_clock: 1h
  send: {headers: {x-key: a}}
  expect: {log: [' 1767229200$']}
- step_clock: -30m
  send: {headers: {x-key: a}}
  expect: {log: [' 1767227400$']}
"#,
    );
}
