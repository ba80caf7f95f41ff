//! Bounds on instructions and memory.

use crate::{Folder, tells};

/// Grows its memory by a page a request.
const GROWER: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (memory.grow (i32.const 1))) (i32.const 0))
"#;

#[test]
fn fuel_and_memory_have_bounds() {
    let folder = Folder::with([("grower", GROWER)]);
    let scenario = |expect: &str| {
        format!(
            "
scenario: costs
suite: {{filters: [{{module: grower.wasm, name: grower}}]}}
endpoints: {{127.0.0.1:9001: {{}}}}
steps:
- send: {{}}
- send: {{count: 2}}
  expect: {expect}
"
        )
    };
    // One worker and the main thread with four pages each, and three requests.
    folder.holds(&scenario(
        "{fuel: 2..100, fuel_per_callback: '<= 50', memory: 720896, memory_growth: 131072}",
    ));
    let text = folder
        .fails(&scenario("{fuel: 0, fuel_per_callback: 0, memory: '<= 1', memory_growth: 0}"));
    tells(
        &text,
        &[
            "fuel: expected 0, got",
            "in proxy_on_request_headers of grower",
            "memory: expected at most 1, got 720896",
            "memory growth: expected 0, got 131072",
        ],
    );
}
